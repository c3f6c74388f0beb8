"""Which motor moves which joint, in which sense and from which zero: options, or a calibration file.

    shoulder_pan: {id: 1, direction: -1, zero: 0.012}            # ours
    shoulder_pan: {id: 1, drive_mode: 0, homing_offset: -63, range_min: 758, range_max: 3292}    # as LeRobot writes it

A joint's position is direction x (the motor's own position - zero). Of LeRobot's entry the middle of the range becomes
the zero, which is the zero of the shipped so101. Names, never places in a list, say which motor is meant.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from robot import config
from robot.config import ConfigError, nearest
from robot.spec import RobotSpec

Array = npt.NDArray[np.float64]
RAD_PER_COUNT = 2.0 * np.pi / 4096
MIDDLE = 2048
"""Counts at which the servos' own position is 0 rad."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Wire:
    """One motor on the bus."""

    id: int
    direction: Literal[1, -1] = 1
    """-1 where the motor turns against the joint."""
    zero: float = 0.0
    """The motor's own position [rad] at which the joint reads 0."""
    homing_offset: int | None = None
    """Counts; a servo whose register says otherwise was calibrated anew since, and is refused."""

    def __post_init__(self) -> None:
        if not 0 <= self.id <= 252:
            raise ConfigError(f"id is {self.id}; motors have ids from 0 to 252.")
        if not np.isfinite(self.zero):
            raise ConfigError(f"zero is {self.zero}; it must be a finite angle [rad].")


@dataclass(frozen=True, kw_only=True, slots=True)
class _LeRobotWire:
    """One motor in a calibration file of LeRobot."""

    id: int
    drive_mode: Literal[0, 1]
    homing_offset: int
    range_min: int
    range_max: int


class Wiring:
    """The motors of a robot's joints, in the order of the spec."""

    def __init__(self, spec: RobotSpec, wires: dict[str, Wire], source: str) -> None:
        """ConfigError when a joint has no motor, a motor no joint, or two the same id."""
        for name in wires:
            if name not in spec.joint_names:
                raise ConfigError(f"{source}: '{name}' is no joint of '{spec.name}'. {nearest(name, spec.joint_names)}")
        for name in spec.joint_names:
            if name not in wires:
                raise ConfigError(f"{source}: joint '{name}' of robot '{spec.name}' has no entry; give its motor's id.")
        self.names = spec.joint_names
        ordered = [wires[n] for n in self.names]
        self.ids = tuple(w.id for w in ordered)
        for id in self.ids:
            if self.ids.count(id) > 1:
                raise ConfigError(f"{source}: joints {', '.join(self.named(id))} have the same id {id}.")
        self.direction = np.array([float(w.direction) for w in ordered])
        self.zero = np.array([w.zero for w in ordered])
        self.homing_offset = tuple(w.homing_offset for w in ordered)

    def named(self, id: int) -> list[str]:
        """The joints with this id."""
        return [n for n, i in zip(self.names, self.ids, strict=True) if i == id]

    def to_joint(self, motor: Array) -> Array:
        """(n_joints,) positions of the joints [rad] from those of the motors [rad]."""
        return self.direction * (motor - self.zero)

    def to_motor(self, joint: Array) -> Array:
        """The inverse of to_joint()."""
        return self.direction * joint + self.zero


def wiring(
    spec: RobotSpec,
    ids: tuple[int, ...] | None = None,
    direction: tuple[int, ...] | None = None,
    zero: tuple[float, ...] | None = None,
    calibration: Path | None = None,
) -> Wiring:
    """From a calibration file, or from lists in the order of the spec's joints (default: ids 1, 2, …).

    ConfigError for lists of the wrong length, and for both ways at once.
    """
    lists: dict[str, tuple[Any, ...] | None] = {"ids": ids, "direction": direction, "zero": zero}
    given = [name for name, values in lists.items() if values is not None]
    if calibration is not None:
        if given:
            raise ConfigError(f"driver options: calibration={calibration} and {given[0]}= say the same; give one.")
        return Wiring(spec, _read(Path(calibration)), str(calibration))
    n = len(spec.joints)
    for name, values in lists.items():
        if values is not None and len(values) != n:
            raise ConfigError(f"driver option {name} has {len(values)} values for {n} joints.")
    columns = zip(spec.joint_names, ids or range(1, n + 1), direction or (1,) * n, zero or (0.0,) * n, strict=True)
    plain = {name: {"id": i, "direction": d, "zero": z} for name, i, d, z in columns}
    return Wiring(spec, config.value_of(dict[str, Wire], plain, "driver options", ""), "driver options")


def _read(path: Path) -> dict[str, Wire]:
    data = config.load_yaml(path)  # LeRobot's file is JSON, which is YAML, too
    if not isinstance(data, dict):
        raise ConfigError(f"{path}: has no joints; it needs a line `joint: {{id: 1, …}}` for each.")
    return {str(name): _wire(entry, str(path), str(name)) for name, entry in data.items()}


def _wire(entry: Any, source: str, name: str) -> Wire:
    if not isinstance(entry, dict) or "range_min" not in entry:
        return config.convert(Wire, entry, source, name)
    theirs = config.convert(_LeRobotWire, entry, source, name)
    middle = 0.5 * (theirs.range_min + theirs.range_max)
    return Wire(
        id=theirs.id,
        direction=-1 if theirs.drive_mode else 1,
        zero=float((middle - MIDDLE) * RAD_PER_COUNT),
        homing_offset=theirs.homing_offset,
    )
