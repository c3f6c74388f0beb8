"""Excitations: what a robot is moved with so that its parameters can be identified from the log.

Each is a Commander of the control loop, so that recording runs through the same limits, watchdog and recorder
as a policy. Torque motors are excited in torque, position servos in position about the rest pose; amplitudes
are a share of the RobotSpec's limits, and begin and end smoothly.
"""

from __future__ import annotations

import csv
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from robot.config import ConfigError, nearest
from robot.spec import RobotSpec
from robot.state import JointCommand, Sample

Array = npt.NDArray[np.float64]

EDGE_S = 0.5
"""Time over which an excitation fades in and out [s]."""
_WALL = 0.15
"""Share of the travel, at either end, within which a torque that pushes outwards fades to nothing."""
_SPEED = (0.4, 0.8)
"""Shares of the velocity limit between which a torque that accelerates fades to nothing."""


@dataclass(frozen=True, slots=True)
class Excitation:
    """A table of commands over time."""

    name: str
    t_s: Array
    """(n,) from 0, increasing [s]."""
    values: Array
    """(n, n_actuators): torque [N m], or for a position servo the offset from its rest pose [rad]."""

    def at(self, t_s: float) -> Array:
        """(n_actuators,) the value at a time, linear between rows and 0 outside."""
        return np.array([np.interp(t_s, self.t_s, column, left=0.0, right=0.0) for column in self.values.T])


def chirp(spec: RobotSpec, seconds: float, rng: np.random.Generator, amplitude: float = 0.5) -> Excitation:
    """Sines that sweep 0.1 to 3 Hz exponentially, up and down, each actuator with its own phase and pace."""
    t = np.arange(0.0, seconds, 1e-3)
    columns = []
    for _ in spec.actuators:
        low, high = rng.uniform(0.1, 0.2), rng.uniform(2.0, 3.0)
        there_and_back = 1.0 - np.abs(2.0 * t / max(seconds, 1e-9) - 1.0)
        frequency = low * (high / low) ** there_and_back
        columns.append(np.sin(2 * np.pi * np.cumsum(frequency) * 1e-3 + rng.uniform(0, 2 * np.pi)))
    return _scaled(spec, "chirp", t, np.stack(columns, axis=1), seconds, amplitude)


def prbs(spec: RobotSpec, seconds: float, rng: np.random.Generator, amplitude: float = 0.5) -> Excitation:
    """Pseudo-random binary sequences: each actuator switches between plus and minus after 0.1 to 0.8 s."""
    t = np.arange(0.0, seconds, 1e-3)
    columns = []
    for _ in spec.actuators:
        switches = np.cumsum(rng.uniform(0.1, 0.8, size=int(seconds / 0.1) + 2))
        level = rng.uniform(0.4, 1.0, size=len(switches) + 1) * rng.permuted([-1.0, 1.0])[0]
        level[1::2] *= -1.0
        columns.append(level[np.searchsorted(switches, t, side="right")])
    return _scaled(spec, "prbs", t, np.stack(columns, axis=1), seconds, amplitude)


KINDS: dict[str, Callable[[RobotSpec, float, np.random.Generator, float], Excitation]] = {"chirp": chirp, "prbs": prbs}
"""name -> its function; anything else given as `excitation=` is a CSV file."""


def from_file(path: Path, spec: RobotSpec) -> Excitation:
    """A CSV with a column `time` [s] and one per excited actuator by name [N m, or rad from the rest pose].

    ConfigError names the file, line and column of what is wrong, also when a value exceeds the robot's limits.
    """
    path = Path(path)
    names = [a.name for a in spec.actuators]
    try:
        with path.open(newline="", encoding="utf-8") as stream:
            rows = list(csv.reader(stream))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise ConfigError(f"excitation={path}: cannot be read ({error}). {nearest(str(path), list(KINDS))}") from error
    if len(rows) < 3 or not rows[0] or rows[0][0].strip() != "time":
        raise ConfigError(f"{path}: needs a head `time,{','.join(names)}` and at least two rows.")
    head = [name.strip() for name in rows[0]]
    for name in head[1:]:
        if name not in names:
            raise ConfigError(f"{path}: column '{name}' is no actuator of '{spec.name}'. {nearest(name, names)}")
    table = np.array([_numbers(path, i + 2, row, head) for i, row in enumerate(rows[1:])])
    if not (np.diff(table[:, 0]) > 0).all():
        line = int(np.argmin(np.diff(table[:, 0]) > 0)) + 3
        raise ConfigError(f"{path}, line {line}: time does not increase.")
    values = np.zeros((len(table), len(names)))
    values[:, [names.index(n) for n in head[1:]]] = table[:, 1:]
    peak = peaks(spec)
    if (np.abs(values) > peak + 1e-12).any():
        row, column = np.argwhere(np.abs(values) > peak + 1e-12)[0]
        raise ConfigError(
            f"{path}, line {row + 2}: '{names[column]}' is {values[row, column]:g}; its limit is {peak[column]:g}."
        )
    return Excitation(path.stem, table[:, 0] - table[0, 0], values)


