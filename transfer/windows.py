"""From recorded episodes to the windows that encoders are adapted on.

A recording has its own clocks; a window has the policy's. Joint states are interpolated at the control instants, the
command is the mean of what was in force during each control period, and the observation is made by the one encode()
that training and the robot use. Windows reach over no gap in the recording, and over no row whose command the
policy could not have given.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from fnmatch import fnmatch

import numpy as np
import numpy.typing as npt

from policies.encoders.physics import EncoderCard, EncoderConfig
from policies.encoders.windows import WindowData, cut, join
from robot.config import ConfigError
from robot.log import Channel, EpisodeLog, LogError
from robot.observation import ActionConfig, Observation, ObservationConfig
from robot.spec import RobotSpec
from sim.model import Model, RobotConfig
from sim.open_loop import OpenLoop, missing
from sim.plant import MAX_DELAY_S
from sim.randomization import Randomization
from sim.rollouts import roll_out
from sim.tasks import Task
from transfer.rigid import parametric

Array = npt.NDArray[np.float64]

MAX_GAP_PERIODS = 2.5
"""A stretch without readings longer than this many control periods ends a trajectory."""
TOLERANCE = 0.02
"""Share of full command by which a logged command may be outside what the policy can give."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Trajectory:
    """One recorded episode on the control clock: T rows."""

    observation: npt.NDArray[np.float32]
    """(T, D)"""
    action: npt.NDArray[np.float32]
    """(T, A) in [-1, 1]"""
    start: npt.NDArray[np.bool_]
    """(T,) where a stretch without gaps begins."""


def trajectory(
    log: EpisodeLog, spec: RobotSpec, observation: ObservationConfig, action: ActionConfig, control_period_s: float
) -> Trajectory:
    """Resample a recording to the control period; LogError when it lacks a channel that the observation needs."""
    layout = Observation(spec, replace(observation, history=0, cameras=()), action)
    channels = {signal: _whole(log[signal]) for signal in layout.signals}
    command = _whole(log[f"command.{action.kind}"])
    period = round(control_period_s * 1e9)
    first = max(c.t_ns[0] for c in [*channels.values(), command])
    last = min(c.t_ns[-1] for c in [*channels.values(), command])
    t = np.arange(first, last - period + 1, period, dtype=np.int64)
    wide = Observation(spec, layout.config, action, batch=len(t))
    actions, possible = _actions(command, t, period, spec, action)
    wide.decode(np.concatenate([np.zeros((1, actions.shape[1])), actions[:-1]])[: len(t)])
    signals = {name: _interpolate(c, t, _names(c, spec)) for name, c in channels.items()}
    start = np.zeros(len(t), dtype=bool)
    start[:1] = True
    for channel in channels.values():
        start |= _after_gap(channel, t, period)
    broken = ~possible
    broken[1:] |= ~possible[:-1]  # the state after a foreign command is no consequence of an action either
    return Trajectory(
        observation=wide.encode(signals)["observation"], action=actions.astype(np.float32), start=start | broken
    )


def inputs_at(path: Trajectory, history: int, rows: npt.NDArray[np.intp]) -> dict[str, npt.NDArray[np.float32]]:
    """What a policy would have been shown at n rows of a trajectory, by input name: arrays (n, ...).

    The history of a row reaches back over no start, as if the policy had begun there.
    """
    given = {"observation": path.observation[rows]}
    if history:
        began = np.maximum.accumulate(np.where(path.start, np.arange(len(path.start)), 0))
        past = rows[:, None] + np.arange(-history, 0)
        mask = (past >= began[rows][:, None]).astype(np.float32)
        steps = np.concatenate([path.observation, path.action], axis=1)
        given |= {"history": steps[np.maximum(past, 0)] * mask[..., None], "history_mask": mask}
    return given


def windows_of(
    logs: Sequence[EpisodeLog],
    spec: RobotSpec,
    observation: ObservationConfig,
    action: ActionConfig,
    control_period_s: float,
    *,
    history: int,
    horizon: int,
    count: int,
    rng: np.random.Generator,
    base: OpenLoop | None = None,
) -> WindowData | None:
    """`count` windows of each recording, grouped by recording; None when no recording is long enough for one.

    `base` foretells each window: for an encoder whose card names a simulator, base_of() that card.
    """
    parts = []
    for number, log in enumerate(logs):
        path = trajectory(log, spec, observation, action, control_period_s)
        if len(path.start) <= horizon:
            continue
        part = cut(
            path.observation[None],
            path.action[None],
            path.start[None],
            history=history,
            horizon=horizon,
            count=count,
            rng=rng,
            group=number,
        )
        if len(part):
            parts.append(part)
    return with_base(join(parts), base) if parts else None


