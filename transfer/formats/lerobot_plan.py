"""How an EpisodeLog becomes the frames of a LeRobotDataset: which channel goes where, which of its rows a frame has.

LeRobot has one clock of a whole number of frames a second. Frames follow the first camera, or else the joints: frame k
has the row nearest to k / fps. Of every other channel it has the last row up to then, and of commands the first row
from then on: what was done about what was seen.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt

from robot import log as logs
from robot.log import Channel, EpisodeLog
from robot.spec import RobotSpec
from transfer.dataset import DataRefused
from transfer.formats.lerobot_own import STAMPS, OwnChannel
from transfer.screening.signals import command_of

Rows = npt.NDArray[np.intp]

STATE, ACTION, IMAGES = "observation.state", "action", "observation.images."
SUFFIX = {"position": "pos", "velocity": "vel", "effort": "torque"}
"""Quantity -> ending of a component's name, as LeRobot's own robots have it: `shoulder_pan.pos`."""
TOGETHER = 0.1
"""Rows up to this share of a frame's period later were read in the same round."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Plan:
    """What a data set will hold."""

    fps: int
    base: str
    """The channel that frames follow."""
    command: str
    """The channel that becomes the action."""
    channels: tuple[OwnChannel, ...]
    """In the order of the stamps."""
    names: Mapping[str, tuple[str, ...]]
    """Feature of numbers -> names of its components, in the order in which the table has them."""
    sizes: Mapping[str, tuple[int, int]]
    """Feature of pictures -> height and width."""
    left_out: Mapping[str, str]
    """Channel -> why it is not written."""

    def units(self, feature: str) -> list[str]:
        """Of a feature's components."""
        return [c.unit for c in self.channels if c.feature == feature for _ in c.components]


@dataclass(frozen=True, slots=True)
class Frames:
    """Which row of each channel each frame of one episode has."""

    rows: Mapping[str, Rows]
    late_s: float
    """How far a frame's row is from the frame's time, at most [s]."""


def plan(paths: Sequence[Path], spec: RobotSpec, fps: int | None) -> Plan:
    """The plan for a data set's episodes; DataRefused where they cannot stand in one LeRobotDataset."""
    first = logs.load(paths[0])
    heads = [logs.load(path, cameras=False) for path in paths]
    command = command_of(spec)
    for path, head in zip(paths, heads, strict=True):
        for name in ("joint.position", command):
            if name not in head or not len(head[name].t_ns):
                raise DataRefused(f"{path}: it has no {name}, which a LeRobot data set needs as its state or action.")
    left_out, kept = dict[str, str](), list[Channel]()
    for name, channel in first.channels.items():
        if channel.values.dtype.kind == "O":
            continue  # texts are kept whole, in a file of our own
        if why := _unfit(channel, heads):
            left_out[name] = why
        else:
            kept.append(channel)
    for head in heads:
        left_out |= {n: "not every episode has it" for n, c in head.channels.items() if n not in first and _numeric(c)}
    cameras = sorted(c.name for c in kept if c.name.startswith("camera."))
    base = cameras[0] if cameras and fps is None else "joint.position"
    if fps is None:
        fps = _rate([first] if cameras else heads, base)
    return _arranged(kept, heads, Plan(fps=fps, base=base, command=command, channels=(), names={}, sizes={},
                                       left_out=left_out))  # fmt: skip


def frames_of(episode: EpisodeLog, plan: Plan) -> Frames:
    """The rows that the frames of one episode have; DataRefused where it lacks one of the plan's channels."""
    for channel in plan.channels:
        if channel.name not in episode or not len(episode[channel.name].t_ns):
            raise DataRefused(f"episode '{episode.name}' has no {channel.name}, which the first episode has.")
    stamps = episode[plan.base].t_ns
    count = int(np.floor((stamps[-1] - stamps[0]) * 1e-9 * plan.fps + 0.5)) + 1
    wanted = stamps[0] + np.round(np.arange(count) * (1e9 / plan.fps)).astype(np.int64)
    after = np.clip(np.searchsorted(stamps, wanted), 1, max(len(stamps) - 1, 1))
    after = np.minimum(after, len(stamps) - 1)
    before = np.maximum(after - 1, 0)
    base = np.where(wanted - stamps[before] <= stamps[after] - wanted, before, after)
    rows, seen = {plan.base: base}, stamps[base]
    repeated = np.diff(base, prepend=-1) == 0
    now = np.maximum.accumulate(np.where(repeated, wanted, seen))  # others go on where a camera pauses
    for channel in plan.channels:
        if channel.name != plan.base:
            ours = episode[channel.name].t_ns
            late = round(TOGETHER * 1e9 / plan.fps)
            rows[channel.name] = _following(ours, now) if channel.name == plan.command else _before(ours, now + late)
    return Frames(rows, float(np.abs(seen - wanted)[~repeated].max() * 1e-9))


