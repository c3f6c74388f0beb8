"""Screening: what is wrong or odd in an episode, each with its place, before anything is fitted to it.

A blocking finding keeps the episode out of the data set unless a person accepts its kind by name. To add a
check: a row in KINDS and a function in CHECKS.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping

import numpy as np
import numpy.typing as npt

from robot.log import Channel, EpisodeLog
from robot.spec import RobotSpec
from transfer import screen_images
from transfer.dataset import Finding
from transfer.screen_images import pictures

Array = npt.NDArray[np.float64]

KINDS: dict[str, tuple[bool, str]] = {
    # kind -> (blocking, what it means)
    "unreadable": (True, "the file cannot be read at all"),
    "unknown_format": (True, "no format reads this file"),
    "unknown_layout": (True, "the columns belong to no known layout"),
    "empty": (True, "there are no rows"),
    "truncated": (True, "a compressed file breaks off"),
    "torn": (False, "a recording ends in the middle of a record; all whole records were recovered"),
    "missing_column": (True, "a column of the layout is not there"),
    "missing_channel": (True, "a channel that identification needs is not there"),
    "missing_command": (True, "what was commanded is not there"),
    "missing_measured": (True, "a command file stands without its measurement"),
    "measured_input": (False, "the measured torque is the input, not a command"),
    "ragged": (True, "a row has too few or too many cells"),
    "text": (True, "a cell holds no number"),
    "nan": (True, "a value is not finite"),
    "decreasing_time": (True, "time goes back"),
    "repeated_stamp": (False, "rows share one time stamp"),
    "gap": (False, "no row for much longer than the usual period"),
    "other_robot": (True, "it was recorded on another robot"),
    "other_version": (True, "it was recorded with another version of this robot's file"),
    "stuck": (True, "a joint's reading never changes although its motor is driven"),
    "unit_or_sign": (True, "measured velocity is not the rate of the measured position"),
    "over_speed": (False, "positions jump faster than the joint can turn"),
    "saturated": (False, "the command is at the effort limit"),
    "over_limit": (False, "the command is above the robot's effort limit"),
    "short": (False, "it is too short for one evaluation window"),
    "damaged_image": (False, "a recorded picture cannot be decoded; it was left out"),
    "image_size": (True, "a camera's pictures have another size or other channels than the robot's file says"),
    "missing_frames": (False, "a camera has lost pictures"),
    "repeated_image": (False, "a picture is an exact repeat of the one before"),
    "frozen_camera": (True, "a camera shows one picture while joints move"),
    "corrupt_image": (True, "some pictures are of one colour, broken off or full of noise"),
    "swapped_channels": (True, "red and blue are exchanged, judged by other pictures of the same camera"),
}


def finding(kind: str, channel: str, where: str, detail: str) -> Finding:
    """A finding whose gravity is that of its kind."""
    return Finding(kind=kind, channel=channel, where=where, detail=detail, blocking=KINDS[kind][0])


def screen(episode: EpisodeLog, spec: RobotSpec, references: Mapping[str, Array] | None = None) -> tuple[Finding, ...]:
    """Everything odd in one episode, in the order of CHECKS, then in its pictures.

    `references`: channel of a camera -> colour map of its other episodes, by screen_images.reference_of.
    """
    found = [f for check in CHECKS for f in check(episode, spec)]
    return (*found, *_cameras(episode, spec, references or {}))


def in_time_order(episode: EpisodeLog) -> EpisodeLog:
    """The episode with each channel's rows sorted by stamp, as an accepted `decreasing_time` needs it."""
    channels = {}
    for name, c in episode.channels.items():
        order = np.argsort(c.t_ns, kind="stable")
        channels[name] = Channel(name, c.unit, c.components, c.t_ns[order], c.values[order])
    return EpisodeLog(episode.name, episode.robot, episode.fingerprint, channels, episode.meta)


def _at(channel: Channel, row: int) -> str:
    return f"row {row + 1} (t = {(channel.t_ns[row] - channel.t_ns[0]) * 1e-9:.4f} s)"


