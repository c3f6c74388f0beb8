"""What the context is trained on: predicting the next states, and the physical parameters with their uncertainty.

Only training uses these; they are saved beside the encoder so that it can later be adapted to real windows, and
never exported.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from policies import tensors
from policies.encoders.physics import EncoderCard
from policies.encoders.windows import WindowData
from policies.network import Scale, mlp

FILE = "heads.safetensors"
LAGS = 4
"""Actions before the present one that the prediction head sees: a delay of up to 40 ms at 100 Hz."""
STRIDE = 4
"""Control steps that one step of the prediction advances."""


class Predictor(nn.Module):
    """Open-loop prediction: observation, actions and context -> the observations that follow.

    Residual: each step adds a change to what is known without it, which is the last state, or what a simulator
    foretells (`base`) where the encoder's card names one. Only measured components are predicted.
    """

    step: Tensor
    spread: Tensor
    motion: Tensor

    def __init__(self, card: EncoderCard, horizon: int, use_context: bool = True) -> None:
        super().__init__()
        self.measured = card.measured
        self.use_context, self.use_base = use_context, card.base is not None
        states = len(self.measured)
        self.scale = Scale(states)
        self.register_buffer("step", torch.ones(states))  # deviation of one step's residual, scaled
        self.register_buffer("spread", torch.ones(horizon // STRIDE, states))  # of the residual since the present
        self.register_buffer("motion", torch.ones(states))  # of the base's own change in a step
        inputs = states + (LAGS + STRIDE) * len(card.actuators) + (card.context if use_context else 0)
        self.net = mlp(inputs + (states if self.use_base else 0), card.predictor, states, nn.ReLU)

    def forward(
        self, observation: Tensor, earlier: Tensor, actions: Tensor, context: Tensor, base: Tensor | None = None
    ) -> Tensor:
        """observation (B, D), earlier actions (B, LAGS, A), actions (B, F, A), context (B, Z), base (B, F, D).

        Returns the scaled states (B, F / STRIDE, S) of the measured components after every STRIDE actions.
        ValueError when the card names a simulator and there is no base, or the other way round.
        """
        if self.use_base != (base is not None):
            raise ValueError(
                "predictions that stand on a simulator need the windows' base, and others have no use for it"
            )
        state = self.scale(observation[:, self.measured])
        foretold = None if base is None else self.scale(self.at_steps(base)[..., self.measured])
        line = torch.cat([earlier, actions], dim=1)
        known = [context] if self.use_context else []
        residual, before, states = torch.zeros_like(state), state, []
        for j in range(actions.shape[1] // STRIDE):
            acting = line[:, STRIDE * j : STRIDE * j + LAGS + STRIDE].flatten(1)
            after = before if foretold is None else foretold[:, j]
            moved = [] if foretold is None else [(after - before) / self.motion]
            residual = residual + self.step * self.net(torch.cat([state, acting, *moved, *known], dim=1))
            state, before = after + residual, after
            states.append(state)
        return torch.stack(states, dim=1)

    def unexplained(self, predicted: Tensor, future: Tensor) -> Tensor:
        """Squared error over the variance of the residual: 1 is what the base gives, or holding the last state.

        predicted (B, F / STRIDE, S) by forward(); future (B, F, D) observations as measured.
        """
        wanted = self.scale(self.at_steps(future)[..., self.measured])
        return ((predicted - wanted) / self.spread).square()

    def set_statistics(self, data: WindowData) -> None:
        """Scale inputs and targets by the training windows' statistics."""
        observation, future = data.observation[:, self.measured], self.at_steps(data.future)[..., self.measured]
        self.scale.set(observation.mean(axis=0), observation.std(axis=0))
        deviation = self.scale.deviation.numpy()
        known = observation[:, None] if data.base is None else self.at_steps(data.base)[..., self.measured]
        spread = np.sqrt(np.square((future - known) / deviation).mean(axis=0)).clip(1e-4)
        motion = np.sqrt(np.square((known[:, 0] - observation) / deviation).mean(axis=0)).clip(1e-4)
        self.spread.copy_(torch.from_numpy(spread))
        self.step.copy_(torch.from_numpy(spread[0]))
        self.motion.copy_(torch.from_numpy(motion))

    @staticmethod
    def at_steps(future: Any) -> Any:
        """Of the observations (B, F, D) after each action, array or tensor, those that are predicted."""
        return future[:, STRIDE - 1 :: STRIDE]


class ParameterHead(nn.Module):
    """Context -> mean and log variance of each physical parameter, in scaled units; the mean is linear."""

    def __init__(self, card: EncoderCard) -> None:
        super().__init__()
        count = max(len(card.parameters), 1)
        self.scale = Scale(count)
        self.mean = nn.Linear(card.context, count)
        self.uncertainty = mlp(card.context, (32,), count, nn.ReLU)

    def forward(self, context: Tensor) -> tuple[Tensor, Tensor]:
        return self.mean(context), self.uncertainty(context).clamp(-8.0, 4.0)

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
