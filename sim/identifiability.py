"""How well a window of readings can tell a robot's parameters at best, from the simulator's own sensitivities.

Readings are linear in small changes of the parameters, so with Gaussian noise the posterior follows from the
prior's covariance and the Fisher information of the window; the state in which the window begins is unknown as well
and is estimated along. What an encoder reaches is to be held against this: a share of variance that no window holds
is no fault of the network. Two parameters that act alike share what is known of their sum.

Source: Kay, Fundamentals of Statistical Signal Processing: Estimation Theory, 1993, ch. 12 (linear Bayesian model).
"""

from __future__ import annotations

from dataclasses import dataclass

import mujoco
import numpy as np
import numpy.typing as npt

from robot.observation import Observation
from sim.actuator import units_per_effort
from sim.model import Model, RobotConfig, unit_of
from sim.plant import Plant
from sim.randomization import Randomization
from sim.rollouts import Excitation
from sim.state import Start
from sim.tasks import Task

Array = npt.NDArray[np.float64]

STEP = 1e-5
"""Half of the difference by which a parameter is changed, in its prior's deviations."""
UNKNOWN_POSITION, UNKNOWN_VELOCITY = 0.3, 3.0
"""[rad] or [m], [rad/s] or [m/s] deviations of what is believed of the state in which a window begins."""
SMALLEST_NOISE = 1e-4
"""Deviation of a reading that its sensor's entry calls exact, in the signal's unit."""
DRAWS = 4096


@dataclass(frozen=True, kw_only=True, slots=True)
class Attainable:
    """What windows can tell at best, for each target that varies."""

    names: tuple[str, ...]
    units: tuple[str, ...]
    r2: Array
    """(P,) share of the prior's variance that a window explains, a mean over windows."""
    median: Array
    """(P,) the same of the median window."""
    correlation: Array
    """(P, P) of what is left unknown, a mean over windows: -1 between two targets of which only the sum is told."""

    def partner(self, name: str) -> tuple[str, float]:
        """The target that is most easily taken for another, and their correlation."""
        row = self.correlation[self.names.index(name)].copy()
        row[self.names.index(name)] = 0.0
        other = int(np.abs(row).argmax())
        return self.names[other], float(row[other])


def attainable(
    task: Task,
    robot: RobotConfig,
    randomization: Randomization,
    *,
    history: int,
    windows: int = 32,
    seed: int = 0,
    nthread: int = 0,
) -> Attainable:
    """The best that windows of `history` control steps, begun anywhere the task explores, can tell of `randomization`.

    As in pretraining: the same excitation, the signals of the task's observation, and the sensors' own noise.
    """
    rng = np.random.default_rng(seed)
    model = Model(robot)
    drawn = randomization.draw(model, rng, DRAWS)
    names = tuple(n for n, v in drawn.items() if v.std() > 0.0)
    spread = {n: float(drawn[n].std()) for n in names}
    prior = np.cov(np.stack([drawn[n] / spread[n] for n in names]))
    prior = np.atleast_2d(prior)
    bench = _Bench(task, model, windows, names, nthread)
    truth = {n: v[:windows] for n, v in drawn.items()}
    start = task.explore(rng, windows)
    excitation = Excitation(windows, len(task.action.actuators), task.control_period_s, rng)
    action = bench.actions(truth, start, excitation, history)
    slopes = bench.slopes(truth, spread, start, action)  # (windows, rows, P + states), one row a reading over its noise
    count = len(names)
    deviations = np.concatenate([np.ones(count), bench.unknown_state])
    whole = np.eye(slopes.shape[2])
    whole[:count, :count] = np.linalg.cholesky(prior + 1e-9 * np.eye(count))
    whole = np.diag(deviations) @ whole
    left = np.empty((windows, count, count))
    for i, slope in enumerate(slopes):
        a = slope @ whole
        posterior = whole @ np.linalg.inv(np.eye(a.shape[1]) + a.T @ a) @ whole.T
        left[i] = posterior[:count, :count]
    unknown = np.einsum("ipp->ip", left) / np.diag(prior)
    size = np.sqrt(np.einsum("ipp->ip", left))
    return Attainable(
        names=names,
        units=tuple(unit_of(n) for n in names),
        r2=1.0 - unknown.mean(axis=0),
        median=1.0 - np.median(unknown, axis=0),
        correlation=np.mean(left / (size[:, :, None] * size[:, None]), axis=0),
    )


