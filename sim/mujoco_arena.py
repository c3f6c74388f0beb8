"""The arena of every robot and task: MuJoCo, through the environment that policies are trained in.

Knobs are the rows of sim.targets that the robot has; `torque_noise/<joint>`, the standard deviation of a torque [N m]
on a driven joint that is drawn anew at every control step; and `delay/<camera>`, latency [s] beyond the camera's own.
Some names stand for several knobs that move together:

    velocity_noise     noise of the measured velocities of joints and trunk, or of the positions where none is measured
    torque_noise       of all driven joints
    torque_response    time constant [s] of the commands' first-order response: timing/command/lag
    delay              of every sensor, and of every camera
    body/*/mass        each mass by itself

Pushes are forces on the trunk of a robot with a floating base, else torques on the driven joints, in both cases
constant over a control period.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from typing import Literal

import mujoco
import numpy as np
import numpy.typing as npt

from robot.config import ConfigError
from sim.arena import Flags, Outcome, Subject, Trace, Unit, fits, sensor_figure, starts, unknown
from sim.arranged import Arranged
from sim.model import Model, RobotConfig
from sim.perturbation import Perturbation, pushing
from sim.randomization import NOMINAL, Randomization
from sim.targets import split
from sim.tasks import Task
from sim.vecenv import BatchedEnv

Array = npt.NDArray[np.float64]

NOISE, LATE = "torque_noise/", "delay/"
VELOCITIES = ("joint.velocity", "imu.gyro")


@dataclass(frozen=True, kw_only=True, slots=True)
class MujocoArenaConfig:
    """The robot and the task as they are."""

    kind: Literal["mujoco"] = "mujoco"
    duration_s: float | None = None
    """Of an episode [s]; default: the task's."""
    start: tuple[float, ...] = ()
    """Joint positions at the start, at rest [rad]; default: the task's own start, drawn for each run."""


