"""From the command that arrived at a motor to MuJoCo's control: servo loop, supply, gearbox. Batched numpy.

What an actuator is by nature is MuJoCo's: gains, limits and back-EMF are written into model fields by `configure()`
and cost nothing afterwards. What depends on the state at each physics step (backlash, dead zone, counts of the
servo's encoder, profile ceilings, torque-speed curve, supply, Stribeck and load-dependent friction) is computed before
each of them, only while some simulation has such an effect (`slow`), and leaves the controls of the others as they
are, bit by bit. A servo's effects go into the control itself: MuJoCo's position actuator pulls with kp (ctrl - q), so
ctrl = q + e makes it act on the error e that the firmware sees.

To add an effect: a row in sim/targets/motors.py, a line in the function of its kind below, and a test. The way of a
command to the motor is sim/command.py; how much friction a gearbox holds, sim/friction.py.
"""

from __future__ import annotations

from dataclasses import fields

import mujoco
import numpy as np
import numpy.typing as npt
from mujoco.batch import Batch

from sim.friction import Friction, load_level, stribeck_level
from sim.model import Model
from sim.parameters import Parameters
from sim.profile import follow
from sim.residual_network import ResidualNetwork
from sim.targets import TARGETS, split
from sim.targets.motors import IDEAL, NATIVE, RUBBING, STATEFUL, UNLIMITED, UNLIMITED_ACCELERATION
from sim.targets.residual import ROWS as RESIDUAL_ROWS

Array = npt.NDArray[np.float64]
Ids = npt.NDArray[np.intp]

RESIDUAL_KEYS = tuple(RESIDUAL_ROWS)
RESIDUAL = set(RESIDUAL_KEYS)
AFFINE = int(mujoco.mjtBias.mjBIAS_AFFINE)


def units_per_effort(model: Model) -> Array:
    """(n_joints,) what brings a policy's commands to the unit of each actuator: 1; of a dcmotor, volts per N m."""
    units = np.ones(len(model.spec.joints))
    for joint, actuator in zip(model.spec.driven, model.spec.actuators, strict=True):
        if actuator.kind == "dcmotor":
            constant, ohms = (model.nominal(f"motor/{actuator.name}/{q}") for q in ("torque_constant", "resistance"))
            units[joint] = ohms / constant
    return units


