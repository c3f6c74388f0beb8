"""The physics encoder: a window of past observations and actions -> a context vector that tells which robot this is.

One network for training and for the robot: the statistics that scale its inputs are buffers inside it, so they
travel with the weights into the policy and the exported file. On disk it is a folder: encoder.safetensors (what
is deployed), heads.safetensors (what only training needs, see heads.py) and encoder.yaml (the card).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from policies import tensors
from policies.network import CLIP, Scale, mlp
from robot import config
from robot.config import ConfigError
from robot.observation import Observation
from robot.spec import RobotSpec

VERSION = 2
BLOCK = 4
"""Rows of a block; features and changes are averaged over spans of two blocks, and spans begin one block apart."""
RIDGE = 3e-3
"""Regularization of the regression, beside features of unit size: what a window does not excite stays near 0."""
WEIGHTS, CARD = "encoder.safetensors", "encoder.yaml"


@dataclass(frozen=True, kw_only=True, slots=True)
class EncoderConfig:
    """configs/encoder/physics.yaml: the encoder's size and how it is pretrained."""

    kind: Literal["physics"] = "physics"
    history: int = 128
    """Past control steps in the window."""
    context: int = 8
    """Length of the context vector."""
    features: int = 3
    """Learned nonlinear features of each row, on which the changes are regressed beside the row itself."""
    hidden: tuple[int, ...] = (64, 64)
    """Widths of the network that reads the coefficients."""
    horizon: int = 32
    """Future steps [control steps] over which the prediction loss runs open loop."""
    predictor: tuple[int, ...] = (64, 64)
    """Widths of the prediction head."""
    base: bool = True
    """Whether predictions stand on a simulator's, where the observation shows the state that it must start from."""
    simulations: int = 512
    """Randomized robots that are rolled out for training."""
    seconds: float = 4.0
    """Length of each rollout [s]."""
    windows: int = 64
    """Windows cut from each rollout."""
    updates: int = 1500
    """Most gradient steps; training stops earlier when the held-out loss no longer falls."""
    batch: int = 256
    learning_rate: float = 1e-3
    parameter_weight: float = 0.5
    """Weight of the parameter regression beside the prediction loss."""
    held_out: float = 0.15
    """Share of the simulated robots that is kept for validation and for the probes."""
    patience: int = 6
    """Validations without progress after which training stops."""

    def __post_init__(self) -> None:
        for name in ("history", "context", "horizon", "simulations", "windows", "updates", "batch", "patience"):
            if getattr(self, name) < 1:
                raise ConfigError(f"encoder.{name} is {getattr(self, name)}; it must be at least 1.")
        if self.history < 4 * BLOCK:
            raise ConfigError(f"encoder.history is {self.history}; it must be at least {4 * BLOCK}.")
        if not 0.0 < self.held_out < 1.0:
            raise ConfigError(f"encoder.held_out is {self.held_out}; it must lie between 0 and 1.")


@dataclass(frozen=True, kw_only=True, slots=True)
class EncoderCard:
    """What an encoder was made for; a policy for anything else refuses it."""

    kind: Literal["physics"] = "physics"
    version: int = VERSION
    robot: str
    fingerprint: str
    """RobotSpec.fingerprint() of that robot."""
    control_period_s: float
    components: tuple[str, ...]
    """Names of one observation's components, in order."""
    actuators: tuple[str, ...]
    """Names of the actions that follow each observation in a history row."""
    history: int
    context: int
    features: int
    hidden: tuple[int, ...]
    predictor: tuple[int, ...]
    base: dict[str, float] | None = None
    """Target -> value of the simulator on which predictions stand; None: they stand on the last state."""
    parameters: tuple[str, ...] = ()
    """Physical quantities that the parameter head estimates."""
    scores: dict[str, dict[str, float]] = field(default_factory=dict)
    """Probe name -> {score, baseline}; more is better."""
    lineage: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.version != VERSION:
            raise ConfigError(
                f"the encoder's version is {self.version}; this terrafirma knows {VERSION}: pretrain it again."
            )

    @classmethod
    def of(cls, observation: Observation, config: EncoderConfig, control_period_s: float) -> EncoderCard:
        """The card of an encoder for this robot and layout; scores and parameters follow from training."""
        return cls(
            robot=observation.spec.name,
            fingerprint=observation.spec.fingerprint(),
            control_period_s=control_period_s,
            components=observation.components,
            actuators=observation.action.actuators,
            history=config.history,
            context=config.context,
            features=config.features,
            hidden=config.hidden,
            predictor=config.predictor,
        )

    @property
    def row(self) -> int:
        """Length of one history row."""
        return len(self.components) + len(self.actuators)

    @property
    def measured(self) -> list[int]:
        """Columns of the observation that are measured; the others are the policy's own previous action."""
        return [i for i, c in enumerate(self.components) if not c.startswith("previous_action/")]

    def check(self, observation: Observation, control_period_s: float) -> None:
        """ConfigError, naming what differs, when this robot or this layout is not the one that was pretrained on."""
        spec: RobotSpec = observation.spec
        again = f"Pretrain one for it: terrafirma pretrain encoder=physics robot={spec.name}."
        if spec.fingerprint() != self.fingerprint:
            differs = f"robot '{spec.name}'" if spec.name != self.robot else f"another version of robot '{spec.name}'"
            raise ConfigError(f"the encoder was pretrained for robot '{self.robot}', and this is {differs}. {again}")
        if (observation.components, observation.action.actuators) != (self.components, self.actuators):
            raise ConfigError(
                f"the encoder reads {list(self.components)} and actions {list(self.actuators)}; this task gives "
                f"{list(observation.components)} and {list(observation.action.actuators)}. {again}"
            )
        if abs(control_period_s - self.control_period_s) > 1e-9:
            raise ConfigError(
                f"the encoder was pretrained at a control period of {self.control_period_s} s; "
                f"this task runs at {control_period_s} s. {again}"
            )


