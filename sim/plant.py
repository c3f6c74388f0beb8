"""Plant: n simulations of one robot, commands in, states out.

The one piece of physics under the batched environment, the simulated driver and identification. It owns the
mujoco Batch, writes targets into per-simulation model fields, and sends commands through what surrounds the physics:
their way to the motor (sim/command.py) and the motor itself (sim/actuator.py). A target that is no field of MuJoCo
lives in `outer`, where whoever simulates its effect reads it.

Where no simulation has an effect that needs the state at each physics step, one control period is one call of the
Batch; otherwise it is one call a physics step, with numpy in between.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Literal

import mujoco
import numpy as np
import numpy.typing as npt

from robot.config import ConfigError
from sim import engine
from sim.actuator import Actuators
from sim.command import CommandLine
from sim.disturbance import Disturbances
from sim.engine import Backend
from sim.model import Model
from sim.parameters import Parameters

Array = npt.NDArray[np.float64]
Ids = npt.NDArray[np.intp]

MAX_DELAY_S = 0.1
_OUTER = os.environ.get("OMP_NUM_THREADS", "").partition(",")[0].strip()
THREADS = int(_OUTER) if _OUTER.isdecimal() else 0
"""Of a Batch that is not told how many: as many as other libraries are allowed, else one a core. Where other programs
keep the cores busy, each step waits for the slowest thread."""
UNSTABLE = [
    int(w)
    for w in (mujoco.mjtWarning.mjWARN_BADQPOS, mujoco.mjtWarning.mjWARN_BADQVEL, mujoco.mjtWarning.mjWARN_BADQACC)
]
Record = bool | Literal["truth"]
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
        backend: Backend = "cpu",
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
        self.batch = engine.simulations(model.mj, nsim, nthread or THREADS, backend)
        self._parameters = Parameters(model, self.batch)
        self._all = np.arange(nsim, dtype=np.intp)
        self.values = self._parameters.values
        """Every target that was ever set: name -> (nsim,), in force now."""
        self.outer = outer = self._parameters.outer
        """Outer targets, in force now: (kind, quantity) -> (nsim, n_objects)."""
        self.delay, self.lag, self.shift = (outer["timing", q][:, 0] for q in ("delay", "lag", "shift"))
        self.line = CommandLine(nsim, len(self.spec.joints), self.period, self.substeps, MAX_DELAY_S)
        self.actuators = Actuators(model, self.batch, self._parameters)
        self.disturbances = Disturbances(model, self.batch, outer, self.period)
        """Forces from outside."""
        self._wire()
        self._bind(fields)
        self._set_line(self._all)

    def _wire(self) -> None:
        """Which column of a command drives which control."""
        spec, model = self.spec, self.model
        self._driven, kinds = spec.driven, [a.kind for a in spec.actuators]
        torque = self._driven[[k == "torque" for k in kinds]]
        self._limit = np.full(len(spec.joints), np.inf)
        self._limit[torque] = spec.effort_limits[torque]
        self._rests_in_place = self._driven[[k == "position_pd" for k in kinds]]
        self._driven_dof = model.dof_index[self._driven]
        self._step_s = self.timestep
        self._ctrl_is_in_order = np.array_equal(model.ctrl_index, np.arange(model.mj.nu))

    def _bind(self, fields: tuple[str, ...]) -> None:
        batch, mj = self.batch, self.model.mj
        self.qpos, self.qvel = batch.bind("qpos"), batch.bind("qvel")
        self._ctrl = batch.bind("ctrl")
        self.fields: dict[str, Array] = {name: batch.bind(name) for name in fields}
        """MjData field -> (nsim, ...) live, read-only."""
        self.trace: dict[str, Array] = {}
        """truth() after each physics step of the last run() with record="truth": signal -> (nsim, n, k)."""
        self.imu: dict[str, Array] = {}
        """Signal of the IMU -> (nsim, k) live, without noise; from the MJCF's sensor of that name."""
        self._imu_columns: dict[str, slice] = {}
        for signal in (s.signal for s in self.spec.sensors if s.signal.startswith("imu.")):
            name = signal.replace(".", "_")
            if mujoco.mj_name2id(mj, mujoco.mjtObj.mjOBJ_SENSOR, name) < 0:
                raise ConfigError(f"robot '{self.spec.name}' measures '{signal}', but its MJCF has no sensor '{name}'.")
            start = int(mj.sensor(name).adr[0])
            self._imu_columns[signal] = slice(start, start + int(mj.sensor(name).dim[0]))
            self.imu[signal] = batch.bind("sensordata")[:, self._imu_columns[signal]]
        self._force = batch.bind("qfrc_actuator")
        # bound only where someone needs it: it costs a copy a step
        self._bias_force = batch.bind("qfrc_bias") if self.actuators.bears_load else np.zeros((self.nsim, mj.nv))
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

    def truth(self, ids: Ids | slice = slice(None)) -> dict[str, Array]:
        """Signal -> (len(ids), k) what perfect sensors would read now; the IMU's is of one physics step ago."""
        joints = {
            "joint.position": self.position[ids],
            "joint.velocity": self.velocity[ids],
            "joint.effort": self.effort[ids],
        }
        return joints | {signal: values[ids] for signal, values in self.imu.items()}

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
        self._check_delay(values)
        self._parameters.set(values, ids)
        self.actuators.configure(ids)
        if self.actuators.bears_load:
            self._bias_force = self.batch.bind("qfrc_bias")
        self._set_line(ids)
        self.disturbances.refresh(ids)

    def _set_line(self, ids: Ids) -> None:
        delay, lag, jitter, drop = (self.outer["timing", q][ids, 0] for q in ("delay", "lag", "jitter", "drop"))
        self.line.set(ids, delay, lag, jitter, drop)

    def seed(self, seed: int) -> None:
        """Begin the random streams anew: of jitter and loss of commands, and of forces from outside."""
        self.line.seed(seed)
        self.disturbances.seed(seed + 1)

    def _check_delay(self, values: Mapping[str, Array]) -> None:
        longest = sum(float(np.max(values.get(f"timing/command/{q}", 0.0), initial=0.0)) for q in ("delay", "jitter"))
        if longest > MAX_DELAY_S:
            raise ConfigError(
                f"target 'timing/command/delay': {longest:g} s, jitter included, is above {MAX_DELAY_S:g} s, the "
                "longest simulated."
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
        self.disturbances.refresh(ids)
        rest = self.rest_command(position)
        self.line.reset(ids, rest)
        self.actuators.reset(ids, position)
        if self.fields or self.imu or self.actuators.bears_load:  # what they hold is of the episode before
            self._ctrl[np.ix_(ids, self.model.ctrl_index)] = rest[:, self._driven]
            self.batch.forward(ordered)

    def rehearse(self, acting: Array) -> None:
        """What actuators were told before this moment, (nsim, n, n_joints): after reset(), for servos with profiles."""
        self.actuators.rehearse(acting[..., self._driven], self.timestep)

    def step(self, command: Array, record: Record = False) -> tuple[Array, Array] | None:
        """Advance every simulation by one control period under commands (nsim, n_joints); see run()."""
        self.disturbances.step()
        command = np.minimum(np.maximum(command, -self._limit), self._limit)
        if record or not self.line.immediate:
            return self.run(self.line.push(command), record)
        self.advance(command, self.substeps)
        return None

    def run(self, acting: Array, record: Record = False) -> tuple[Array, Array] | None:
        """Advance by acting.shape[1] physics steps under commands that already passed their way to the motor.

        acting: (nsim, n, n_joints). With `record`, returns position and velocity after each step, (nsim, n, n_joints)
        each; with record="truth" every signal stands in `trace` too.
        """
        names = ("qpos", "qvel") if record else ()
        if record == "truth":
            names = (*names, "qfrc_actuator", *(["sensordata"] if self.imu else []))
        if self.actuators.slow or np.isnan(acting).any():  # NaN: a servo without torque
            out = self._run_slowly(acting, names)
        else:
            control = self._in_ctrl_order(acting[..., self._driven])
            out = self.batch.rollout(acting.shape[1], control, record=names)
        self._measure_effort()
        if not record:
            return None
        position, velocity = out["qpos"][..., self.model.qpos_index], out["qvel"][..., self.model.dof_index]
        if record == "truth":
            effort = np.zeros(acting.shape)
            effort[..., self._driven] = out["qfrc_actuator"][..., self._driven_dof]
            self.trace = {"joint.position": position, "joint.velocity": velocity, "joint.effort": effort}
            self.trace |= {signal: out["sensordata"][..., columns] for signal, columns in self._imu_columns.items()}
        return position, velocity

    def advance(self, command: Array, steps: int, step_s: float | None = None) -> None:
        """Advance by `steps` physics steps of `step_s` (default: the timestep) under one command (nsim, n_joints)."""
        if step_s is not None and step_s != self._step_s:
            self.batch.expand("opt.timestep")[:] = self._step_s = step_s
        if self.actuators.slow:
            for _ in range(steps):
                self._act(command)
                self.batch.step()
        else:
            self._ctrl[:, self.model.ctrl_index] = command[:, self._driven]
            self.batch.step(nstep=steps)
        self._measure_effort()

    def _act(self, command: Array) -> None:
        """What the actuators make of a command in the present state becomes MuJoCo's control."""
        load = -self._bias_force[:, self.model.dof_index] if self.actuators.bears_load else None
        self._ctrl[:, self.model.ctrl_index] = self.actuators.act(
            command[:, self._driven], self.position, self.velocity, load, self._step_s
        )

    def _measure_effort(self) -> None:
        self.effort[:, self._driven] = self._force[:, self._driven_dof]

    def _in_ctrl_order(self, control: Array) -> Array:
        if self._ctrl_is_in_order:
            return control
        ordered = np.zeros((*control.shape[:-1], self.model.mj.nu))
        ordered[..., self.model.ctrl_index] = control
        return ordered

    def _run_slowly(self, acting: Array, record: Sequence[str]) -> dict[str, Array]:
        count = acting.shape[1]
        fields = {name: self.batch.bind(name) for name in record}
        out = {name: np.empty((self.nsim, count, values.shape[1])) for name, values in fields.items()}
        for j in range(count):
            self._act(acting[:, j])
            self.batch.step()
            for name, values in fields.items():
                out[name][:, j] = values
        return out