def _numbers(path: Path, line: int, row: list[str], head: list[str]) -> list[float]:
    try:
        values = [float(v) for v in row]
    except ValueError as error:
        raise ConfigError(f"{path}, line {line}: {error}.") from error
    if len(values) != len(head) or not np.isfinite(values).all():
        raise ConfigError(f"{path}, line {line}: {len(head)} finite numbers are needed.")
    return values


def peaks(spec: RobotSpec) -> Array:
    """(n_actuators,) the largest excitation: torque limit, or the way from the rest pose to the nearer end."""
    largest = []
    for actuator in spec.actuators:
        joint = spec.joints[spec.joint_names.index(actuator.joint)]
        if actuator.kind in ("torque", "dcmotor"):  # a voltage motor is given the voltage that stalls at the torque
            largest.append(actuator.effort_limit)
        elif actuator.kind == "position_pd":
            low, high = joint.position_limits
            largest.append(min(high - joint.default_position, joint.default_position - low, np.pi))
        else:
            raise ConfigError(
                f"actuator '{actuator.name}' is of kind '{actuator.kind}', which cannot be excited here; "
                "torque, dcmotor and position_pd can."
            )
    return np.array(largest)


def _scaled(spec: RobotSpec, name: str, t: Array, shape: Array, seconds: float, amplitude: float) -> Excitation:
    if not seconds > 2 * EDGE_S:
        raise ConfigError(f"seconds={seconds}: an excitation fades in and out for {EDGE_S} s each; give it longer.")
    if not 0 < amplitude <= 1:
        raise ConfigError(f"amplitude={amplitude}: it is a share of the robot's limits, above 0 and at most 1.")
    inside = np.clip(np.minimum(t, seconds - t) / EDGE_S, 0.0, 1.0)
    envelope = 0.5 - 0.5 * np.cos(np.pi * inside)
    return Excitation(name, t, shape * envelope[:, None] * amplitude * peaks(spec))


class Exciter:
    """An Excitation as a Commander: what it decides depends on the time, and near the limits on the state."""

    unfamiliar: str | None = None
    action: npt.NDArray[np.float32] | None = None
    cameras: tuple[str, ...] = ()
    needs: tuple[str, ...] = ()

    def __init__(self, spec: RobotSpec, excitation: Excitation) -> None:
        self.spec, self.excitation = spec, excitation
        self.period_ns = round(spec.control_period_s * 1e9)
        self._servo = np.array([a.kind == "position_pd" for a in spec.actuators])
        self._low, self._high = np.array([j.position_limits for j in spec.joints]).T
        self._speed = np.array([j.velocity_limit for j in spec.joints])
        self.reset()

    def reset(self) -> None:
        """Begin again with the next reading."""
        self._begin: int | None = None

    def act(self, sample: Sample) -> JointCommand:
        """The excitation at this reading's time."""
        self._begin = sample.t_ns if self._begin is None else self._begin
        joints = sample.joints.ordered(self.spec.joint_names)
        value, driven = self.excitation.at((sample.t_ns - self._begin) * 1e-9), self.spec.driven
        n = len(self.spec.joints)
        effort, position, kp, kd = np.zeros(n), self.spec.default_pose, np.zeros(n), np.zeros(n)
        effort[driven] = np.where(self._servo, 0.0, value)
        position[driven] += np.where(self._servo, value, 0.0)
        kp[driven] = [a.kp if servo else 0.0 for a, servo in zip(self.spec.actuators, self._servo, strict=True)]
        kd[driven] = [a.kd if servo else 0.0 for a, servo in zip(self.spec.actuators, self._servo, strict=True)]
        effort *= self._room(effort, joints.position, joints.velocity)
        return JointCommand(
            names=self.spec.joint_names,
            t_ns=sample.t_ns,
            position=position,
            velocity=np.zeros(n),
            effort=effort,
            kp=kp,
            kd=kd,
        )

    def _room(self, effort: Array, position: Array, velocity: Array) -> Array:
        """(n_joints,) 1 in the open, 0 where the torque would push past the travel or the speed limit."""
        with np.errstate(invalid="ignore"):
            wall = _WALL * (self._high - self._low)
            ahead = np.where(effort > 0, self._high - position, position - self._low)
            travel = np.where(np.isfinite(ahead), np.clip(ahead / wall, 0.0, 1.0), 1.0)
        forward = velocity * np.sign(effort) / self._speed
        low, high = _SPEED
        return travel * np.clip((high - forward) / (high - low), 0.0, 1.0)
