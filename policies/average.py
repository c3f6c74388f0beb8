"""A running mean of an actor's weights: less restless than the weights themselves, which each update throws about.

Source: Polyak and Juditsky, "Acceleration of stochastic approximation by averaging", 1992; with a decay, as it is done
since.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from policies.layers import copy_weights

PREFIX = "average/"


class Average:
    """mean <- decay mean + (1 - decay) weights at each update; at first it is the weights."""

    def __init__(self, layers: Sequence[nn.Linear], decay: float) -> None:
        self._layers, self._decay = list(layers), decay
        self.layers = [nn.Linear(x.in_features, x.out_features) for x in self._layers]
        """With the mean of each layer's weights."""
        self.begin()

    def begin(self) -> None:
        """Forget what was: the mean is what the weights are."""
        for mean, layer in zip(self.layers, self._layers, strict=True):
            copy_weights(layer, mean)

    @torch.no_grad()
    def update(self) -> None:
        """Take the weights as they are into the mean."""
        for mean, layer in zip(self.layers, self._layers, strict=True):
            for mine, theirs in ((mean.weight, layer.weight), (mean.bias, layer.bias)):
                mine.lerp_(theirs, 1.0 - self._decay)

    def state(self) -> dict[str, Tensor]:
        """The means as named tensors, for a checkpoint."""
        return {
            f"{PREFIX}{i}.{name}": value.detach().clone()
            for i, layer in enumerate(self.layers)
            for name, value in layer.state_dict().items()
        }

    def restore(self, named: Mapping[str, Tensor]) -> None:
        """Go on from a state()."""
        for i, layer in enumerate(self.layers):
            layer.load_state_dict({name: named[f"{PREFIX}{i}.{name}"] for name in layer.state_dict()})