def simulated_windows(
    task: Task,
    robot: RobotConfig,
    randomization: Randomization,
    encoder: EncoderConfig,
    *,
    seed: int,
    base: OpenLoop | None = None,
    nthread: int = 0,
) -> WindowData:
    """Labelled windows of randomized rollouts, as many as `encoder` asks for.

    They stand on `base`; when none is given and `encoder.base` asks for one, on the simulator in the middle of
    `randomization` (the estimate, for a posterior). Where the observation does not show the state that a simulation
    would have to start from, there is no base.
    """
    rollouts = roll_out(
        task,
        robot,
        randomization,
        simulations=encoder.simulations,
        seconds=encoder.seconds,
        seed=seed,
        nthread=nthread,
    )
    told = [i for i, name in enumerate(rollouts.names) if any(fnmatch(name, pattern) for pattern in encoder.told)]
    if rollouts.names and not told:
        raise ConfigError(f"encoder.told={list(encoder.told)} names none of {list(rollouts.names)}.")
    windows = cut(
        rollouts.observation,
        rollouts.action,
        rollouts.start,
        history=encoder.history,
        horizon=encoder.horizon,
        count=encoder.windows,
        rng=np.random.default_rng(seed),
        parameters=rollouts.parameters[:, told],
        names=tuple(rollouts.names[i] for i in told),
        units=tuple(rollouts.units[i] for i in told),
    )
    middle = {name: float(value[0]) for name, value in randomization.center(Model(robot)).items()}
    if encoder.equations:
        mean = windows.parameters.mean(axis=0)
        known = parametric(robot, task.observation, task.action, randomization, windows.names, mean)
        windows = replace(windows, equations=known)
    if base is not None or not encoder.base or missing(robot, task.observation, task.action):
        return with_base(windows, base)
    period = task.control_period_s
    return with_base(windows, OpenLoop(robot, task.observation, task.action, period, middle, nthread))


def with_base(windows: WindowData, base: OpenLoop | None) -> WindowData:
    """The windows with what a simulator foretells of each; without one, as they are."""
    if base is None:
        return windows
    earlier, given = windows.earlier(round(MAX_DELAY_S / base.period_s))
    foretold = base(windows.observation, earlier, given, windows.action)
    return replace(windows, base=foretold, simulator=base.parameters)


def base_of(card: EncoderCard, robot: RobotConfig, layout: Observation, nthread: int = 0) -> OpenLoop | None:
    """The simulator on which an encoder's predictions stand; None for an encoder that was trained without one."""
    if card.base is None:
        return None
    return OpenLoop(robot, layout.config, layout.action, card.control_period_s, card.base, nthread)


def _whole(channel: Channel) -> Channel:
    """The channel without rows that have no number, in the order of time."""
    later = np.concatenate([[True], np.diff(channel.t_ns) > 0])[: len(channel.t_ns)]
    good = np.isfinite(channel.values.astype(np.float64)).all(axis=1) & later
    if not good.any():
        raise LogError(f"{channel.name} has no row of numbers, and the policy's observation or action needs it.")
    return replace(channel, t_ns=channel.t_ns[good], values=channel.values[good])


def _names(channel: Channel, spec: RobotSpec) -> tuple[str, ...]:
    return spec.joint_names if channel.name.startswith("joint.") else channel.components


def _interpolate(channel: Channel, t: npt.NDArray[np.int64], names: tuple[str, ...]) -> Array:
    """(T, n) values at the instants `t`; joint angles count full turns, so no wrap is crossed."""
    origin = t[0] if len(t) else 0
    columns = channel.ordered(names).T
    return np.stack([np.interp((t - origin) * 1e-9, (channel.t_ns - origin) * 1e-9, c) for c in columns], axis=1)


def _after_gap(channel: Channel, t: npt.NDArray[np.int64], period: int) -> npt.NDArray[np.bool_]:
    """(T,) true at instants that lie inside a gap, and at the first one after it."""
    gaps = np.flatnonzero(np.diff(channel.t_ns) > MAX_GAP_PERIODS * period)
    inside = np.zeros(len(t), dtype=bool)
    for i in gaps:
        inside |= (t > channel.t_ns[i]) & (t < channel.t_ns[i + 1] + period)
    return inside


def _actions(
    command: Channel, t: npt.NDArray[np.int64], period: int, spec: RobotSpec, action: ActionConfig
) -> tuple[Array, npt.NDArray[np.bool_]]:
    """Actions (T, A) as the policy's outputs, and (T,) whether the policy could have given that command."""
    held = _mean_held(command.t_ns, command.ordered(spec.joint_names), t, period)
    joints = [next(a.joint for a in spec.actuators if a.name == name) for name in action.actuators]
    driven = [spec.joint_names.index(joint) for joint in joints]
    rest = spec.default_pose if action.kind == "position" else np.zeros(len(spec.joints))
    outputs = (held[:, driven] - rest[driven]) / np.array(action.scale)
    others = np.delete(held - rest, driven, axis=1)
    limits = np.delete(spec.effort_limits, driven) if action.kind == "effort" else np.ones(others.shape[1])
    possible = (np.abs(outputs) <= 1.0 + TOLERANCE).all(axis=1) & (np.abs(others) <= TOLERANCE * limits).all(axis=1)
    return np.clip(outputs, -1.0, 1.0), possible


def _mean_held(stamps: npt.NDArray[np.int64], values: Array, t: npt.NDArray[np.int64], period: int) -> Array:
    """(T, n) mean over [t, t + period) of a command that holds from each stamp to the next."""
    origin = stamps[0]
    seconds = (stamps - origin) * 1e-9
    area = np.concatenate([np.zeros((1, values.shape[1])), np.cumsum(values[:-1] * np.diff(seconds)[:, None], axis=0)])

    def integral(at: npt.NDArray[np.int64]) -> Array:
        i = np.clip(np.searchsorted(stamps, at, side="right") - 1, 0, len(stamps) - 1)
        return area[i] + values[i] * ((at - origin) * 1e-9 - seconds[i])[:, None]

    return (integral(t + period) - integral(t)) / (period * 1e-9)