class Actuators:
    """The actuators of n simulations; arrays are (n, n_actuators) in the RobotSpec's order, but for the friction."""

    def __init__(self, model: Model, batch: Batch, parameters: Parameters) -> None:
        spec, self._n = model.spec, batch.nsim
        self._model, self._batch, self._parameters = model, batch, parameters
        kinds = np.array([a.kind for a in spec.actuators])
        self._torque, self._servo, self._wheel, self._motor = (
            np.flatnonzero(kinds == k) for k in ("torque", "position_pd", "velocity", "dcmotor")
        )
        self._direct = np.flatnonzero(kinds != "dcmotor")
        self._names, self._gear = [a.name for a in spec.actuators], np.array([a.gear for a in spec.actuators])
        self._joints = list(spec.joint_names)
        self._driven, self._rows, self._dof = spec.driven, model.ctrl_index, model.dof_index
        self._transmission = model.mj.actuator_gear[self._rows, 0]  # MuJoCo's servos see the joint through it
        self._ctrl_limited = model.mj.actuator_ctrllimited[self._rows].astype(bool)
        low, high = model.mj.actuator_ctrlrange[self._rows].T
        self._low = np.where(self._ctrl_limited, low, -np.inf)
        self._high = np.where(self._ctrl_limited, high, np.inf)
        self._collect()
        shape = (self._n, len(kinds))
        self._all, self._is_servo, self._is_wheel = np.arange(len(kinds)), kinds == "position_pd", kinds == "velocity"
        self._emf = np.square(self._base["torque_constant"]) / self._base["resistance"]
        self._play, self._goal, self._speed = (np.zeros(shape) for _ in range(3))
        self._kp, self._kd, self._limit = (np.zeros(shape) for _ in range(3))
        self._friction = Friction(**{f.name: np.zeros((self._n, len(spec.joints))) for f in fields(Friction)})
        self._stateful = self._rubbing = self._learned = False
        speeds = np.array([j.velocity_limit for j in spec.joints])[spec.driven]
        self._network = ResidualNetwork(self._n, np.array([a.effort_limit for a in spec.actuators]), speeds)
        self.bears_load = False
        """Whether friction depends on torques, so that act() needs the load."""
        everyone = np.arange(self._n, dtype=np.intp)
        self._derive(everyone)
        self.configure(everyone)

    def _collect(self) -> None:
        """`_now`: each quantity in force, columns for all actuators; `_base`: what the MJCF stands for."""
        model, outer = self._model, self._parameters.outer
        keys = [k for k in outer if k[0] in ("actuator", "motor", "residual")]
        self._columns = {k: np.array([self._names.index(o) for o in model.objects(k)], dtype=np.intp) for k in keys}
        self._now: dict[str, Array] = {}
        self._base: dict[str, Array] = {}
        for key, columns in self._columns.items():
            self._base[key[1]] = base = np.full(len(self._names), IDEAL.get(key[1], 0.0))
            self._now[key[1]] = np.tile(base, (self._n, 1))
            base[columns] = [TARGETS[key].nominal(model, self._names[c]) for c in columns]
            self._now[key[1]][:, columns] = outer[key]
        self._has_constants = np.isin(np.arange(len(self._names)), self._columns["motor", "torque_constant"])
        self._volts, self._ohms = outer["supply", "voltage"], outer["supply", "resistance"]
        self._full_volts = TARGETS["supply", "voltage"].nominal(model, "bus") if self._volts.size else 1.0
        self._given = {split(name)[0] for name in model.robot.model.parameters}
        self._seen, self._touched = 0, self._given

    @property
    def slow(self) -> bool:
        """Whether some simulation has an effect that needs the state before each physics step: use act()."""
        return self._stateful or self._rubbing or self._learned

    # ---- once a reset: what MuJoCo's actuators do by themselves

    def configure(self, ids: Ids) -> None:
        """Take over the targets now in force in some simulations; their rows of the model fields are written anew."""
        values = self._parameters.values
        if len(values) != self._seen:
            self._seen, self._touched = len(values), self._given | {split(name)[0] for name in values}
        for key, columns in self._columns.items():
            if key in self._touched:
                self._now[key[1]][np.ix_(ids, columns)] = self._parameters.outer[key][ids]
        if self._touched & NATIVE:
            self._derive(ids)
            self._write(ids)
        if self._touched & STATEFUL:
            self._arm()
        if self._touched & RUBBING:
            self._set_friction(ids)
        if self._touched & RESIDUAL:
            self._weights = np.stack([self._now[quantity] for _, quantity in RESIDUAL_KEYS], axis=1)
            self._learned = bool(self._weights.any())

    def _derive(self, ids: Ids) -> None:
        """Stiffness, damping and limits that follow from gains, motor constants, gear, and the voltage they are for."""
        now, base = {q: self._now[q][ids] for q in self._base}, self._base
        gear = np.ones((len(ids), len(self._names)))
        for column, name in enumerate(self._names):
            if (value := self._parameters.values.get(f"motor/{name}/gear")) is not None:
                gear[:, column] = value[ids] / self._gear[column]
        constant = now["torque_constant"] * gear
        current = np.ones_like(gear)  # a torque motor's current is controlled, whatever its resistance
        current[:, self._servo] = (base["resistance"] / now["resistance"])[:, self._servo]
        strength = constant / base["torque_constant"] * current
        pull = now["gain"] * strength
        more_emf = np.square(constant) / now["resistance"] - np.square(base["torque_constant"]) / base["resistance"]
        self._kp[ids] = now["kp"] * pull
        self._kp[np.ix_(ids, self._torque)] = pull[:, self._torque]
        self._kp[np.ix_(ids, self._wheel)] = (now["kd"] * pull)[:, self._wheel]
        self._kp[np.ix_(ids, self._motor)] = constant[:, self._motor]
        self._kd[ids] = now["kd"] * pull + np.where(self._has_constants, more_emf, 0.0)
        # the largest voltage limits a servo's torque, so its limit follows the motor; others' is a limit of current
        self._limit[ids] = now["torque_limit"]
        self._limit[np.ix_(ids, self._servo)] *= strength[:, self._servo]

    def _write(self, ids: Ids) -> None:
        batch, now = self._batch, self._now
        gain, bias = batch.expand("actuator_gainprm"), batch.expand("actuator_biasprm")
        each, own = ids[:, None], self._direct
        gain[each, self._rows[own], 0] = self._kp[each, own]
        bias[each, self._rows[own], 0] = now["bias"][each, own]
        if len(volts := self._motor):
            gain[each, self._rows[volts], 0] = now["resistance"][each, volts]
            gain[each, self._rows[volts], 1] = self._kp[each, volts]
        if len(self._torque):
            batch.expand("actuator_biastype")[each, self._rows[self._torque]] = AFFINE
        for looped, pull in ((self._servo, 1.0), (self._wheel, 0.0)):
            if len(looped):
                bias[each, self._rows[looped], 1] = -pull * self._kp[each, looped]
                bias[each, self._rows[looped], 2] = -self._kd[each, looped]
        columns = self._columns["actuator", "torque_limit"]
        at, most = np.ix_(ids, rows := self._rows[columns]), self._limit[ids[:, None], columns]
        native = self._model.mj.actuator_forcelimited[rows].astype(bool)
        batch.expand("actuator_forcelimited")[at] = native | (most != self._base["torque_limit"][columns])
        batch.expand("actuator_forcerange")[at] = np.stack([-most, most], axis=2)

    def _arm(self) -> None:
        """Which effects that need the state are on, and where."""
        now, counts = self._now, self._now["encoder_step"]
        self._profiled = now["speed_ceiling"] < UNLIMITED
        self._profiled |= now["acceleration_ceiling"] < UNLIMITED_ACCELERATION
        self._tires = now["no_load_speed"] < UNLIMITED
        weak = np.zeros((self._n, 1), dtype=bool)
        if self._volts.size:
            weak = (self._volts != self._full_volts) | (self._ohms > 0.0)
        self._weak = bool(weak.any())
        self._weak_servo, self._weak_motor = (weak & np.isin(self._all, c) for c in (self._servo, self._motor))
        self._counts, self._step = counts > 0.0, np.where(counts > 0.0, counts, 1.0)
        self._own = self._profiled | self._counts | self._weak_servo
        self._own |= (now["backlash"] > 0.0) | (now["dead_zone"] > 0.0) | (now["error_kd"] > 0.0)
        self._lead = now["error_kd"] / np.maximum(now["kp"], 1e-12)
        self._leads = bool((self._lead > 0.0).any())
        self._stateful = bool(self._own.any() or self._tires.any() or self._weak)
        if len(self._servo):  # a control that stands for an error may lie outside the joint's range
            native = self._ctrl_limited[self._servo] & (not self._stateful)
            self._batch.expand("actuator_ctrllimited")[:, self._rows[self._servo]] = native

    def _set_friction(self, ids: Ids) -> None:
        outer, friction = self._parameters.outer, self._friction
        for j, joint in enumerate(self._joints):
            known = self._parameters.values.get(f"joint/{joint}/frictionloss")
            friction.coulomb[ids, j] = self._model.mj.dof_frictionloss[self._dof[j]] if known is None else known[ids]
        for field in fields(Friction):
            if field.name not in ("coulomb", "stribeck"):
                columns = [self._joints.index(j) for j in self._model.objects(("joint", field.name))]
                getattr(friction, field.name)[ids[:, None], columns] = outer["joint", field.name][ids]
        ratio, more = outer["joint", "stribeck_ratio"][ids], outer["joint", "stribeck_friction"][ids]
        friction.stribeck[ids] = friction.coulomb[ids] * (ratio - 1.0) + more
        if self._rubbing:  # stepping wrote levels over these
            self._batch.expand("dof_frictionloss")[np.ix_(ids, self._dof)] = friction.coulomb[ids]
        self._rubbing, self.bears_load = friction.varies, friction.depends_on_load

    # ---- before each physics step, only while `slow`

    def reset(self, ids: Ids, position: Array) -> None:
        """Some simulations begin anew at joint positions (len(ids), n_joints), gears in the middle of their play."""
        self._play[ids] = self._goal[ids] = position[:, self._driven] * self._transmission
        self._speed[ids] = 0.0
        self._network.reset(ids)

    def rehearse(self, commands: Array, step_s: float) -> None:
        """What the servos were told before: commands (n, steps, n_actuators), through which their profiles move on."""
        if not (len(self._servo) and self._stateful and self._profiled.any()):
            return
        self._goal = np.where(np.isnan(commands[:, 0]), self._goal, commands[:, 0])
        for k in range(commands.shape[1]):
            self._profile(np.where(np.isnan(commands[:, k]), self._goal, commands[:, k]), step_s)

    def act(self, command: Array, position: Array, velocity: Array, load: Array | None, step_s: float) -> Array:
        """Commands (n, n_actuators) at a state, (n, n_joints) each, to MuJoCo's controls (n, n_actuators).

        NaN is a servo whose torque is off: neither its loop nor its back-EMF acts, as its bridge is open.
        Writes the level of friction where it varies; `load` (n, n_joints) is the torque [N m] of everything else than
        motor and friction, needed while `bears_load`. The play of the gears and the profiles move on by `step_s`.
        """
        q, v = (x[:, self._driven] * self._transmission for x in (position, velocity))
        limp = np.isnan(command)
        control = np.minimum(np.maximum(np.where(limp, q, command), self._low), self._high)
        if self._stateful:
            if len(self._torque):
                control = self._limit_by_speed(control, v)
            error = self._servo_error(control, q, v, step_s) if len(self._servo) else control
            if self._weak:
                control, error = self._at_voltage(control, error, v)
            if len(self._servo):
                control = np.where(self._own, q + error, control)
        if self._learned:
            control = control + self._residual(control, q, v, step_s)
        if limp.any():
            control = np.where(limp, q + (self._kd + self._emf) * v / np.maximum(self._kp, 1e-12), control)
        if self._rubbing:
            level = self._level(control, q, velocity, v, load)
            self._batch.expand("dof_frictionloss")[:, self._dof] = level
        return control

    def _limit_by_speed(self, control: Array, v: Array) -> Array:
        """Torque motors: on the torque-speed line a motor that runs fast has little torque left, but brakes fully."""
        share = 1.0 - np.sign(control) * v / self._now["no_load_speed"]
        room = self._now["torque_limit"] * np.minimum(np.maximum(share, 0.0), 1.0)
        return np.where(self._tires, np.minimum(np.maximum(control, -room), room), control)

    def _servo_error(self, goal: Array, q: Array, v: Array, step_s: float) -> Array:
        """(n, n_actuators) the error that a servo's firmware acts on, with what its D gain adds."""
        if self._profiled.any():
            goal = np.where(self._profiled, self._profile(goal, step_s), goal)
        # the play operator: the encoder rests until the joint has crossed the gap, then is dragged along
        half = 0.5 * self._now["backlash"]
        self._play = np.minimum(np.maximum(self._play, q - half), q + half)
        seen = np.where(self._counts, np.round(self._play / self._step) * self._step, self._play)
        goal = np.where(self._counts, np.round(goal / self._step) * self._step, goal)
        error = goal - seen
        error = np.where(np.abs(error) > self._now["dead_zone"], error, 0.0)
        if self._leads:
            error = error + self._lead * (np.where(self._profiled, self._speed, 0.0) - v)
        return error

    def _profile(self, goal: Array, step_s: float) -> Array:
        """The goal as the firmware lets it move: no faster than the ceilings, and braking in time."""
        ceilings = self._now["speed_ceiling"], self._now["acceleration_ceiling"]
        self._goal, self._speed = follow(goal, self._goal, self._speed, *ceilings, step_s)
        return self._goal

    def _at_voltage(self, control: Array, error: Array, v: Array) -> tuple[Array, Array]:
        """Servos and voltage motors on a supply that is not the nominal one, or that sags under their current.

        A bridge of duty d takes d times the motor's current from the supply: V = V_open - R_source sum(d i), with
        i = (d V - kt v) / R, solved for V. It does not take current back, as a bench supply does not.
        """
        reach = np.where(self._is_servo, self._limit, 1.0) / np.maximum(self._kp, 1e-12)
        duty = np.where(self._is_servo, error / np.maximum(reach, 1e-12), control / self._full_volts)
        duty = np.where(self._has_constants, np.minimum(np.maximum(duty, -1.0), 1.0), 0.0)
        constant, resistance = self._now["torque_constant"], self._now["resistance"]
        returned = (self._ohms * duty * constant * v / resistance).sum(axis=1, keepdims=True)
        drawn = (self._ohms * duty * duty / resistance).sum(axis=1, keepdims=True)
        volts = np.minimum(np.maximum((self._volts + returned) / (1.0 + drawn), 0.0), self._volts)
        share = volts / self._full_volts
        error = np.where(self._weak_servo, duty * reach * share, error)
        return np.where(self._weak_motor, control * share, control), error

    def _level(self, control: Array, q: Array, velocity: Array, v: Array, load: Array | None) -> Array:
        """(n, n_joints) level of friction now [N m]."""
        if load is None:
            return stribeck_level(velocity, self._friction)
        torque = np.zeros_like(velocity)
        torque[:, self._driven] = self._motor_torque(control, q, v) * self._transmission
        return load_level(velocity, torque, load, self._friction)

    def _residual(self, control: Array, q: Array, v: Array, step_s: float) -> Array:
        """What the residual networks add to the controls."""
        asked = self._kp * (control - np.where(self._is_servo, q, np.where(self._is_wheel, v, 0.0)))
        asked = np.minimum(np.maximum(asked, -self._limit), self._limit)
        torque = self._network.torque(asked, v, self._weights, step_s)
        return np.where(self._kp > 0.0, torque / np.maximum(self._kp, 1e-12), 0.0)

    def _motor_torque(self, control: Array, q: Array, v: Array) -> Array:
        """(n, n_actuators) what the motors give at these controls [N m], without what the gearbox takes of it."""
        now, kp, kd = self._now, self._kp, self._kd
        torque = kp * control + now["bias"]
        torque = torque - np.where(self._is_servo, kp * q + kd * v, np.where(self._is_wheel, kp * v, 0.0))
        torque = np.minimum(np.maximum(torque, -self._limit), self._limit)
        # a servo's nominal back-EMF is in the joint's damping, yet it is the motor that lacks it
        torque = torque - np.where(self._has_constants, self._emf * v, 0.0)
        if len(self._motor):
            torque[:, self._motor] = (kp / now["resistance"] * (control - kp * v))[:, self._motor]
        return torque
