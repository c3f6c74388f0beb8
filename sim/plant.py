"""Plant: n simulations of one robot, commands in, states out.

The one piece of physics under the batched environment, the simulated driver and identification. It owns the
mujoco Batch, writes targets into per-simulation model fields, and applies what surrounds the physics (gain,
bias, delay, lag, Stribeck friction). A target that is no field of MuJoCo lives in `outer`, where whoever simulates
its effect reads it.
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
UNSTABLE = [
    int(w)
    for w in (mujoco.mjtWarning.mjWARN_BADQPOS, mujoco.mjtWarning.mjWARN_BADQVEL, mujoco.mjtWarning.mjWARN_BADQACC)
]
NOTHING: Mapping[str, Array] = {}


class Plant:
    """nsim simulations of a Model.

    Positions and velocities are (nsim, n_joints) in the RobotSpec's joint order, rad and rad/s; efforts are
    (nsim, n_joints) in N m. A command has one column a joint, in the unit of its actuator's kind: N m for `torque`,
    rad for `position_pd`, rad/s for `velocity`, V for `dcmotor`; columns of joints without an actuator are not read.
    """

    def __init__(
        self,
        model: Model,
        nsim: int,
        timestep_s: float | None = None,
        period_s: float | None = None,
        nthread: int = 0,
        fields: tuple[str, ...] = (),
    ) -> None:
        """`period_s` (default: the spec's control period) is what one step() advances; a multiple of the timestep.

        `fields` are MjData fields that the caller reads in `self.fields`, as mj_step leaves them.
        """
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
        self.line = CommandLine(nsim, len(self.spec.joints), self.period, self.substeps, MAX_DELAY_S)
        self._has_stribeck = False
        self._wire()
        self._bind(fields)
        self.line.set(self._all, self.delay, self.lag)

    def _wire(self) -> None:
        """Which column of a command drives which control."""
        spec, model = self.spec, self.model
        self._driven, kinds = spec.driven, [a.kind for a in spec.actuators]
        self._torque = np.array([k == "torque" for k in kinds], dtype=bool)
        self._all_torque = bool(self._torque.all())
        self._limit = np.full(len(spec.joints), np.inf)
        self._limit[self._driven[self._torque]] = spec.effort_limits[self._driven[self._torque]]
        self._rests_in_place = self._driven[[k == "position_pd" for k in kinds]]
        self._ctrl_is_in_order = np.array_equal(model.ctrl_index, np.arange(model.mj.nu))

    def _bind(self, fields: tuple[str, ...]) -> None:
        batch, mj = self.batch, self.model.mj
        self.qpos, self.qvel = batch.bind("qpos"), batch.bind("qvel")
        self._ctrl = batch.bind("ctrl")
        self.fields: dict[str, Array] = {name: batch.bind(name) for name in fields}
        """MjData field -> (nsim, ...) live, read-only."""
        self.imu: dict[str, Array] = {}
        """Signal of the IMU -> (nsim, k) live, without noise; from the MJCF's sensor of that name."""
        for signal in (s.signal for s in self.spec.sensors if s.signal.startswith("imu.")):
            name = signal.replace(".", "_")
            if mujoco.mj_name2id(mj, mujoco.mjtObj.mjOBJ_SENSOR, name) < 0:
                raise ConfigError(f"robot '{self.spec.name}' measures '{signal}', but its MJCF has no sensor '{name}'.")
            start = int(mj.sensor(name).adr[0])
            self.imu[signal] = batch.bind("sensordata")[:, start : start + int(mj.sensor(name).dim[0])]
        self._force = None if self._all_torque else batch.bind("actuator_force")
        self.effort = np.zeros((self.nsim, len(self.spec.joints)))
        """(nsim, n_joints) torque that the motors gave in the last physics step [N m]."""

    @property
    def position(self) -> Array:
        """(nsim, n_joints) [rad]; a copy."""
        return self.qpos[:, self.model.qpos_index]

    @property
    def velocity(self) -> Array:
        """(nsim, n_joints) [rad/s]; a copy."""
        return self.qvel[:, self.model.dof_index]

    @property
    def unstable(self) -> npt.NDArray[np.bool_]:
        """(nsim,) whether MuJoCo found a simulation's state no longer finite since its reset, and put it back."""
        flags: npt.NDArray[np.bool_] = self.batch.warning[:, UNSTABLE, 1].any(axis=1)
        return flags

    def rest_command(self, position: Array) -> Array:
        """(n, n_joints) the command that asks for nothing at these positions: in place, or 0."""
        command = np.zeros_like(position)
        command[:, self._rests_in_place] = position[:, self._rests_in_place]
        return command

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

    def reset(
        self,
        position: Array,
        velocity: Array,
        ids: Ids | None = None,
        poses: Mapping[str, Array] = NOTHING,
        twists: Mapping[str, Array] = NOTHING,
    ) -> None:
        """Start some simulations at a joint state, (len(ids), n_joints) [rad], [rad/s]; past commands are forgotten.

        poses: free joint -> (len(ids), 7) position and quaternion w x y z; twists: free joint -> (len(ids), 6). Those
        not named start as the model has them, at rest.
        """
        ids = self._all if ids is None else ids
        ordered = np.sort(ids).astype(np.int32)
        self.batch.reset(ordered, stage=mujoco.mjtStage.mjSTAGE_NONE.value)
        self.qpos[np.ix_(ids, self.model.qpos_index)] = position
        self.qvel[np.ix_(ids, self.model.dof_index)] = velocity
        for name, pose in poses.items():
            start = int(self.model.mj.joint(name).qposadr[0])
            self.qpos[ids, start : start + 7] = pose
        for name, twist in twists.items():
            start = int(self.model.mj.joint(name).dofadr[0])
            self.qvel[ids, start : start + 6] = twist
        self.effort[ids] = 0.0
        rest = self.rest_command(position)
        self.line.reset(ids, rest)
        if self.fields or self.imu:  # what they hold is of the episode before
            self._ctrl[np.ix_(ids, self.model.ctrl_index)] = rest[:, self._driven]
            self.batch.forward(ordered)

    def step(self, command: Array, record: bool = False) -> tuple[Array, Array] | None:
        """Advance every simulation by one control period under commands (nsim, n_joints); see run()."""
        command = np.minimum(np.maximum(command, -self._limit), self._limit)
        if record or self._has_stribeck or not self.line.immediate:
            return self.run(self.line.push(command), record)
        control = self._delivered(command)
        self._ctrl[:, self.model.ctrl_index] = control
        self.batch.step(nstep=self.substeps)
        self._measure_effort(control)
        return None

    def run(self, acting: Array, record: bool = False) -> tuple[Array, Array] | None:
        """Advance by acting.shape[1] physics steps under commands that already passed delay and lag.

        acting: (nsim, n, n_joints) before gain and bias. With `record`, returns position and velocity after each
        step, (nsim, n, n_joints) each.
        """
        control, trace = self._delivered(acting), None
        if self._has_stribeck:
            trace = self._run_with_stribeck(control, record)
        else:
            names = ("qpos", "qvel") if record else ()
            out = self.batch.rollout(control.shape[1], self._in_ctrl_order(control), record=names)
            if record:
                trace = out["qpos"][..., self.model.qpos_index], out["qvel"][..., self.model.dof_index]
        self._measure_effort(control[:, -1])
        return trace

    def _delivered(self, command: Array) -> Array:
        """(nsim, ..., n_actuators) what each actuator makes of a command (nsim, ..., n_joints)."""
        control = command[..., self._driven]
        gain, bias = (a if control.ndim == 2 else a[:, None] for a in (self.gain, self.bias))
        if self._all_torque:
            return control * gain + bias
        return np.where(self._torque, control * gain + bias, control)

    def _measure_effort(self, control: Array) -> None:
        force = control if self._force is None else self._force[:, self.model.ctrl_index]
        self.effort[:, self._driven] = force

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
            friction[:, dof] = stribeck_level(self.qvel[:, dof], self.coulomb, self.stribeck, self.stribeck_velocity)
            self._ctrl[:, self.model.ctrl_index] = control[:, j]
            self.batch.step()
            if positions is not None and velocities is not None:
                positions[:, j] = self.qpos[:, self.model.qpos_index]
                velocities[:, j] = self.qvel[:, dof]
        return None if positions is None or velocities is None else (positions, velocities)
