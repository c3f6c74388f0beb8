"""SimDriver: one simulated robot behind the Driver contract, on a simulated clock.

The loop that runs on the robot runs here unchanged: time passes only in wait(). It is a Plant of one simulation,
stepped between the very moments at which commands arrive; actuators and sensors are the batch's own code, so the
two agree bit by bit wherever both take the same steps. Everything is deterministic by seed.

A command has gains of its own. Joints of kind `torque` obey it as an MIT-mode motor does; a position servo whose gains
it repeats runs its own loop, and with other gains (none, to go limp; only damping, to stop) the servo's error is made
to give that torque; a `velocity` actuator obeys the velocity, a `dcmotor` gets the voltage that gives the torque at
standstill.
"""

from __future__ import annotations

import dataclasses
import math
from collections import deque
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import mujoco
import numpy as np
import numpy.typing as npt

from robot.config import ConfigError
from robot.driver import DriverError, StaleState, StopReason
from robot.spec import RobotSpec
from robot.state import Imu, JointCommand, Joints, Sample
from sim import randomization as randomizations
from sim.command import lag_factors
from sim.eyes import NEVER_NS, Eyes
from sim.model import Model, RobotConfig, find_robot
from sim.plant import Plant
from sim.randomization import NOMINAL, Randomization
from sim.sensor import JOINT_SIGNALS, Faults, quantize

Array = npt.NDArray[np.float64]

TIMESTEP_NS = 1_000_000
MIT_GAINS = {"kp": 500.0 / 4095.0, "kd": 5.0 / 4095.0}
"""Steps of the gains in an MIT-mode CAN frame [N m/rad], [N m s/rad]."""