def _before(stamps: npt.NDArray[np.int64], now: npt.NDArray[np.int64]) -> Rows:
    """The last row at or before each frame; the first, where there is none yet."""
    return np.clip(np.searchsorted(stamps, now, side="right") - 1, 0, None)


def _following(stamps: npt.NDArray[np.int64], now: npt.NDArray[np.int64]) -> Rows:
    """The first row from each frame on and before the next; where there is none, what was commanded before holds."""
    after = np.minimum(np.searchsorted(stamps, now, side="left"), len(stamps) - 1)
    end = np.append(now[1:], np.iinfo(np.int64).max)
    return np.where((stamps[after] >= now) & (stamps[after] < end), after, _before(stamps, now))


def _unfit(channel: Channel, heads: Sequence[EpisodeLog]) -> str:
    """Why a channel of the first episode cannot be a feature; empty where it can."""
    if not len(channel.t_ns):
        return "it has no rows"
    if channel.values.dtype == np.uint8:
        return "" if channel.values.shape[3] == 3 else "its pictures are not of three colours"
    others = [head.channels.get(channel.name) for head in heads]
    if any(o is None or not len(o.t_ns) or set(o.components) != set(channel.components) for o in others):
        return "not every episode has it"
    if not any(np.isfinite(o.values).any() for o in others if o is not None):
        return "it holds no number"
    return ""


def _numeric(channel: Channel) -> bool:
    return bool(channel.values.dtype.kind == "f")


def _rate(heads: Sequence[EpisodeLog], base: str) -> int:
    """The whole number of frames a second nearest to a channel's median rate, but at least 1."""
    periods = np.concatenate([np.diff(h[base].t_ns) for h in heads])
    median = float(np.median(periods)) if len(periods) else 0.0
    return max(round(1e9 / median), 1) if median > 0.0 else 1


def _arranged(kept: Sequence[Channel], heads: Sequence[EpisodeLog], plan: Plan) -> Plan:
    """The plan with each channel in its feature: state, action, pictures, and the rest under names of their own."""
    channels, names, sizes = list[OwnChannel](), dict[str, tuple[str, ...]](), dict[str, tuple[int, int]]()
    state = [n for n in ("joint.position", "joint.velocity", "joint.effort") if _finite(n, heads)]
    order = {n: k for k, n in enumerate((*state, plan.command))}
    for channel in sorted(kept, key=lambda c: order.get(c.name, len(order))):
        kind, _, quantity = channel.name.partition(".")
        if channel.values.dtype == np.uint8:
            feature = IMAGES + quantity
            sizes[feature] = channel.values.shape[1:3]
            channels.append(OwnChannel(name=channel.name, unit=channel.unit, feature=feature))
            continue
        if channel.name in state or channel.name == plan.command:
            feature = STATE if channel.name in state else ACTION
            labels = tuple(f"{c}.{SUFFIX[quantity]}" for c in channel.components)
        else:
            observed = kind == "imu" and _finite(channel.name, heads)
            feature = f"observation.{channel.name}" if observed else f"log.{channel.name}"
            labels = channel.components
        start = len(names.get(feature, ()))
        names[feature] = (*names.get(feature, ()), *labels)
        channels.append(OwnChannel(name=channel.name, unit=channel.unit, components=channel.components,
                                   feature=feature, start=start))  # fmt: skip
    names[STAMPS] = tuple(c.name for c in channels)
    return replace(plan, channels=tuple(channels), names=names, sizes=sizes)


def _finite(name: str, heads: Sequence[EpisodeLog]) -> bool:
    """Whether a policy can be trained on a channel: one NaN spoils all that it is averaged with."""
    return all(name in h and len(h[name].t_ns) and np.isfinite(h[name].values).all() for h in heads)