class _Bench:
    """The same windows again and again, each time with one thing changed."""

    def __init__(self, task: Task, model: Model, windows: int, names: tuple[str, ...], nthread: int) -> None:
        self.task, self.model, self.windows, self.names = task, model, windows, names
        self.plant = Plant(model, windows, period_s=task.control_period_s, nthread=nthread)
        self.layout = Observation(model.spec, task.observation, task.action, windows)
        self.units = units_per_effort(model)
        self.signals = tuple(s for s in self.layout.signals if s in self.plant.truth())
        kinds = model.mj.jnt_type == int(mujoco.mjtJoint.mjJNT_FREE)
        self.base = [model.mj.joint(i).name for i in np.flatnonzero(kinds) if _carries(model.mj, int(i))]
        joints = len(model.spec.joints)
        free = 6 * len(self.base)
        self.unknown_state = np.array(
            [UNKNOWN_POSITION] * joints + [UNKNOWN_VELOCITY] * joints + [0.05] * free + [UNKNOWN_VELOCITY] * free
        )

    def actions(self, truth: dict[str, Array], start: Start, excitation: Excitation, steps: int) -> Array:
        """(steps, windows, A) what the excitation gives the true robots."""
        driven = [self.model.spec.joint_names.index(a.joint) for a in self.model.spec.actuators
                  if a.name in self.task.action.actuators]  # fmt: skip
        self._begin(truth, start)
        made = []
        for _ in range(steps):
            made.append(excitation.next(self.plant.velocity[:, driven]))
            self.plant.step(self.layout.decode(made[-1]) * self.units)
        return np.array(made)

    def slopes(self, truth: dict[str, Array], spread: dict[str, float], start: Start, action: Array) -> Array:
        """(windows, readings, unknowns): change of every reading, over its noise, with each unknown's deviation."""
        columns = []
        for name in self.names:
            step = STEP * spread[name]
            low, high = np.maximum(truth[name] - step, 0.0 if truth[name].min() >= 0.0 else -np.inf), truth[name] + step
            pair = [self._read(truth | {name: value}, start, action) for value in (low, high)]
            columns.append((pair[1] - pair[0]) * (spread[name] / (high - low))[:, None])
        for i in range(len(self.unknown_state)):
            pair = [self._read(truth, start, action, (i, sign * 1e-4)) for sign in (-1.0, 1.0)]
            columns.append((pair[1] - pair[0]) / 2e-4)
        return np.stack(columns, axis=2)

    def _begin(self, truth: dict[str, Array], start: Start, nudge: tuple[int, float] | None = None) -> None:
        joints, plant = len(self.model.spec.joints), self.plant
        plant.set(truth)
        plant.reset(start.position, start.velocity, None, start.poses, start.twists)
        if nudge is None:
            return
        i, size = nudge
        if i < joints:
            plant.qpos[:, self.model.qpos_index[i]] += size
        elif i < 2 * joints:
            plant.qvel[:, self.model.dof_index[i - joints]] += size
        else:
            step = np.zeros((self.windows, self.model.mj.nv))
            dof = int(self.model.mj.joint(self.base[0]).dofadr[0])
            i -= 2 * joints
            if i < 6:
                step[:, dof + i] = size
                for row in range(self.windows):
                    mujoco.mj_integratePos(self.model.mj, plant.qpos[row], step[row], 1.0)
            else:
                plant.qvel[:, dof + i - 6] += size

    def _read(
        self, truth: dict[str, Array], start: Start, action: Array, nudge: tuple[int, float] | None = None
    ) -> Array:
        """(windows, readings) of every control step, each over its sensor's noise."""
        self._begin(truth, start, nudge)
        rows = []
        for step in action:
            self.plant.step(self.layout.decode(step) * self.units)
            now = self.plant.truth()
            now["joint.position"] = now["joint.position"] + self.plant.outer["sensor", "offset"]
            rows.append(np.concatenate([now[s] / self._noise(s) for s in self.signals], axis=1))
        return np.concatenate(rows, axis=1)

    def _noise(self, signal: str) -> float:
        sensor = self.model.spec.sensor(signal)
        return max(float(np.hypot(sensor.noise, sensor.resolution / np.sqrt(12.0))), SMALLEST_NOISE)


def _carries(mj: mujoco.MjModel, joint: int) -> bool:
    return bool((mj.body_parentid == mj.jnt_bodyid[joint]).any())