class MujocoArena:
    """n runs in MuJoCo; see the module's head."""

    def __init__(
        self, config: MujocoArenaConfig, task: Task, robot: RobotConfig, base: Randomization = NOMINAL, nthread: int = 0
    ) -> None:
        """`base`: the middle of these laws is the nominal; a posterior's is the estimate."""
        self.config, self.robot, self._nthread = config, robot, nthread
        self.task = replace(task, episode_s=config.duration_s or task.episode_s)
        self.duration_s = self.task.episode_s
        self.model = Model(robot)
        base.check(self.model)
        self.base = {name: float(value[0]) for name, value in base.center(self.model).items()}
        """Targets that are not at the robot's nominal -> where they stand."""
        self._known = self.model.available()
        self._noisy = {
            NOISE + robot.spec.joint_names[j]: int(j) for j in robot.spec.driven if robot.spec.effort_limits[j]
        }
        self._late = {LATE + c.name: f"camera/{c.name}/latency" for c in robot.spec.cameras}
        self._dofs, self.channels = _channels(self.model)

    def expand(self, name: str) -> dict[str, tuple[str, ...]]:
        spec = self.robot.spec
        signals = tuple(s.signal for s in spec.sensors)
        together: dict[str, tuple[str, ...]] = {
            "torque_noise": tuple(self._noisy),
            "torque_response": ("timing/command/lag",),
            "velocity_noise": tuple(f"sensor/{s}/noise" for s in VELOCITIES if s in signals)
            or ("sensor/joint.position/noise",),
            "delay": (*(f"sensor/{s}/delay" for s in signals), *self._late),
        }
        if name in together:
            return {name: together[name]}
        found: dict[str, tuple[str, ...]] = {
            knob: (knob,) for knob in (*self._known, *self._noisy, *self._late) if fnmatchcase(knob, name)
        }
        if not found:
            if "/" not in name:
                raise unknown(name, list(together))
            split(name)  # refuses what no robot has
            if "*" not in name:  # a pattern may well match nothing of this robot
                self.model.nominal(name)
        return found

    def nominal(self, knob: str) -> float:
        if knob in self._noisy or knob in self._late:
            return 0.0
        return self.base.get(knob, self.model.nominal(knob))

    def unit(self, knob: str, relative_to: Unit) -> float:
        spec = self.robot.spec
        if relative_to == "sensor" and knob.startswith("sensor/"):
            return sensor_figure(spec, split(knob)[1])
        if relative_to == "torque_limit" and (joint := knob.split("/")[1]) in spec.joint_names:
            return float(spec.effort_limits[spec.joint_names.index(joint)])
        if relative_to in ("", "nominal"):
            return self.nominal(knob) if relative_to else 1.0
        if relative_to == "control_period":
            return self.task.control_period_s
        raise ConfigError(f"the range of '{knob}' is relative to {relative_to}, which means nothing for it.")

    def physical(self, perturbations: Sequence[Perturbation]) -> Flags:
        """What MuJoCo cannot simulate is refused by each target's own range."""
        return np.ones(len(perturbations), dtype=bool)

    def run(self, subject: Subject, perturbations: Sequence[Perturbation], *, trace: bool = False) -> Outcome:
        fits(self.task, subject)
        if subject.spec.fingerprint() != self.robot.spec.fingerprint():
            raise ConfigError(
                f"the controller was made for robot '{subject.spec.name}' with fingerprint "
                f"{subject.spec.fingerprint()}; its configuration now has {self.robot.spec.fingerprint()}: restore it, "
                "or train again."
            )
        if abs(subject.control_period_s - self.task.control_period_s) > 1e-9:
            raise ConfigError(
                f"the controller runs every {subject.control_period_s:g} s; task '{self.task.name}' asks for every "
                f"{self.task.control_period_s:g} s."
            )
        task = replace(self.task, observation=subject.observation, action=subject.action)
        env = BatchedEnv(
            task, self.robot, self._rows(perturbations), len(perturbations), seed=perturbations[0].seed,
            start="evaluate", autoreset=False, privileged=subject.privileged, nthread=self._nthread,
        )  # fmt: skip
        return self._episode(env, subject, perturbations, trace)

    def _rows(self, perturbations: Sequence[Perturbation]) -> Arranged:
        rows = [self._targets(p) for p in perturbations]
        names = dict.fromkeys(name for row in rows for name in row)
        return Arranged.of("perturbed", {t: np.array([row.get(t, self.nominal(t)) for row in rows]) for t in names})

    def _targets(self, perturbation: Perturbation) -> dict[str, float]:
        """Where the targets stand in one run."""
        values = {k: v for k, v in perturbation.values.items() if k not in self._noisy}
        late = {self._late[k]: self.nominal(self._late[k]) + values.pop(k) for k in list(values) if k in self._late}
        return self.base | late | values

    def _episode(
        self, env: BatchedEnv, subject: Subject, perturbations: Sequence[Perturbation], trace: bool
    ) -> Outcome:
        n, act, joints = len(perturbations), subject.episode(), len(self.robot.spec.joints)
        inputs = env.reset(start=starts(self.task, perturbations, self.config.start))
        push = self._pushes(perturbations)
        force = self._forces(perturbations, push)
        applied = env.plant.batch.bind("qfrc_applied")
        ended, success = np.zeros(n, dtype=bool), np.zeros(n, dtype=bool)
        returns, final = np.zeros(n), np.zeros((n, 2 * joints))
        positions, commands = [], []
        for k in range(self.task.steps):
            applied[:] = force[k]
            step = env.step(act(inputs))
            first = step.done & ~ended  # without autoreset an ended simulation runs on; only its first end counts
            success[first], returns[first] = step.success[first], step.episode_return[first]
            final[first] = np.concatenate([env.state.position, env.state.velocity], axis=1)[first]
            ended |= first
            inputs = step.inputs
            positions.append(env.state.position)
            commands.append(env.state.command)
            if ended.all():
                break
        times = self.task.control_period_s * np.arange(1, len(positions) + 1)
        seen = Trace(
            time_s=times, position=np.stack(positions), command=np.stack(commands), push=push[: len(times)]
        ) if trace else None  # fmt: skip
        return Outcome(success=success, returns=returns, final=final, trace=seen)

    def _pushes(self, perturbations: Sequence[Perturbation]) -> Array:
        """(steps, n, n_channels) of each control step, as it is in its middle."""
        middle = self.task.control_period_s * (np.arange(self.task.steps) + 0.5)
        return np.stack([pushing(p.pulses, tuple(self.channels), middle) for p in perturbations], axis=1)

    def _forces(self, perturbations: Sequence[Perturbation], push: Array) -> Array:
        """(steps, n, nv) pushes and torque noise on MuJoCo's degrees of freedom."""
        out = np.zeros((*push.shape[:2], self.model.mj.nv))
        out[..., self._dofs] = push
        joints = self.model.dof_index[list(self._noisy.values())]
        for i, p in enumerate(perturbations):
            sigma = np.array([p.values.get(knob, 0.0) for knob in self._noisy])
            if sigma.any():
                out[:, i, joints] += sigma * np.random.default_rng([p.seed, 1]).standard_normal((len(out), len(sigma)))
        return out


def _channels(model: Model) -> tuple[npt.NDArray[np.intp], dict[str, float]]:
    """Degrees of freedom that are pushed, and channel -> its limit."""
    mj, spec = model.mj, model.spec
    root = int(mj.body_rootid[mj.jnt_bodyid[mj.joint(spec.joint_names[0]).id]])
    joint = int(mj.body_jntadr[root])
    if joint >= 0 and mj.jnt_type[joint] == mujoco.mjtJoint.mjJNT_FREE:
        weight = float(mj.body_subtreemass[root] * np.linalg.norm(mj.opt.gravity))
        return mj.jnt_dofadr[joint] + np.arange(2), {f"{mj.body(root).name}/{axis}": weight for axis in "xy"}
    driven = [j for j in spec.driven if spec.effort_limits[j] > 0.0]
    return model.dof_index[driven], {spec.joint_names[j]: float(spec.effort_limits[j]) for j in driven}