class SimDriver:
    """One simulation of a robot as a robot.driver.Driver."""

    simulated = True

    def __init__(
        self,
        robot: RobotConfig,
        randomization: Randomization = NOMINAL,
        *,
        seed: int = 0,
        start: tuple[float, ...] | None = None,
        spread_rad: float = 0.0,
        quantize_commands: bool = False,
        cameras: tuple[str, ...] = (),
    ) -> None:
        """`start`: joint positions at rest [rad] (default: the spec's default pose), moved by up to `spread_rad`.

        `quantize_commands` rounds commands to the steps of an MIT-mode CAN frame.
        `cameras`: those of the spec that take pictures, at their rate and with their latency.
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
        self._faults = Faults(self._model, self._plant.outer, 1)
        self._sensors = {s.signal: s for s in self.spec.sensors}
        framed = ("position", "velocity", "effort") if quantize_commands else ()
        self._frame = {f: self.spec.sensor(f"joint.{f}").resolution for f in framed}
        self._limit, self._period_ns = self.spec.effort_limits, round(self._plant.period * 1e9)
        self._home = home_poses(self._model)
        self._eyes = Eyes(self._model, cameras, self._plant.outer)
        self._wire()
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
        plant, joints = self._plant, len(self._start)
        plant.seed(seed)
        plant.set(self._law.draw(self._model, self._rng, 1))
        spread = self._rng.uniform(-self._spread, self._spread, joints) if self._spread else 0.0
        plant.reset((self._start + spread)[None], np.zeros((1, joints)), poses=self._home)
        timing = {q: float(plant.outer["timing", q][0, 0]) for q in ("delay", "lag", "jitter", "drop")}
        self._delay_ns, self._jitter_ns = round(timing["delay"] * 1e9), timing["jitter"] * 1e9
        self._lag, self._drop = timing["lag"], timing["drop"]
        self._queue: deque[tuple[int, JointCommand]] = deque()
        self._arrived = self._now
        self._next_force_ns = self._now if plant.disturbances.random else NEVER_NS
        self._gains, self._plain = False, plant.rest_command(plant.position)
        self._lagged = self._plain
        self._faults.refresh()
        self._faults.reset(slice(None))
        extra = dict(zip(self._model.objects(("sensor", "delay")), plant.outer["sensor", "delay"][0], strict=True))
        self._latency_ns = {s: round((sensor.latency_s + extra[s]) * 1e9) for s, sensor in self._sensors.items()}
        self._keep_ns = max(self._latency_ns.values(), default=0)
        self._past: deque[tuple[int, dict[str, Array]]] = deque()
        self._remember()
        self._eyes.restart(self._now, plant.qpos, seed)
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
            if self._now >= self._next_force_ns:
                self._plant.disturbances.step()
                self._next_force_ns += self._period_ns
            change = self._queue[0][0] if self._queue else until_ns
            self._run(min(change, until_ns, self._eyes.next_ns, self._next_force_ns))
            self._eyes.look(self._now, self._plant.qpos)

    def read(self, timeout_s: float) -> Sample:
        """A reading of now; StaleState when the clock has not moved since the last one."""
        self._check_open()
        if self._now == self._last_read:
            raise StaleState(
                f"no new reading since {self._now} ns: the simulated clock has not moved; call wait() first"
            )
        if self._plant.unstable.any():
            raise DriverError("the simulated robot became unstable: MuJoCo found a state that is not finite")
        elapsed = 0.0 if self._last_read < 0 else (self._now - self._last_read) * 1e-9
        self._last_read = self._now
        values = {s: self._measure(s, elapsed) for s in self._sensors}
        missing = np.full(len(self._start), math.nan)
        position, velocity, effort = (values.get(s, missing) for s in JOINT_SIGNALS)
        joints = Joints(
            names=self.spec.joint_names,
            t_ns=max(0, self._now - self._latency_ns["joint.position"]),
            position=position,
            velocity=velocity,
            effort=effort,
        )
        return Sample(t_ns=self._now, joints=joints, imu=self._imu(values), images=self._eyes.see(self._now))

    def write(self, command: JointCommand) -> JointCommand:
        """Queue a command, which acts after the delay; returns it as sent, its torques clipped to the limits."""
        self._check_open()
        try:
            command = command.ordered(self.spec.joint_names)
        except KeyError as error:
            raise DriverError(f"the simulated driver sent nothing: {error.args[0]}") from error
        command = self._as_frame(
            dataclasses.replace(command, effort=np.clip(command.effort, -self._limit, self._limit))
        )
        sent = dataclasses.replace(command, t_ns=self._now, effort=np.clip(command.effort, -self._limit, self._limit))
        if not all(np.isfinite(getattr(sent, f)).all() for f in ("position", "velocity", "effort", "kp", "kd")):
            raise DriverError("the command has a value that is not finite; nothing was sent")
        self._send(sent)
        return sent

    def _as_frame(self, command: JointCommand) -> JointCommand:
        """A command as an MIT-mode CAN frame carries it: in the steps of the sensors, gains in 12 bits."""
        if not self._frame:
            return command
        rounded: dict[str, Any] = {f: quantize(getattr(command, f), step) for f, step in self._frame.items()}
        rounded |= {f: np.trunc(getattr(command, f) / step) * step for f, step in MIT_GAINS.items()}
        return dataclasses.replace(command, **rounded)

    def _send(self, command: JointCommand) -> None:
        """Put a command on its way: it may get lost, takes its own time, and overtakes none."""
        streams = self._plant.line.streams
        if self._drop and streams.uniform()[0] < self._drop:
            return
        jitter = round(self._jitter_ns * float(streams.uniform()[0])) if self._jitter_ns else 0
        self._arrived = max(self._arrived, self._now + self._delay_ns + jitter)
        self._queue.append((self._arrived, command))

    def stop(self, reason: StopReason) -> None:
        """Send each actuator's safe action; it acts after the delay, while time passes in wait()."""
        if self._closed:
            return
        position = self._plant.position[0]
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

    def _wire(self) -> None:
        """Columns of each kind of actuator, and the servos' own gains as the controller knows them."""
        n = len(self.spec.joints)
        self._is = {kind: np.zeros(n, dtype=bool) for kind in ("torque", "position_pd", "velocity", "dcmotor")}
        self._own_kp, self._own_kd, self._volts = np.ones(n), np.zeros(n), np.zeros(n)
        for joint, actuator in zip(self.spec.driven, self.spec.actuators, strict=True):
            self._is[actuator.kind][joint] = True
            if actuator.kind == "position_pd":
                self._own_kp[joint], self._own_kd[joint] = actuator.kp or 1.0, actuator.kd
            if actuator.kind == "dcmotor":
                constant, ohms = (
                    self._model.nominal(f"motor/{actuator.name}/{q}") for q in ("torque_constant", "resistance")
                )
                self._volts[joint] = ohms / constant

    def _obey(self, command: JointCommand) -> None:
        self._acting = command
        servo, gains = self._is["position_pd"], (command.kp != 0.0) | (command.kd != 0.0)
        self._own = (command.kp == self._own_kp) & (command.kd == self._own_kd)
        self._own &= (command.velocity == 0.0) & (command.effort == 0.0)
        self._gains = bool(np.where(servo, ~self._own, gains).any())
        """Whether what is wanted of the actuators depends on the state."""
        self._plain = np.where(servo, command.position, command.effort)
        self._plain = np.where(self._is["velocity"], command.velocity, self._plain)
        self._plain = np.where(self._is["dcmotor"], self._volts * command.effort, self._plain)[None]

    def _run(self, until_ns: int) -> None:
        """Physics under one command; steps are at most 1 ms and end at `until_ns` exactly."""
        plain = not (self._lag or self._keep_ns or self._gains)
        whole = (until_ns - self._now) // TIMESTEP_NS if plain else 0
        if whole:
            self._step(TIMESTEP_NS, whole)
        while self._now < until_ns:
            self._step(min(TIMESTEP_NS, until_ns - self._now), 1)

    def _step(self, dt_ns: int, count: int) -> None:
        dt = dt_ns * 1e-9
        self._plant.advance(self._through_lag(self._wanted(), dt), count, dt)
        self._now += dt_ns * count
        self._remember()

    def _wanted(self) -> Array:
        """(1, n_joints) what is asked of the actuators now, each in its own unit, torques within the limits."""
        if not self._gains:
            return self._plain
        c, q, v = self._acting, self._plant.position[0], self._plant.velocity[0]
        torque = c.kp * (c.position - q) + c.kd * (c.velocity - v) + c.effort
        free = np.clip(torque, -self._limit, self._limit)
        # the servo's own damping goes on: what it is made to see beyond the asked torque makes up for it
        servo = q + (torque + self._own_kd * v) / self._own_kp
        wanted = np.where(self._is["position_pd"], servo, np.where(self._is["dcmotor"], self._volts * free, free))
        wanted = np.where(self._is["position_pd"] & self._own, c.position, wanted)
        return np.where(self._is["velocity"], c.velocity, wanted)[None]

    def _through_lag(self, wanted: Array, dt: float) -> Array:
        """The mean over a step of the first-order response to `wanted`; exact while that is constant."""
        if self._lag <= 0.0:
            return wanted
        keep, tail = lag_factors(dt, dt, self._lag)
        gap = self._lagged - wanted
        self._lagged = wanted + gap * keep
        return wanted + gap * tail

    def _remember(self) -> None:
        self._past.append((self._now, self._plant.truth()))
        while len(self._past) > 1 and self._past[1][0] <= self._now - self._keep_ns:
            self._past.popleft()

    def _measure(self, signal: str, elapsed_s: float) -> Array:
        """(k,) a reading of one signal."""
        t = self._now - self._latency_ns[signal]
        at = next((i for i, row in enumerate(self._past) if row[0] >= t), len(self._past) - 1)
        newer, older = self._past[at], self._past[max(0, at - 1)]
        value = newer[1][signal]
        if at and newer[0] > t:
            share = (t - older[0]) / (newer[0] - older[0])
            value = older[1][signal] + share * (value - older[1][signal])
        return self._faults.apply(signal, value, self._rng, slice(None), elapsed_s)[0]

    def _imu(self, values: Mapping[str, Array]) -> Imu | None:
        """The inertial reading; None where the robot has no IMU."""
        if "imu.gyro" not in values or "imu.accel" not in values:
            return None
        return Imu(
            t_ns=max(0, self._now - self._latency_ns["imu.gyro"]),
            gyro=values["imu.gyro"],
            accel=values["imu.accel"],
            orientation=values.get("imu.orientation"),
        )


def home_poses(model: Model) -> dict[str, Array]:
    """Free joint -> (1, 7) pose at the MJCF's first keyframe; empty where it has none."""
    mj = model.mj
    if not mj.nkey:
        return {}
    free = [j for j in range(mj.njnt) if mj.jnt_type[j] == mujoco.mjtJoint.mjJNT_FREE]
    return {mj.joint(j).name: mj.key_qpos[:1, mj.jnt_qposadr[j] : mj.jnt_qposadr[j] + 7] for j in free}


def truth_of(driver: SimDriver) -> Joints:
    """What the joints really do now, without sensors: for emulators, which have sensors of their own.

    No method, so that nothing a driver hands out carries the truth.
    """
    plant = driver._plant
    position, velocity, effort = plant.position[0], plant.velocity[0], plant.effort[0].copy()
    return Joints(names=driver.spec.joint_names, t_ns=driver._now, position=position, velocity=velocity, effort=effort)
