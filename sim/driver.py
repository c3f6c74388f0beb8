"""SimDriver: one simulated robot behind the Driver contract, on a simulated clock.

The loop that runs on the robot runs here unchanged: time passes only in wait(). Commands act `delay` after they
were written, through the motor's first-order lag; readings have the spec's latency, noise and steps. Everything
is deterministic by seed.
"""

from __future__ import annotations

import dataclasses
import math
from collections import deque
from pathlib import Path
from typing import Any

import mujoco
import numpy as np
import numpy.typing as npt

from robot.config import ConfigError
from robot.driver import DriverError, StaleState, StopReason
from robot.spec import RobotSpec
from robot.state import JointCommand, Joints, Sample
from sim import randomization as randomizations
from sim.actuator import stribeck_level
from sim.model import Model, RobotConfig, find_robot
from sim.plant import Plant
from sim.randomization import NOMINAL, Randomization
from sim.sensor import JOINT_SIGNALS, quantize, read

Array = npt.NDArray[np.float64]

TIMESTEP_NS = 1_000_000


class SimDriver:
    """One simulation of a robot as a robot.driver.Driver."""

    def __init__(
        self,
        robot: RobotConfig,
        randomization: Randomization = NOMINAL,
        *,
        seed: int = 0,
        start: tuple[float, ...] | None = None,
        spread_rad: float = 0.0,
        quantize_commands: bool = False,
    ) -> None:
        """`start`: joint positions at rest [rad] (default: the spec's default pose), moved by up to `spread_rad`.

        `quantize_commands` rounds torques to the steps of the `joint.effort` sensor, as a CAN frame does.
        ConfigError when the randomization is not for this robot or `start` has the wrong length.
        """
        self.spec, self._law = robot.spec, randomization
        self._model = Model(robot)
        randomization.check(self._model)
        self._plant = Plant(self._model, 1, timestep_s=TIMESTEP_NS * 1e-9, nthread=1)
        self._start = self.spec.default_pose if start is None else np.array(start, dtype=np.float64)
        if self._start.shape != (len(self.spec.joints),):
            raise ConfigError(f"driver option start has {self._start.size} values for {len(self.spec.joints)} joints.")
        self._spread = spread_rad
        self._age_ns = round(self.spec.sensor("joint.position").latency_s * 1e9)
        self._sensors = {s.signal: s for s in self.spec.sensors}
        self._command_step = self.spec.sensor("joint.effort").resolution if quantize_commands else 0.0
        self._limit, self._driven = self.spec.effort_limits, self.spec.driven
        self._now, self._closed = 0, False
        self.restart(seed)

    @classmethod
    def from_config(
        cls,
        spec: RobotSpec,
        *,
        robot: RobotConfig | Path | str | None = None,
        posterior: Randomization | Path | str | None = None,
        **options: Any,
    ) -> SimDriver:
        """The driver of `spec`'s robot.

        `robot` (default: the shipped robot of that name) says how to simulate it; `posterior` is the law of its
        parameters (default: the nominal), from which the seed draws one robot.
        """
        found = robot if isinstance(robot, RobotConfig) else find_robot(robot or spec.name)
        law = posterior if posterior is not None else NOMINAL
        law = law if isinstance(law, Randomization) else randomizations.load(Path(law))
        return cls(RobotConfig(spec=spec, model=found.model), law, **options)

    def restart(self, seed: int) -> None:
        """Begin a new episode: parameters, start and noise are drawn from `seed`; the clock runs on."""
        self._rng = np.random.default_rng(seed)
        plant = self._plant
        plant.set(self._law.draw(self._model, self._rng, 1))
        self._mj = plant.batch.get_model(0)
        self._data = mujoco.MjData(self._mj)
        spread = self._rng.uniform(-self._spread, self._spread, len(self._start)) if self._spread else 0.0
        self._data.qpos[self._model.qpos_index] = self._start + spread
        self._delay_ns = round(float(plant.delay[0]) * 1e9)
        self._lag = float(plant.lag[0])
        self._stribeck = bool((plant.stribeck > 1.0).any())
        self._queue: deque[tuple[int, JointCommand]] = deque()
        self._obey(JointCommand.of_effort(self.spec.joint_names, self._now, np.zeros(len(self._start))))
        self._torque, self._effort = np.zeros(len(self._start)), np.zeros(len(self._start))
        latency = max((self._sensors[s].latency_s for s in JOINT_SIGNALS if s in self._sensors), default=0.0)
        self._keep_ns = round(latency * 1e9)
        self._past: deque[tuple[int, tuple[Array, Array, Array]]] = deque()
        self._remember()
        self._last_read = -1

    def now_ns(self) -> int:
        """Simulated time [ns]; runs on over restarts."""
        return self._now

    def wait(self, until_ns: int) -> None:
        """Simulate until `until_ns`; at once if that has passed."""
        self._check_open()
        while self._now < until_ns:
            while self._queue and self._queue[0][0] <= self._now:
                self._obey(self._queue.popleft()[1])
            change = self._queue[0][0] if self._queue else until_ns
            self._run(min(change, until_ns))

    def read(self, timeout_s: float) -> Sample:
        """A reading of now; StaleState when the clock has not moved since the last one."""
        self._check_open()
        if self._now == self._last_read:
            raise StaleState(
                f"no new reading since {self._now} ns: the simulated clock has not moved; call wait() first"
            )
        self._last_read = self._now
        values = {signal: self._measure(signal) for signal in JOINT_SIGNALS}
        t_ns = self._now - self._age_ns
        joints = Joints(
            names=self.spec.joint_names,
            t_ns=t_ns,
            position=values["joint.position"],
            velocity=values["joint.velocity"],
            effort=values["joint.effort"],
        )
        return Sample(t_ns=self._now, joints=joints)

    def write(self, command: JointCommand) -> JointCommand:
        """Queue a command, which acts after the delay; returns it as sent, its torques clipped to the limits."""
        self._check_open()
        try:
            command = command.ordered(self.spec.joint_names)
        except KeyError as error:
            raise DriverError(f"the simulated driver sent nothing: {error.args[0]}") from error
        effort = quantize(np.clip(command.effort, -self._limit, self._limit), self._command_step)
        sent = dataclasses.replace(command, t_ns=self._now, effort=np.clip(effort, -self._limit, self._limit))
        if not all(np.isfinite(getattr(sent, f)).all() for f in ("position", "velocity", "effort", "kp", "kd")):
            raise DriverError("the command has a value that is not finite; nothing was sent")
        self._queue.append((self._now + self._delay_ns, sent))
        return sent

    def stop(self, reason: StopReason) -> None:
        """Send each actuator's safe action; it acts after the delay, while time passes in wait()."""
        if self._closed:
            return
        position = np.array(self._data.qpos[self._model.qpos_index])
        zero = np.zeros(len(position))
        kp, kd = zero.copy(), zero.copy()
        for joint, actuator in zip(self.spec.driven, self.spec.actuators, strict=True):
            if actuator.safe_action == "hold":
                kp[joint], kd[joint] = actuator.kp, actuator.kd
            elif actuator.safe_action == "damp":
                kd[joint] = actuator.safe_kd
        self._queue.clear()
        self.write(
            JointCommand(
                names=self.spec.joint_names, t_ns=self._now, position=position, velocity=zero, effort=zero, kp=kp, kd=kd
            )
        )

    def close(self) -> None:
        """No further calls; safe to call twice."""
        self._closed = True

    def _check_open(self) -> None:
        if self._closed:
            raise DriverError("the simulated driver is closed; open it again")

    def _obey(self, command: JointCommand) -> None:
        self._acting, self._gains = command, bool(command.kp.any() or command.kd.any())

    def _run(self, until_ns: int) -> None:
        """Physics under one command; steps are at most 1 ms and end at `until_ns` exactly."""
        plain = not (self._stribeck or self._lag or self._keep_ns or self._gains)
        whole = (until_ns - self._now) // TIMESTEP_NS if plain else 0
        if whole:
            self._step(TIMESTEP_NS, whole)
        while self._now < until_ns:
            self._step(min(TIMESTEP_NS, until_ns - self._now), 1)

    def _step(self, dt_ns: int, count: int) -> None:
        dt, data, plant, dof = dt_ns * 1e-9, self._data, self._plant, self._model.dof_index
        torque = self._lagged(self._wanted(), dt)
        delivered = torque[self._driven] * plant.gain[0] + plant.bias[0]
        data.ctrl[self._model.ctrl_index] = delivered
        if self._stribeck:
            self._mj.dof_frictionloss[dof] = stribeck_level(
                data.qvel[dof], plant.coulomb[0], plant.stribeck[0], plant.stribeck_velocity[0]
            )
        self._mj.opt.timestep = dt
        mujoco.mj_step(self._mj, data, count)
        self._effort = np.zeros(len(self._start))
        self._effort[self._driven] = delivered
        self._now += dt_ns * count
        self._remember()

    def _wanted(self) -> Array:
        """(n_joints,) torque that the motors' own loop asks for now [N m], within the limits."""
        c = self._acting
        if not self._gains:
            return c.effort  # write() clipped it
        position, velocity = self._data.qpos[self._model.qpos_index], self._data.qvel[self._model.dof_index]
        torque = c.kp * (c.position - position) + c.kd * (c.velocity - velocity) + c.effort
        return np.clip(torque, -self._limit, self._limit)

    def _lagged(self, wanted: Array, dt: float) -> Array:
        """The mean over a step of the first-order response to `wanted`; exact while that is constant."""
        if self._lag <= 0.0:
            return wanted
        keep = math.exp(-dt / self._lag)
        gap = self._torque - wanted
        self._torque = wanted + gap * keep
        return wanted + gap * (self._lag / dt * (1.0 - keep))

    def _remember(self) -> None:
        data, model = self._data, self._model
        state = data.qpos[model.qpos_index], data.qvel[model.dof_index], self._effort
        self._past.append((self._now, state))
        while len(self._past) > 1 and self._past[1][0] <= self._now - self._keep_ns:
            self._past.popleft()

    def _measure(self, signal: str) -> Array:
        """(n_joints,) a reading; NaN where the robot has no such sensor."""
        sensor = self._sensors.get(signal)
        if sensor is None:
            return np.full(len(self._start), math.nan)
        column = JOINT_SIGNALS.index(signal)
        t = self._now - round(sensor.latency_s * 1e9)
        at = next((i for i, row in enumerate(self._past) if row[0] >= t), len(self._past) - 1)
        newer, older = self._past[at], self._past[max(0, at - 1)]
        value = newer[1][column]
        if at and newer[0] > t:
            share = (t - older[0]) / (newer[0] - older[0])
            value = older[1][column] + share * (value - older[1][column])
        if signal == "joint.position":
            value = value + self._plant.offset[0]
        return read(value, sensor.resolution, self._plant.noise[signal][0], self._rng)