class PhysicsEncoder(nn.Module):
    """(history, mask) -> context in (-1, 1).

    A regression inside a network. Physical parameters are the coefficients that relate how fast the state changes to
    state and action, so the window is first reduced to them: features of the rows (themselves and some learned
    nonlinear ones) are averaged over spans of rows, far above the sensors' noise, the changes over the same rows are
    regressed on them, and a small network reads coefficients and excitation. A longer window makes them more
    certain; an empty one gives one fixed context: "nothing known yet".
    """

    change: Tensor
    ridge: Tensor
    unit: Tensor
    triangle: Tensor

    def __init__(self, card: EncoderCard) -> None:
        super().__init__()
        self.card = card
        self.measured = card.measured
        self.scale = Scale(card.row)
        # deviation of the changes over spans, in scaled units
        self.register_buffer("change", torch.ones(len(self.measured)))
        self.nonlinear = nn.Linear(card.row, card.features)
        self.size = card.row + card.features
        self.register_buffer("ridge", RIDGE * torch.eye(self.size, dtype=torch.float64), persistent=False)
        self.register_buffer("unit", torch.eye(self.size, dtype=torch.float64), persistent=False)
        known = self.size * len(self.measured) + self.size * (self.size + 1) // 2 + card.row
        self.register_buffer("triangle", torch.triu_indices(self.size, self.size), persistent=False)
        self.known = Scale(known)
        self.net = mlp(known, card.hidden, card.context, nn.ReLU)

    def forward(self, history: Tensor, mask: Tensor) -> Tensor:
        """history (B, H, K) raw, mask (B, H) of 0 and 1, newest row last; returns the context (B, Z)."""
        return torch.tanh(self.net(self.known(self.reduce(history, mask))))

    def reduce(self, history: Tensor, mask: Tensor) -> Tensor:
        """What the network reads: the regression's coefficients, the features' moments, and the newest row."""
        rows = self.scale(history) * mask.unsqueeze(-1)
        return torch.cat([*self._regress(rows, mask.unsqueeze(-1)), rows[:, -1]], dim=1)

    def _regress(self, rows: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """Coefficients (B, size x measured) and second moments of the features (B, size (size + 1) / 2).

        In double precision from the means on: a regression amplifies rounding, and the exported file must give
        the same numbers.
        """
        first = (rows.shape[1] - 1) % BLOCK
        state = rows[:, first::BLOCK, self.measured].double()
        whole = mask[:, first::BLOCK][:, :-2].double()  # a span is real when its oldest row is
        y = ((state[:, 2:] - state[:, :-2]) / self.change).clamp(-CLIP, CLIP) * whole
        # the mean over [t, t + span): what acted while the state changed from t to t + span
        means = (
            sum((rows[:, first + k : -1 : BLOCK] for k in range(1, BLOCK)), rows[:, first:-1:BLOCK]).double() / BLOCK
        )
        nonlinear = functional.linear(means, self.nonlinear.weight.double(), self.nonlinear.bias.double())
        means = torch.cat([means, torch.tanh(nonlinear)], dim=2)
        x = 0.5 * (means[:, 1:] + means[:, :-1]) * whole
        weight = whole.sum(dim=1, keepdim=True).clamp(min=1.0).rsqrt()
        x, y = x * weight, y * weight
        moments = x.transpose(1, 2) @ x
        coefficients = self._solve(moments + self.ridge, x.transpose(1, 2) @ y)
        return coefficients.flatten(1).float(), moments[:, self.triangle[0], self.triangle[1]].float()

    def _solve(self, matrix: Tensor, right: Tensor) -> Tensor:
        """matrix (B, m, m), positive definite by the ridge, and right (B, m, r) -> matrix^-1 right (B, m, r).

        Gauss-Jordan without pivoting, unrolled, because ONNX has no operator that solves.
        """
        system = torch.cat([matrix, right], dim=2)
        for i in range(self.size):
            pivot = system[:, i : i + 1] / system[:, i : i + 1, i : i + 1]
            system = system - (system[:, :, i : i + 1] - self.unit[:, i : i + 1]) * pivot
        return system[:, :, self.size :]

    def save(self, folder: Path) -> Path:
        """Write weights and card."""
        tensors.save(folder / WEIGHTS, dict(self.state_dict()))
        config.save(folder / CARD, self.card)
        return folder

    @classmethod
    def load(cls, folder: Path) -> PhysicsEncoder:
        """Read an encoder; ConfigError when the folder holds none, or one of another version."""
        card = config.load(EncoderCard, Path(folder) / CARD)
        encoder = cls(card)
        tensors.load_into(encoder, Path(folder) / WEIGHTS)
        return encoder.eval()