def _numeric(episode: EpisodeLog) -> Iterator[Channel]:
    return (c for c in episode.channels.values() if c.values.dtype.kind == "f" and len(c.t_ns))


def _channels(episode: EpisodeLog, spec: RobotSpec) -> Iterator[Finding]:
    """Position and a torque command, with rows and with this robot's joints."""
    for name in ("joint.position", "command.effort"):
        if name not in episode:
            have = ", ".join(episode.channels) or "none"
            yield finding("missing_channel", name, "file", f"the channels are: {have}.")
        elif not len(episode[name].t_ns):
            yield finding("empty", name, "file", "the channel has no rows.")
        elif missing := [j for j in spec.joint_names if j not in episode[name].components]:
            detail = f"joint '{missing[0]}' is not among {', '.join(episode[name].components)}."
            yield finding("missing_channel", name, "file", detail)


def _stamps(episode: EpisodeLog, spec: RobotSpec) -> Iterator[Finding]:
    seen: set[bytes] = set()
    for channel in _numeric(episode):
        key = channel.t_ns.tobytes()
        if key in seen or len(channel.t_ns) < 3:
            continue  # channels that share their stamps share the finding
        seen.add(key)
        steps = np.diff(channel.t_ns) * 1e-9
        usual = float(np.median(steps))
        if (back := np.flatnonzero(steps < 0)).size:
            detail = f"the stamp is {-steps[back[0]] * 1e3:.3f} ms before the previous row's; {back.size} such row(s)."
            yield finding("decreasing_time", channel.name, _at(channel, back[0] + 1), detail)
        if (same := np.flatnonzero(steps == 0)).size:
            detail = f"{same.size} row(s) repeat the previous row's stamp."
            yield finding("repeated_stamp", channel.name, _at(channel, same[0] + 1), detail)
        if (gaps := np.flatnonzero(steps > max(5.0 * usual, usual + 0.02))).size:
            worst = gaps[np.argmax(steps[gaps])]
            detail = (
                f"{steps[worst] * 1e3:.1f} ms without a row, usually {usual * 1e3:.2f} ms; {gaps.size} such gap(s)."
            )
            yield finding("gap", channel.name, _at(channel, worst), detail)


def _finite(episode: EpisodeLog, spec: RobotSpec) -> Iterator[Finding]:
    for channel in _numeric(episode):
        if channel.name == "joint.effort":
            continue  # NaN there says that the robot does not estimate its torque
        bad = ~np.isfinite(channel.values).all(axis=1)
        if bad.any():
            detail = f"{int(bad.sum())} of {len(bad)} rows have a value that is not finite."
            yield finding("nan", channel.name, _at(channel, int(np.argmax(bad))), detail)


def _length(episode: EpisodeLog, spec: RobotSpec) -> Iterator[Finding]:
    if "joint.position" in episode and len(episode["joint.position"].t_ns):
        seconds = float(episode["joint.position"].seconds()[-1])
        if seconds < 1.25:
            yield finding("short", "joint.position", "file", f"{seconds:.2f} s; one window needs 1.25 s.")


def _motion(episode: EpisodeLog, spec: RobotSpec) -> Iterator[Finding]:
    """Encoders that are stuck, jump, or disagree with the velocity in scale or sign."""
    position = _complete(episode, "joint.position", spec)
    if position is None:
        return
    channel, q = position
    dt = np.diff(channel.t_ns) * 1e-9
    velocity = _complete(episode, "joint.velocity", spec)
    command = _complete(episode, "command.effort", spec)
    for i, joint in enumerate(spec.joint_names):
        step = np.diff(q[:, i])
        if command is not None and not step.any() and np.ptp(command[1][:, i]) > 0.05 * spec.effort_limits[i] > 0:
            detail = f"joint '{joint}' reads {q[0, i]:.4f} rad throughout while its command varies."
            yield finding("stuck", "joint.position", "file", detail)
        limit = 2.0 * spec.joints[i].velocity_limit
        fast = np.flatnonzero(np.abs(step) > limit * np.maximum(dt, 1e-3))
        if fast.size:
            detail = f"joint '{joint}' moves {step[fast[0]]:+.3f} rad in one row; {fast.size} such step(s)."
            yield finding("over_speed", "joint.position", _at(channel, int(fast[0]) + 1), detail)
        if velocity is not None and len(velocity[1]) == len(q):
            yield from _rate_agrees(joint, step, velocity[1][:, i], dt)


