"""Screening: what is wrong or odd in an episode, each with its place, before anything is fitted to it.

A blocking finding keeps the episode out of the data set unless a person accepts its kind by name. The rules stand in
transfer/screening/, their thresholds in configs/ingest.yaml. To add one: a row in KINDS and a function in RULES.
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
from transfer.screening import clocks, efforts, encoders, rates
from transfer.screening.config import ScreenConfig
from transfer.screening.signals import Evidence, Noticed, Signals, command_of, thinned

Array = npt.NDArray[np.float64]

KINDS: dict[str, tuple[bool, str]] = {
    # kind -> (blocking, what it means)
    # of files
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
    "ragged": (True, "a row has too few or too many cells"),
    "text": (True, "a cell holds no number"),
    "other_robot": (True, "it was recorded on another robot"),
    "other_version": (True, "it was recorded with another version of this robot's file"),
    "incomplete": (True, "a data set lacks rows or files that its index names"),
    "outside": (True, "a path or link of the file points out of it"),
    "too_large": (True, "it would take more memory than a recording may; pictures are left out if this is accepted"),
    "damaged_video": (True, "a camera's video cannot be decoded, or lacks pictures; the camera is left out"),
    "unstated_unit": (True, "the file does not say in which unit its columns are"),
    "damaged_messages": (True, "messages of a topic do not fit their definition, and were left out"),
    # of topics: what a bag's channels were made of
    "mapped": (False, "a channel was found by types and names"),
    "stamps": (False, "whose clock the time stamps are of"),
    "joined": (False, "joints that came in different messages were brought to common stamps"),
    "left_out": (False, "a topic, a field or some messages were not read, or are empty"),
    # of layouts: what is known of how they were recorded
    "measured_input": (False, "the measured torque is the input, not a command"),
    "nominal_clock": (False, "a file's time column is not the clock of its rows"),
    "converted": (False, "a column is in another unit than the project's, and was converted"),
    "unsigned": (False, "a reading lost its sign"),
    "shared_stamp": (False, "channels that were read one after another carry one stamp"),
    "unknown_zero": (False, "the joints' zeros are not those of the model"),
    "rejected_rows": (False, "rows that the recorder itself marked as bad were left out"),
    "supply_sag": (False, "the supply voltage gives way under load"),
    "torque_off": (False, "the motor is switched off for a part of the time"),
    # of clocks
    "nan": (True, "a value is not finite"),
    "decreasing_time": (True, "time goes back"),
    "repeated_stamp": (False, "rows share one time stamp"),
    "gap": (False, "no row for much longer than the usual period"),
    "clock_jump": (True, "the clock was set forward while the motion went on"),
    "drift": (True, "the clocks of two channels drift apart"),
    "lag": (False, "a channel is late or early against another"),
    "short": (False, "it is too short for one evaluation window"),
    # of readings
    "stuck": (True, "a joint's reading stays the same while it must have moved"),
    "stale_velocity": (False, "a velocity keeps its last value while the joint stands"),
    "wrapped": (True, "a position starts over at the other end of its encoder's range"),
    "spike": (False, "a position leaps there and back"),
    "over_speed": (False, "a position leaps farther than the joint can turn"),
    "quantized": (False, "a reading has coarse steps"),
    "unit": (True, "a reading seems to be in another unit"),
    "sign": (True, "an axis seems to be mirrored"),
    "joint_order": (True, "joints seem to stand in another order"),
    "quaternion": (True, "an orientation is no unit quaternion"),
    "saturated": (False, "a command is at its limit, or a reading stops at one value"),
    "over_limit": (False, "the command is above the robot's effort limit"),
    # of the motion as a whole
    "unexplained": (False, "what was commanded does not explain how the robot moved"),
    "implausible": (True, "the robot moves unlike this robot could"),
    "outlier": (False, "the nominal model errs far more here than in the other episodes"),
    "poisoned": (True, "it contradicts the other episodes, and would move the estimate beyond its share"),
    "duplicate": (False, "it holds the same stretch of recording as another episode"),
    "leakage": (True, "a stretch of it stands in a data set that it must share nothing with"),
    "repaired": (False, "something was repaired because it was asked for"),
    # of pictures
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


def screen(
    episode: EpisodeLog,
    spec: RobotSpec,
    references: Mapping[str, Array] | None = None,
    config: ScreenConfig | None = None,
) -> tuple[Finding, ...]:
    """Everything odd in one episode, in the order of RULES, then in its pictures.

    `references`: channel of a camera -> colour map of its other episodes, by screen_images.reference_of.
    """
    return tuple(n.finding(KINDS[n.kind][0]) for n in notice(episode, spec, references, config))


def notice(
    episode: EpisodeLog,
    spec: RobotSpec,
    references: Mapping[str, Array] | None = None,
    config: ScreenConfig | None = None,
) -> list[Noticed]:
    """As screen(), each finding with the evidence for its figure."""
    signals = Signals(episode, spec)
    found: list[Noticed] = []
    for rule in RULES:
        told = {(n.kind, n.channel) for n in found}  # an earlier rule may have said the same by better evidence
        found += [n for n in rule(signals, config or ScreenConfig()) if (n.kind, n.channel) not in told]
    return [*found, *_cameras(episode, spec, references or {})]


def in_time_order(episode: EpisodeLog) -> EpisodeLog:
    """The episode with each channel's rows sorted by stamp, as an accepted `decreasing_time` needs it."""
    channels = {}
    for name, c in episode.channels.items():
        order = np.argsort(c.t_ns, kind="stable")
        channels[name] = Channel(name, c.unit, c.components, c.t_ns[order], c.values[order])
    return EpisodeLog(episode.name, episode.robot, episode.fingerprint, channels, episode.meta)


