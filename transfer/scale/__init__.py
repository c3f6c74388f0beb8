"""The stages on more than one machine: what Ray and torchrun need from us, and nothing that they do themselves."""
