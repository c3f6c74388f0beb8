"""Plant: n simulations of one robot, torque commands in, joint states out.

The one piece of physics under the batched environment, the simulated driver and identification. It owns the
mujoco Batch, writes targets into per-simulation model fields, and applies what surrounds the physics (gain,
bias, delay, lag, Stribeck friction).
"""

from __future__ import annotations

from collections.abc import Mapping

import mujoco
import numpy as np
import numpy.typing as npt
from mujoco.batch import Batch

from robot.config import ConfigError
from sim.actuator import CommandLine, stribeck_level
from sim.model import Model
from sim.parameters import Parameters

Array = npt.NDArray[np.float64]
Ids = npt.NDArray[np.intp]

MAX_DELAY_S = 0.1


class Plant:
    """nsim simulations of a Model.

    Positions and velocities are (nsim, n_joints) in the RobotSpec's joint order, rad and rad/s; efforts are
    (nsim, n_joints) in N m.
    """

    def __init__(
        self, model: Model, nsim: int, timestep_s: float | None = None, period_s: float | None = None, nthread: int = 0
    ) -> None:
        """`period_s` (default: the spec's control period) is what one step() advances; a multiple of the timestep."""
        self.model, self.spec, self.nsim = model, model.spec, nsim
        self.timestep = timestep_s or model.robot.model.timestep_s
        self.period = period_s or model.spec.control_period_s
        self.substeps = round(self.period / self.timestep)
        if abs(self.substeps * self.timestep - self.period) > 1e-9 or self.substeps < 1:
            raise ConfigError(
                f"control period {self.period} s is not a multiple of the physics step {self.timestep} s."
            )
        model.mj.opt.timestep = self.timestep
        self.batch = Batch(model.mj, nsim, nthread)
        self._parameters = Parameters(model, self.batch)
        self._all = np.arange(nsim, dtype=np.intp)
        joints = len(self.spec.joints)
        self.values = self._parameters.values
        """Every target that was ever set: name -> (nsim,), in force now."""
        self.outer = outer = self._parameters.outer
        """Outer targets, in force now: (kind, quantity) -> (nsim, n_objects)."""
        self.gain, self.bias = outer["actuator", "gain"], outer["actuator", "bias"]
        self.stribeck, self.stribeck_velocity = outer["joint", "stribeck_ratio"], outer["joint", "stribeck_velocity"]
        self.offset = outer["sensor", "offset"]
        signals = model.objects(("sensor", "noise"))
        self.noise = {s: outer["sensor", "noise"][:, i : i + 1] for i, s in enumerate(signals)}
        """signal -> (nsim, 1) standard deviation of its readings; sim/sensor.py adds it."""
        self.delay, self.lag, self.shift = (outer["timing", q][:, 0] for q in ("delay", "lag", "shift"))
        self.coulomb = np.tile(model.mj.dof_frictionloss[model.dof_index], (nsim, 1))
        self.line = CommandLine(nsim, joints, self.period, self.substeps, MAX_DELAY_S)
        self._has_stribeck = False
        self._limit, self._driven = self.spec.effort_limits, self.spec.driven
        self._ctrl_is_in_order = np.array_equal(model.ctrl_index, np.arange(model.mj.nu))
        self.effort = np.zeros((nsim, joints))
        """(nsim, n_joints) torque that the motors gave in the last physics step [N m]."""
        self._qpos, self._qvel = self.batch.bind("qpos"), self.batch.bind("qvel")
        self._ctrl = self.batch.bind("ctrl")
        self.line.set(self._all, self.delay, self.lag)

    @property
    def position(self) -> Array:
        """(nsim, n_joints) [rad]; a copy."""
        return self._qpos[:, self.model.qpos_index]

    @property
    def velocity(self) -> Array:
        """(nsim, n_joints) [rad/s]; a copy."""
        return self._qvel[:, self.model.dof_index]

    def set(self, values: Mapping[str, Array], ids: Ids | None = None) -> None:
        """Put targets in force for some simulations; every target not named is at its nominal again.

        values: target -> (len(ids),). ConfigError for an unknown target or a value outside its valid range.
        """
        ids = self._all if ids is None else ids
        self._check_delay(values.get("timing/command/delay"))
        self._parameters.set(values, ids)
        for j, joint in enumerate(self.spec.joint_names):
            if (name := f"joint/{joint}/frictionloss") in self.values:
                self.coulomb[ids, j] = self.values[name][ids]
        if self._has_stribeck:  # the stepping wrote a level over these
            self.batch.expand("dof_frictionloss")[np.ix_(ids, self.model.dof_index)] = self.coulomb[ids]
        self._has_stribeck = bool((self.stribeck > 1.0).any())
        self.line.set(ids, self.delay[ids], self.lag[ids])

    def _check_delay(self, delay: Array | None) -> None:
        if delay is not None and np.max(delay, initial=0.0) > MAX_DELAY_S:
            raise ConfigError(
                f"target 'timing/command/delay': {np.max(delay):g} s is above {MAX_DELAY_S:g} s, the longest simulated."
            )

    def reset(self, position: Array, velocity: Array, ids: Ids | None = None) -> None:
        """Start some simulations at a joint state, (len(ids), n_joints) [rad], [rad/s]; past commands are forgotten."""
        ids = self._all if ids is None else ids
        self.batch.reset(np.sort(ids).astype(np.int32), stage=mujoco.mjtStage.mjSTAGE_NONE.value)
        self._qpos[np.ix_(ids, self.model.qpos_index)] = position
        self._qvel[np.ix_(ids, self.model.dof_index)] = velocity
        self.effort[ids] = 0.0
        self.line.reset(ids)

    def step(self, effort: Array, record: bool = False) -> tuple[Array, Array] | None:
        """Advance every simulation by one control period under commands (nsim, n_joints) [N m]; see run()."""
        return self.run(self.line.push(np.clip(effort, -self._limit, self._limit)), record)

    def run(self, acting: Array, record: bool = False) -> tuple[Array, Array] | None:
        """Advance by acting.shape[1] physics steps under torques that already passed delay and lag.

        acting: (nsim, n, n_joints) [N m] before gain and bias. With `record`, returns position and velocity
        after each step, (nsim, n, n_joints) each.
        """
        control = acting[..., self._driven] * self.gain[:, None] + self.bias[:, None]
        count = control.shape[1]
        self.effort[:, self._driven] = control[:, -1]
        if not self._has_stribeck:
            out = self.batch.rollout(count, self._in_ctrl_order(control), record=("qpos", "qvel") if record else ())
            if not record:
                return None
            return out["qpos"][..., self.model.qpos_index], out["qvel"][..., self.model.dof_index]
        return self._run_with_stribeck(control, record)

    def _in_ctrl_order(self, control: Array) -> Array:
        if self._ctrl_is_in_order:
            return control
        ordered = np.zeros((*control.shape[:-1], self.model.mj.nu))
        ordered[..., self.model.ctrl_index] = control
        return ordered

    def _run_with_stribeck(self, control: Array, record: bool) -> tuple[Array, Array] | None:
        friction = self.batch.expand("dof_frictionloss")
        count, dof = control.shape[1], self.model.dof_index
        positions = np.empty((self.nsim, count, len(dof))) if record else None
        velocities = np.empty_like(positions) if positions is not None else None
        for j in range(count):
            friction[:, dof] = stribeck_level(self._qvel[:, dof], self.coulomb, self.stribeck, self.stribeck_velocity)
            self._ctrl[:, self.model.ctrl_index] = control[:, j]
            self.batch.step()
            if positions is not None and velocities is not None:
                positions[:, j] = self._qpos[:, self.model.qpos_index]
                velocities[:, j] = self._qvel[:, dof]
        return None if positions is None or velocities is None else (positions, velocities)
