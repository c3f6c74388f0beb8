"""What the benchmarks of identification share: real recordings, leave-one-out, and rows of figures."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from robot.log import Channel, EpisodeLog
from robot.spec import RobotSpec
from sim.model import Model, RobotConfig
from sim.randomization import Randomization, load
from transfer.formats import format_of
from transfer.identify import Effort, Identification, identify
from transfer.prediction import Prediction, difference
from transfer.unknowns import Unknown

MODELS = Path(__file__).parents[2] / "configs" / "model"


def folder(*names: str) -> Path:
    """A folder of the real recordings, whose place TERRAFIRMA_REAL_LOGS tells."""
    return Path(os.environ["TERRAFIRMA_REAL_LOGS"]).joinpath(*names)


def recordings(paths: Sequence[Path], spec: RobotSpec) -> list[EpisodeLog]:
    """The episodes of files or folders of any known format, in their order; what no format reads is passed over."""
    found = []
    for path in paths:
        reader = format_of(path)
        if reader is not None:
            found += [r.log for r in reader.read(path, spec) if r.log is not None]
    return found


def published(name: str) -> Randomization:
    """A published parameter set."""
    return load(MODELS / f"published_{name}.yaml")


def part(log: EpisodeLog, from_s: float, until_s: float, name: str) -> EpisodeLog:
    """The rows of an episode between two times [s] of its positions' clock."""
    t0 = int(log["joint.position"].t_ns[0])
    low, high = t0 + round(from_s * 1e9), t0 + round(until_s * 1e9)
    channels: dict[str, Channel] = {}
    for key, channel in log.channels.items():
        rows = (channel.t_ns >= low) & (channel.t_ns < high)
        channels[key] = replace(channel, t_ns=channel.t_ns[rows], values=channel.values[rows])
    return replace(log, name=name, channels=channels)


def leave_one_out(
    logs: Sequence[EpisodeLog],
    robot: RobotConfig,
    effort: Effort,
    unknowns: Callable[[Model], tuple[Unknown, ...] | None] = lambda model: None,
    group: Callable[[EpisodeLog], str] = lambda log: log.name,
) -> list[tuple[EpisodeLog, Identification, float]]:
    """Each recording, what those of other groups told, and the CPU seconds of all threads that the fit took: unlike a
    clock's they mean something on a machine that others use. A group is one recording where `group` is not given."""
    out = []
    for name in dict.fromkeys(group(log) for log in logs):
        began, model = time.process_time(), Model(robot)
        fit = identify([x for x in logs if group(x) != name], model, unknowns(model), effort=effort)
        took = time.process_time() - began
        out += [(log, fit, took) for log in logs if group(log) == name]
        print(f"  without {name}: fitted in {took:.0f} CPU s", flush=True)
    return out


def row(prediction: Prediction, scale: float = 1.0, joints: slice = slice(None)) -> str:
    """Position RMSE at the horizons."""
    return " / ".join(f"{v:.4g}" for v in figures(prediction, scale, joints).values())


def figures(prediction: Prediction, scale: float = 1.0, joints: slice = slice(None)) -> dict[str, float]:
    """Horizon -> position RMSE."""
    out = {}
    for h, s in enumerate(prediction.horizons_s):
        squares, rows = prediction.position[h][:, joints], prediction.rows[h]
        out[f"{s:.1f}"] = scale * float(np.sqrt(squares.sum() / (rows.sum() * squares.shape[1])))
    return out


def interval(value: dict[str, Any], scale: float = 1.0) -> str:
    low, high = (scale * v for v in value["ci95"])
    return f"{scale * value['mean']:+.4g} [{low:+.4g}, {high:+.4g}]"


def gaps(ours: Prediction, theirs: Prediction) -> dict[str, dict[str, Any]]:
    """Horizon -> ours less theirs, paired by window."""
    return {f"{s:.1f}": difference(ours, theirs, s, np.random.default_rng(0)) for s in ours.horizons_s}


def arm_only(prediction: Prediction) -> Prediction:
    """The SO-101's five arm joints, without the jaw."""
    return replace(
        prediction,
        joints=prediction.joints[:5],
        position=prediction.position[..., :5],
        velocity=prediction.velocity[..., :5],
    )


def save(out: str, result: dict[str, Any]) -> dict[str, Any]:
    """Write a result where a path is given."""
    if out:
        Path(out).write_text(json.dumps(result, indent=1))
    return result
