"""manifest.yaml: what a bundle's network expects, means and came from."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from robot.config import ConfigError
from robot.observation import ActionConfig, ObservationConfig
from robot.spec import RobotSpec

SCHEMA = 2


@dataclass(frozen=True, kw_only=True, slots=True)
class Tensor:
    """One ONNX input or output; the first axis is `batch`."""

    shape: tuple[int | str, ...]
    dtype: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Manifest:
    """manifest.yaml."""

    schema: int = SCHEMA
    terrafirma: str
    """Version that wrote it."""
    task: str
    fingerprint: str
    """Of `spec`."""
    control_period_s: float
    """[s]; a whole multiple of the robot's own."""
    observation: ObservationConfig
    action: ActionConfig
    inputs: dict[str, Tensor]
    outputs: dict[str, Tensor]
    variant: str = "float32"
    """Which of the exported networks it is: float32, int8, student, or foreign."""
    tolerance: dict[str, float]
    """Class of processor (robot.machine) -> largest |a - b| / max(|a|, 1) of a golden output; `any` for the others."""
    licence: str = "not stated"
    """Of the policy, as an SPDX expression or in words."""
    lineage: dict[str, Any] = field(default_factory=dict)
    """What went in: sha256 of inputs, code version, seeds."""
    gate: dict[str, Any] = field(default_factory=dict)
    """Results on which it was accepted."""
    spec: RobotSpec

    def __post_init__(self) -> None:
        ratio = self.control_period_s / self.spec.control_period_s
        if not (ratio >= 1 and abs(ratio - round(ratio)) < 1e-6):
            raise ConfigError(
                f"control_period_s is {self.control_period_s}; it must be a whole multiple of the robot's "
                f"{self.spec.control_period_s} s."
            )


def tensor_of(value: Any) -> Tensor:
    """An input or output of a session, which pins the batch axis to 1 where the file names it."""
    return Tensor(shape=("batch", *value.shape[1:]), dtype=value.type.removeprefix("tensor(").removesuffix(")"))
