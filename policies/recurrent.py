"""An LSTM whose state is explicit: an input and an output of the exported file.

Written out as two linear layers, so that torch, ONNX and Stable-Baselines3's nn.LSTM (of one layer, from whose weights
it is filled) compute the same.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

LSTM = "state_lstm"
"""The exported file's input; its output is `state_lstm_next`."""


class Recurrent(nn.Module):
    """(B, inputs) and state (B, 2, width) -> (B, width) and the next state; the state is hidden and cell."""

    def __init__(self, inputs: int, width: int) -> None:
        super().__init__()
        self.width = width
        self.now, self.before = nn.Linear(inputs, 4 * width), nn.Linear(width, 4 * width)

    def blank(self, n: int) -> dict[str, npt.NDArray[Any]]:
        """The state of n robots at the start of an episode, by the name of its input."""
        return {LSTM: np.zeros((n, 2, self.width), np.float32)}

    def forward(self, x: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        """One step. Source: Hochreiter and Schmidhuber, Neural Computation 9(8), 1997; gates in torch's order."""
        enter, forget, cell, leave = (self.now(x) + self.before(state[:, 0])).chunk(4, dim=1)
        kept = torch.sigmoid(forget) * state[:, 1] + torch.sigmoid(enter) * torch.tanh(cell)
        hidden = torch.sigmoid(leave) * torch.tanh(kept)
        return hidden, torch.stack([hidden, kept], dim=1)

    def copy_from(self, lstm: nn.LSTM) -> None:
        """Take over the weights of a one-layer nn.LSTM."""
        weights = dict(lstm.named_parameters())
        with torch.no_grad():
            for mine, kind in ((self.now, "ih"), (self.before, "hh")):
                mine.weight.copy_(weights[f"weight_{kind}_l0"])
                mine.bias.copy_(weights[f"bias_{kind}_l0"])

    def copy_to(self, lstm: nn.LSTM) -> None:
        """Give the weights to a one-layer nn.LSTM."""
        weights = dict(lstm.named_parameters())
        with torch.no_grad():
            for mine, kind in ((self.now, "ih"), (self.before, "hh")):
                weights[f"weight_{kind}_l0"].copy_(mine.weight)
                weights[f"bias_{kind}_l0"].copy_(mine.bias)