def _channels(signals: Signals, config: ScreenConfig) -> Iterator[Noticed]:
    """Position and what the robot is commanded by, with rows and with this robot's joints."""
    episode = signals.episode
    for name in ("joint.position", command_of(signals.spec)):
        if name not in episode:
            have = ", ".join(episode.channels) or "none"
            yield Noticed("missing_channel", name, "file", f"the channels are: {have}.")
        elif not len(episode[name].t_ns):
            yield Noticed("empty", name, "file", "the channel has no rows.")
        elif missing := [j for j in signals.joints if j not in episode[name].components]:
            detail = f"joint '{missing[0]}' is not among {', '.join(episode[name].components)}."
            yield Noticed("missing_channel", name, "file", detail)


def _orientation(signals: Signals, config: ScreenConfig) -> Iterator[Noticed]:
    """`quaternion`: orientations whose norm is not 1."""
    channel = signals.episode.channels.get("imu.orientation")
    if channel is None or not len(channel.t_ns) or channel.values.shape[1] != 4:
        return
    norm = np.linalg.norm(channel.values, axis=1)
    off = np.flatnonzero(np.abs(norm - 1.0) > config.quaternion)
    if off.size:
        trace = {"norm": thinned(signals.seconds(channel), norm)}
        detail = f"{off.size} rows have a norm from {norm.min():.3g} to {norm.max():.3g}; components are w, x, y, z."
        yield Noticed("quaternion", channel.name, signals.at(channel, int(off[0])), detail, Evidence("norm", trace))


def _cameras(episode: EpisodeLog, spec: RobotSpec, references: Mapping[str, Array]) -> Iterator[Noticed]:
    listed = {f"camera.{c.name}": c for c in spec.cameras}
    joints = episode.channels.get("joint.position")
    for name, count in json.loads(episode.meta.get("damaged", "{}")).items():
        yield Noticed("damaged_image", name, "file", f"{count} picture(s) cannot be decoded and were left out.")
    for name, channel in episode.channels.items():
        if not name.startswith("camera."):
            continue
        if not len(channel.t_ns):
            yield Noticed("empty", name, "file", "the camera gave no picture.")
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
            yield Noticed(kind, name, seen.at(row), detail)


RULES: tuple[Callable[[Signals, ScreenConfig], Iterator[Noticed]], ...] = (
    _channels, clocks.stamps, clocks.finite, clocks.length, encoders.stuck, encoders.leaps, encoders.quantized,
    rates.rate_agrees, rates.velocity_lag, rates.implausible_speed, rates.stale_velocity, efforts.limits,
    efforts.plateaus, efforts.effort_follows, efforts.position_follows, _orientation,
)  # fmt: skip