def _rate_agrees(joint: str, step: Array, velocity: Array, dt: Array) -> Iterator[Finding]:
    """The slope of position over integrated velocity, which is 1 for one joint in one unit with one sign."""
    if len(dt) < 20:
        return
    block = max(1, round(0.05 / max(float(np.median(dt)), 1e-4)))  # over 50 ms, so that latency and noise average out
    count = len(step) // block
    moved = step[: count * block].reshape(count, block).sum(axis=1)
    integral = (0.5 * (velocity[1:] + velocity[:-1]) * dt)[: count * block].reshape(count, block).sum(axis=1)
    scale = float(np.sqrt(np.sum(moved**2) * np.sum(integral**2)))
    if scale < 1e-3:
        return  # it hardly moves: nothing can be said
    correlation = float(np.sum(moved * integral)) / scale
    slope = float(np.sqrt(np.sum(moved**2) / np.sum(integral**2)))
    if abs(correlation) > 0.8 and (correlation < 0 or not 0.5 < slope < 2.0):
        found = np.sign(correlation) * slope
        detail = f"joint '{joint}': position changes by {found:+.3g} times the integrated velocity; it should be 1."
        yield finding("unit_or_sign", "joint.velocity", "file", detail)


def _effort(episode: EpisodeLog, spec: RobotSpec) -> Iterator[Finding]:
    command = _complete(episode, "command.effort", spec)
    if command is None:
        return
    channel, tau = command
    for i, joint in enumerate(spec.joint_names):
        limit = spec.effort_limits[i]
        size = np.abs(tau[:, i])
        if limit > 0 and (over := np.flatnonzero(size > 1.001 * limit)).size:
            detail = f"joint '{joint}': up to {size.max():.2f} N m, limit {limit:.2f}; {over.size} row(s)."
            yield finding("over_limit", channel.name, _at(channel, int(over[0])), detail)
        elif limit > 0 and (at := np.flatnonzero(size > 0.999 * limit)).size:
            detail = f"joint '{joint}': {at.size / len(size):.0%} of the rows are at the limit of {limit:.2f} N m."
            yield finding("saturated", channel.name, _at(channel, int(at[0])), detail)


def _complete(episode: EpisodeLog, name: str, spec: RobotSpec) -> tuple[Channel, Array] | None:
    """A channel's values in the robot's joint order, where it has rows and every joint."""
    if name not in episode or not len(episode[name].t_ns):
        return None
    if not set(spec.joint_names) <= set(episode[name].components):
        return None
    return episode[name], episode[name].ordered(spec.joint_names)


def _cameras(episode: EpisodeLog, spec: RobotSpec, references: Mapping[str, Array]) -> Iterator[Finding]:
    listed = {f"camera.{c.name}": c for c in spec.cameras}
    joints = episode.channels.get("joint.position")
    for name, count in json.loads(episode.meta.get("damaged", "{}")).items():
        yield finding("damaged_image", name, "file", f"{count} picture(s) cannot be decoded and were left out.")
    for name, channel in episode.channels.items():
        if not name.startswith("camera."):
            continue
        if not len(channel.t_ns):
            yield finding("empty", name, "file", "the camera gave no picture.")
            continue
        camera = listed.get(name)
        size = (camera.width, camera.height) if camera else None
        seen = pictures(
            channel,
            rate_hz=camera.rate_hz if camera else None,
            size=size,
            joints=joints,
            reference=references.get(name),
        )
        for kind, row, detail in screen_images.screen(seen):
            yield finding(kind, name, seen.at(row), detail)


CHECKS: tuple[Callable[[EpisodeLog, RobotSpec], Iterator[Finding]], ...] = (
    _channels, _stamps, _finite, _length, _motion, _effort,
)  # fmt: skip
