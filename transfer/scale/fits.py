"""Identification by other processes: starts of a search, draws of a bootstrap, and the fits of a choice of models.

What moves is the joints' channels of the recordings, once to each host, and estimates back. A worker makes the search
anew of the same recordings and takes the same steps, so the posterior is the same to the last bit where the machines
have the same processor and packages.
"""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from policies.progress import Report, silent
from robot import config
from robot.log import Channel, EpisodeLog
from sim.model import Model, RobotConfig
from sim.randomization import Randomization
from transfer.identify import Effort, Search, identify, stamped_by_row
from transfer.scale.cluster import ScaleConfig
from transfer.scale.fan import fan_out
from transfer.shooting import Estimate
from transfer.uncertainty import Draws, Equations, solve
from transfer.unknowns import Unknown

Array = npt.NDArray[np.float64]

DRAWS = 50
"""Bootstrap draws of one task."""


class ByWorkers:
    """transfer.identify.Elsewhere, by the workers of a scale."""

    def __init__(self, scale: ScaleConfig, report: Report = silent) -> None:
        self.scale, self.report = scale, report

    def follow(self, search: Search, starts: Array, scale: Array) -> list[tuple[float, Estimate]]:
        shared = _told(search.logs, search.model.robot, search.effort) | {
            "unknowns": config.to_plain(search.unknowns), "scale": scale,
        }  # fmt: skip
        ends = fan_out(follow_start, list(starts), self.scale, shared, "starts", self.report)
        return [(end["cost"], Estimate(end["x"], end["zeros"], end["starts"])) for end in ends]

    def solve(self, equations: Equations, draws: Draws) -> Array:
        parts = range(0, len(draws.times), DRAWS)
        tasks = [{"times": draws.times[i : i + DRAWS], "beliefs": draws.beliefs[i : i + DRAWS]} for i in parts]
        shared = {field.name: getattr(equations, field.name) for field in dataclasses.fields(equations)}
        return np.concatenate(fan_out(solve_draws, tasks, self.scale, shared, "bootstrap", self.report))

    def fits(
        self,
        logs: Sequence[EpisodeLog],
        robot: RobotConfig,
        effort: Effort,
        wanted: Sequence[tuple[Sequence[int], str]],
    ) -> list[Randomization]:
        """The posterior of each of `wanted`: indices of `logs`, and the name of a friction and firmware model."""
        tasks = [{"logs": list(kept), "model": name} for kept, name in wanted]
        found = fan_out(fit_model, tasks, self.scale, _told(logs, robot, effort), "fits", self.report)
        return [config.convert(Randomization, law, "what a worker found") for law in found]


def follow_start(shared: Mapping[str, Any], start: Array) -> dict[str, Any]:
    """A worker's task: a few iterations from one start."""
    cost, at = _search(shared).follow(start, shared["scale"])
    return {"cost": cost, "x": at.x, "zeros": at.zeros, "starts": at.starts}


def solve_draws(shared: Mapping[str, Any], task: Mapping[str, Any]) -> Array:
    """A worker's task: some draws of the bootstrap."""
    return solve(Equations(**shared), Draws(**task))


def fit_model(shared: Mapping[str, Any], task: Mapping[str, Any]) -> Any:
    """A worker's task: one candidate fitted to some of the recordings; the posterior as plain data."""
    from transfer.friction_models import unknowns_of

    robot = config.convert(RobotConfig, shared["robot"], "the robot")
    logs = [log_of(log) for log in shared["logs"]]
    unknowns = unknowns_of(Model(robot), task["model"], stamped_by_row(logs, robot.spec))
    effort = config.convert(Effort, shared["effort"], "the effort")
    found = identify([logs[i] for i in task["logs"]], Model(robot), unknowns, effort=effort)
    return config.to_plain(found.posterior)


def plain_log(log: EpisodeLog) -> dict[str, Any]:
    """A recording's channels of numbers as plain data; pictures and events stay where they are."""
    numbers = {name: channel for name, channel in log.channels.items() if channel.values.dtype.kind == "f"}
    channels = {
        name: {"unit": c.unit, "components": list(c.components), "t_ns": c.t_ns, "values": c.values}
        for name, c in numbers.items()
    }
    whose = {"name": log.name, "robot": log.robot, "fingerprint": log.fingerprint}
    return whose | {"meta": dict(log.meta), "channels": channels}


def log_of(data: Mapping[str, Any]) -> EpisodeLog:
    """The recording that plain_log() told of."""
    channels = {
        name: Channel(name, c["unit"], tuple(c["components"]), c["t_ns"], c["values"])
        for name, c in data["channels"].items()
    }
    return EpisodeLog(data["name"], data["robot"], data["fingerprint"], channels, data["meta"])


def _told(logs: Sequence[EpisodeLog], robot: RobotConfig, effort: Effort) -> dict[str, Any]:
    return {
        "logs": [plain_log(log) for log in logs],
        "robot": config.to_plain(robot),
        "effort": config.to_plain(effort),
    }


_latest: dict[str, Search] = {}
"""The search that a worker made last, by the digest of what it was told."""


def _search(shared: Mapping[str, Any]) -> Search:
    key = _digest(shared)
    if key not in _latest:
        _latest.clear()
        unknowns = [config.convert(Unknown, u, "the unknowns") for u in shared["unknowns"]]
        robot = config.convert(RobotConfig, shared["robot"], "the robot")
        effort = config.convert(Effort, shared["effort"], "the effort")
        _latest[key] = Search([log_of(log) for log in shared["logs"]], Model(robot), unknowns, effort)
    return _latest[key]


def _digest(value: Any) -> str:
    """Of plain data and arrays, by their content."""
    found = hashlib.sha256()

    def add(inner: Any) -> None:
        if isinstance(inner, np.ndarray):
            found.update(f"{inner.dtype.str}{inner.shape}".encode())
            found.update(np.ascontiguousarray(inner).data)
        elif isinstance(inner, Mapping):
            for key in inner:
                found.update(f"{key}:".encode())
                add(inner[key])
        elif isinstance(inner, (list, tuple)):
            found.update(f"{len(inner)}[".encode())
            for one in inner:
                add(one)
        else:
            found.update(f"{inner!r};".encode())

    add(value)
    return found.hexdigest()
