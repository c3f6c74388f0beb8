"""Recordings of position servos with a known truth, for the tests."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from robot.log import UNITS, Channel, EpisodeLog
from sim.model import Model, RobotConfig, find_robot
from sim.plant import Plant
from sim.sensor import quantize

Array = npt.NDArray[np.float64]


def feetech_bench() -> RobotConfig:
    """The bench of one servo, as if it were an STS3215: with a D gain, and registers of its profile."""
    robot = find_robot("servo_bench")
    return replace(robot, model=replace(robot.model, servo="sts3215", parameters={}))


def record_servo(
    robot: RobotConfig,
    truth: Mapping[str, float],
    goals: Array,
    *,
    zero: float = 0.0,
    meta: Mapping[str, str] | None = None,
    on: Array | None = None,
    name: str = "bench",
    period_s: float = 0.0,
) -> EpisodeLog:
    """An episode of goals (n, J) [rad] as the controller gave them, one a period, as its encoders read it.

    `zero` [rad]: reading minus truth; `on` (n,): whether the torque is on.
    """
    spec, period = robot.spec, period_s or robot.spec.control_period_s
    plant = Plant(Model(robot), 1, timestep_s=0.001, period_s=period, nthread=1)
    plant.set({k: np.array([v]) for k, v in truth.items()})
    plant.reset(goals[:1] - zero, np.zeros((1, len(spec.joints))))
    rows, acting = [], goals - zero
    for k in range(len(goals)):
        rows.append(plant.position[0] + zero)
        live = acting[k] if on is None or on[k] else np.full(len(spec.joints), np.nan)
        if np.isnan(live).any():
            plant.run(np.tile(live, (1, plant.substeps, 1)))
        else:
            plant.step(live[None])
    t_ns = np.round(np.arange(len(goals)) * period * 1e9).astype(np.int64)
    read = quantize(np.array(rows), spec.sensor("joint.position").resolution)
    values = {"joint.position": read, "command.position": goals}
    channels = {c: Channel(c, UNITS[c], spec.joint_names, t_ns, v) for c, v in values.items()}
    if on is not None:
        channels["servo.torque_enable"] = Channel("servo.torque_enable", "1", ("servo",), t_ns, on[:, None] * 1.0)
    return EpisodeLog(name, spec.name, spec.fingerprint(), channels, dict(meta or {}))


def waves(seconds: float, period_s: float, seed: int = 0, amplitude: float = 0.5) -> Array:
    """Goals that sweep up to 2.5 Hz, with steps in between, (n, 1)."""
    rng, t = np.random.default_rng(seed), period_s * np.arange(round(seconds / period_s))
    sweep = np.sin(2 * np.pi * np.cumsum(np.linspace(0.2, 2.5, len(t))) * period_s + rng.uniform(0, 6.0))
    levels = rng.uniform(-1.0, 1.0, size=int(seconds / 0.7) + 1)[(t / 0.7).astype(int)]
    return np.where((t // 2.1) % 2 < 1, amplitude * sweep, amplitude * levels)[:, None]
