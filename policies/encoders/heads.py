"""What the context is trained on: predicting the next states, and the physical parameters with their uncertainty.

Only training uses these; they are saved beside the encoder so that it can later be adapted to real windows, and
never exported.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from policies import tensors
from policies.encoders.physics import EncoderCard
from policies.network import Scale, mlp

FILE = "heads.safetensors"
LAGS = 4
"""Actions before the present one that the prediction head sees: a delay of up to 40 ms at 100 Hz."""
STRIDE = 4
"""Control steps that one step of the prediction advances."""


class Predictor(nn.Module):
    """Open-loop prediction: observation, actions and context -> the observations that follow.

    Residual: each step adds a change to the last state. Only measured components are predicted.
    """

    step: Tensor
    spread: Tensor

    def __init__(self, card: EncoderCard, horizon: int, use_context: bool = True) -> None:
        super().__init__()
        self.measured = card.measured
        self.use_context = use_context
        states = len(self.measured)
        self.scale = Scale(states)
        self.register_buffer("step", torch.ones(states))  # deviation of one step's change, scaled
        self.register_buffer("spread", torch.ones(horizon // STRIDE, states))  # of the change since the present
        inputs = states + (LAGS + STRIDE) * len(card.actuators) + (card.context if use_context else 0)
        self.net = mlp(inputs, card.predictor, states, nn.ReLU)

    def forward(self, observation: Tensor, earlier: Tensor, actions: Tensor, context: Tensor) -> Tensor:
        """observation (B, D), earlier actions (B, LAGS, A), actions (B, F, A), context (B, Z).

        Returns the scaled states (B, F / STRIDE, S) of the measured components after every STRIDE actions.
        """
        state = self.scale(observation[:, self.measured])
        line = torch.cat([earlier, actions], dim=1)
        known = [context] if self.use_context else []
        states = []
        for j in range(0, actions.shape[1] // STRIDE * STRIDE, STRIDE):
            acting = line[:, j : j + LAGS + STRIDE].flatten(1)
            state = state + self.step * self.net(torch.cat([state, acting, *known], dim=1))
            states.append(state)
        return torch.stack(states, dim=1)

    def unexplained(self, predicted: Tensor, future: Tensor) -> Tensor:
        """Squared error over the variance of the change: 1 is what holding the last state would give.

        predicted (B, F / STRIDE, S) by forward(); future (B, F, D) observations as measured.
        """
        wanted = self.scale(self.at_steps(future)[..., self.measured])
        return ((predicted - wanted) / self.spread).square()

    @staticmethod
    def at_steps(future: Any) -> Any:
        """Of the observations (B, F, D) after each action, array or tensor, those that are predicted."""
        return future[:, STRIDE - 1 :: STRIDE]


class ParameterHead(nn.Module):
    """Context -> mean and log variance of each physical parameter, in scaled units."""

    def __init__(self, card: EncoderCard) -> None:
        super().__init__()
        self.scale = Scale(max(len(card.parameters), 1))
        self.net = mlp(card.context, (32,), 2 * max(len(card.parameters), 1), nn.ReLU)

    def forward(self, context: Tensor) -> tuple[Tensor, Tensor]:
        mean, log_variance = self.net(context).chunk(2, dim=1)
        return mean, log_variance.clamp(-8.0, 4.0)

    def loss(self, context: Tensor, parameters: Tensor) -> Tensor:
        """Gaussian negative log likelihood, a mean over windows and parameters (B, P)."""
        mean, log_variance = self(context)
        return 0.5 * (log_variance + (self.scale(parameters) - mean).square() * torch.exp(-log_variance)).mean()


class Heads(nn.Module):
    """All of an encoder's heads: with context, without it (the baseline), and the parameters."""

    def __init__(self, card: EncoderCard, horizon: int) -> None:
        super().__init__()
        self.predictor = Predictor(card, horizon)
        self.blind = Predictor(card, horizon, use_context=False)
        self.parameters_head = ParameterHead(card)

    def save(self, folder: Path) -> None:
        tensors.save(folder / FILE, dict(self.state_dict()))

    @classmethod
    def load(cls, folder: Path, card: EncoderCard) -> Heads:
        """Read the heads of an encoder; the horizon is told by the length of the saved spread."""
        named = tensors.load(Path(folder) / FILE)
        heads = cls(card, len(named["predictor.spread"]) * STRIDE)
        tensors.load_into(heads, Path(folder) / FILE)
        return heads
