"""Motion: what a robot did in one episode, to be looked at: from a recorded log, or from a controller in simulation.

Configurations are of the whole model, free bodies included; a log knows its joints and at most which way the IMU
points, so a base that moves freely stays where it starts. Traces are what is drawn beside the picture.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import mujoco
import numpy as np
import numpy.typing as npt

from robot.log import Channel, EpisodeLog
from sim.evaluate import Act
from sim.model import Model, RobotConfig
from sim.randomization import Randomization
from sim.tasks import Task
from sim.vecenv import BatchedEnv

Array = npt.NDArray[np.float64]

FRAME_S = 1.0 / 30.0
"""Time between two frames that are kept [s]."""


@dataclass(frozen=True, slots=True)
class Trace:
    """One plotted quantity with its components."""

    name: str
    unit: str
    components: tuple[str, ...]
    time: Array
    """(n,) [s]"""
    values: Array
    """(n, len(components))"""


@dataclass(frozen=True, slots=True)
class Motion:
    """One episode; row k of `qpos` is shown from k x frame_s on."""

    name: str
    robot: Model
    model: mujoco.MjModel
    """The robot's model, with the parameters that this episode had."""
    qpos: Array
    """(n_frames, nq)"""
    frame_s: float
    traces: tuple[Trace, ...]
    goal: tuple[float, float, float] | None = None
    """A place in the world that the episode is about [m]."""
    notes: tuple[str, ...] = ()
    """What a viewer should know of how this was made."""


def of_log(log: EpisodeLog, model: Model, name: str = "") -> Motion:
    """The motion in a log: joints between their readings by linear interpolation.

    LogError when the log has no joint positions.
    """
    position = log["joint.position"]
    stamps = [c.t_ns for c in log.channels.values() if len(c.t_ns)]
    start = min(t[0] for t in stamps)
    end = max(t[-1] for t in stamps)
    time: Array = FRAME_S * np.arange(int((end - start) * 1e-9 / FRAME_S + 1e-6) + 1, dtype=np.float64)
    qpos = np.tile(_rest(model), (len(time), 1))
    own = (position.t_ns - start) * 1e-9
    for column, values in zip(model.qpos_index, position.ordered(model.spec.joint_names).T, strict=True):
        known = np.isfinite(values)
        if known.any():
            qpos[:, column] = np.interp(time, own[known], values[known])
    notes = []
    if log.fingerprint != model.spec.fingerprint():
        notes.append(f"Drawn as the robot '{model.spec.name}' of now, whose spec is not the one that recorded this.")
    free = [j for j in range(model.mj.njnt) if model.mj.jnt_type[j] == int(mujoco.mjtJoint.mjJNT_FREE)]
    if free:
        notes.append("A log does not say where free bodies are: they are shown where they start.")
        if "imu.orientation" in log and len(log["imu.orientation"].t_ns):
            address = int(model.mj.jnt_qposadr[free[0]])
            qpos[:, address + 3 : address + 7] = _held(log["imu.orientation"], start, time)
            notes[-1] = "A log does not say where the base is: it turns as its IMU did, but stays in place."
    traces = tuple(_trace(c, start) for c in log.channels.values() if c.values.dtype.kind == "f" and len(c.t_ns))
    return Motion(name or log.name, model, model.mj, qpos, FRAME_S, traces, notes=tuple(notes))


def _rest(model: Model) -> Array:
    """(nq,) the keyframe `home` or the model's own pose, with the joints at the spec's default."""
    keys = [model.mj.key(i).name for i in range(model.mj.nkey)]
    rest = np.array(model.mj.key("home").qpos if "home" in keys else model.mj.qpos0)
    rest[model.qpos_index] = model.spec.default_pose
    return rest


def _held(channel: Channel, start: int, time: Array) -> Array:
    """(len(time), k) a channel's newest row at each time, its first row before that."""
    rows = np.searchsorted((channel.t_ns - start) * 1e-9, time + 1e-9, side="right") - 1
    return np.asarray(channel.values[rows.clip(0)])


def _trace(channel: Channel, start: int) -> Trace:
    time: Array = (channel.t_ns - start) * np.float64(1e-9)
    return Trace(channel.name, channel.unit, channel.components, time, np.asarray(channel.values, np.float64))


def of_controller(
    act: Act, task: Task, robot: RobotConfig, law: Randomization, *, seed: int, history: int | None = None
) -> Motion:
    """One evaluation episode of a controller in simulation, to its end; the robot is drawn from `law` by `seed`."""
    env = BatchedEnv(task, robot, law, 1, history=history, seed=seed, start="evaluate", autoreset=False, nthread=1)
    inputs, state, names = env.reset(), env.state, env.spec.joint_names  # the simulator's truth, not the policy's view
    stride = max(1, round(FRAME_S / task.control_period_s))
    qpos = [env.plant.qpos[0].copy()]
    rows: list[tuple[Array, Array, Array, Array]] = []
    terms: list[dict[str, float]] = []
    ended, success = "", False
    for step_index in range(1, task.steps + 1):
        step = env.step(act(inputs))
        inputs = step.inputs
        if step_index % stride == 0:
            qpos.append(env.plant.qpos[0].copy())
        rows.append((state.position[0], state.velocity[0], state.command[0], state.effort[0].copy()))
        terms.append({name: float(value[0]) for name, value in task.reward(state).items()})
        if step.done[0]:
            success = bool(step.success[0])
            ended = "ended early, in failure" if step.terminated[0] else "lasted its whole time"
            break
    time: Array = np.arange(1, len(rows) + 1, dtype=np.float64) * task.control_period_s
    position, velocity, command, effort = (np.stack(column) for column in zip(*rows, strict=True))
    driven = [names.index(a.joint) for a in env.spec.actuators]
    unit = {"effort": "N m", "position": "rad", "velocity": "rad/s"}[task.action.kind]
    traces = (
        Trace("joint.position", "rad", names, time, position),
        Trace("joint.velocity", "rad/s", names, time, velocity),
        Trace(f"command.{task.action.kind}", unit, tuple(names[i] for i in driven), time, command[:, driven]),
        Trace("joint.effort", "N m", names, time, effort),
        Trace("reward", "1", tuple(terms[0]), time, np.array([list(t.values()) for t in terms])),
    )
    outcome = "success" if success else "no success"
    return Motion(
        name=f"{task.name}, seed {seed}: {outcome}",
        robot=env.model,
        model=env.plant.batch.get_model(0),
        qpos=np.array(qpos),
        frame_s=stride * task.control_period_s,
        traces=traces,
        goal=_place(task, state.goal[0]),
        notes=(f"Simulated; the episode {ended} ({len(rows) * task.control_period_s:g} s): {outcome}.",),
    )


def _place(task: Task, goal: Array) -> tuple[float, float, float] | None:
    """The goal as a place in the world, where the task names its components so."""
    if task.observation.goal[:2] != ("x", "y"):
        return None
    return float(goal[0]), float(goal[1]), float(goal[2]) if task.observation.goal == ("x", "y", "z") else 0.0


def find_logs(folder: Path) -> list[Path]:
    """The episodes in a folder and below it, in order of their names."""
    return sorted(folder.rglob("*.mcap"))
