"""MitDriver: torque motors in MIT mode on a CAN bus (T-Motor and CubeMars AK series).

A motor answers each command frame with its state, so to read is to write: read() repeats the last command, which
changes nothing, and gathers the answers; before the first write() that is the damping frame. Motors are enabled by the
first write(), at rest only. The safe action is kp = 0, kd = safe_kd, torque 0, again and again until all is still; only
then are they disabled, for a motor that is disabled while it moves lets the arm fall.
"""

from __future__ import annotations

import math
import time
from pathlib import Path

import numpy as np

from robot.config import ConfigError, nearest
from robot.driver import DriverError, StaleState, StopReason
from robot.drivers import mit_protocol as mit
from robot.drivers.can_bus import CanBus
from robot.drivers.ledger import Ledger
from robot.drivers.mit_frames import Framer
from robot.drivers.mit_protocol import MitError, State
from robot.drivers.readings import STILL, STILL_FOR_NS, Readings, wait
from robot.drivers.wiring import Wiring, wiring
from robot.spec import RobotSpec
from robot.state import Health, JointCommand, Sample

OPEN_S = 0.5
"""Time in which every motor must answer when the driver is opened, and when motors are enabled."""
ANSWER_NS = 50_000_000
"""Time for answers while stopping."""
ODD_LIMIT = 10
"""Times a second that answers come which nobody waited for; with more, what answers what is not known."""


class MitDriver:
    """The joints of a robot, one MIT-mode motor each."""

    def __init__(
        self, spec: RobotSpec, bus: CanBus, wires: Wiring, motors: tuple[mit.Range, ...], settle_s: float, hot_c: float
    ) -> None:
        """DriverError unless every motor answers and is well."""
        self.spec, self._bus, self._wires, self._motors = spec, bus, wires, motors
        self._settle_ns, self._hot_c = round(settle_s * 1e9), hot_c
        self._ledger = Ledger(wires.ids)
        self._readings = Readings(spec, wires, np.array([2.0 * m.position for m in motors]))
        self._place = {id: k for k, id in enumerate(wires.ids)}
        self._states: list[State | None] = [None] * len(motors)
        self._no_voltage = np.full(len(motors), math.nan)
        self._framer = Framer(spec, wires, motors)
        self._frames = self._damping = self._framer.damping
        self._enabled = self._closed = False
        self._greet()

    @classmethod
    def from_config(
        cls,
        spec: RobotSpec,
        *,
        interface: str = "socketcan",
        channel: str = "can0",
        bitrate: int = 1_000_000,
        motor: str = "AK80-6_V1.1",
        ids: tuple[int, ...] | None = None,
        direction: tuple[int, ...] | None = None,
        zero: tuple[float, ...] | None = None,
        calibration: Path | None = None,
        host: int = 0,
        settle_s: float = 2.0,
        hot_c: float = 80.0,
    ) -> MitDriver:
        """`motor`: type of all motors, or one per joint with commas between; `host`: identifier of their answers;
        `settle_s`: how long stop() waits for rest before it leaves the motors damping.
        """
        names = motor.split(",") if "," in motor else [motor] * len(spec.joints)
        for name in names:
            if name not in mit.MOTORS:
                raise ConfigError(f"motor={name}: unknown. {nearest(name, list(mit.MOTORS))}")
        if len(names) != len(spec.joints):
            raise ConfigError(f"motor= has {len(names)} types for {len(spec.joints)} joints.")
        wires = wiring(spec, ids, direction, zero, calibration)
        bus = CanBus(interface, channel, bitrate, host)
        try:
            return cls(spec, bus, wires, tuple(mit.MOTORS[n] for n in names), settle_s, hot_c)
        except BaseException:
            bus.close()
            raise

    def now_ns(self) -> int:
        """The machine's monotonic clock [ns]."""
        return time.monotonic_ns()

    def wait(self, until_ns: int) -> None:
        """Sleep."""
        wait(until_ns)

    def read(self, timeout_s: float) -> Sample:
        """The state of all motors, each as the answer to a frame sent in this call.

        StaleState names the joints that did not answer; DriverError a motor's own fault, or a bus that is.
        """
        self._check_open()
        until = time.monotonic_ns() + round(timeout_s * 1e9)
        self._drain(until)
        sent_ns = self._send(self._frames)
        missing = self._collect(until)
        if self._ledger.odd(time.monotonic_ns()) > ODD_LIMIT:
            raise DriverError("motors answer when nobody asked: two have the same id, or answers come cycles late")
        if missing:
            raise StaleState(f"no answer in time from {', '.join(self._called(missing))}")
        return self._sample(sent_ns)

    def write(self, command: JointCommand) -> JointCommand:
        """Send a command to every motor; returns it as the frames carry it. The first one enables the motors."""
        self._check_open()
        try:
            command = command.ordered(self.spec.joint_names)
        except KeyError as error:
            raise DriverError(f"nothing was sent: {error.args[0]}") from error
        frames, sent = self._framer.encode(command, self._readings)
        if not self._enabled:
            self._enable()
        self._frames = frames
        self._send(frames)
        return sent

    def stop(self, reason: StopReason) -> None:
        """Damp until all is still, then disable; motors that do not come to rest in `settle_s` go on damping.

        DriverError when a motor did not answer; the frames were sent all the same.
        """
        if self._closed:
            return
        self._frames = self._damping
        begin, still_since, answered = time.monotonic_ns(), None, False
        trouble: DriverError | None = None
        while True:
            now = time.monotonic_ns()
            try:
                self._send(self._damping)
                answered = not self._collect(now + ANSWER_NS)
                self._ledger.write_off()
            except DriverError as error:
                trouble = error
            else:
                trouble = None
            still_since = (still_since or now) if answered and trouble is None and self._still() else None
            if still_since is not None and (not self._enabled or now - still_since >= STILL_FOR_NS):
                break
            if now - begin >= self._settle_ns:
                break
            wait(now + 5_000_000)
        if still_since is not None:
            self._send([mit.DISABLE] * len(self._motors))
            self._enabled = False
        if trouble is not None or not answered:
            raise trouble or DriverError("the motors were told to damp, but not all of them answer")

    def close(self) -> None:
        """Release the bus; the motors go on with what stop() told them."""
        if not self._closed:
            self._closed = True
            self._bus.close()

    def _greet(self) -> None:
        """Every motor must answer the damping frame, which moves nothing."""
        for _ in range(2):
            self._ledger.write_off()
            sent_ns = self._send(self._damping)
            missing = self._collect(sent_ns + round(OPEN_S * 1e9))
            if not missing:
                break
        else:
            raise DriverError(
                f"no answer from {', '.join(self._called(missing))} on CAN '{self._bus.channel}': check power, ids, "
                "wiring and bit rate"
            )
        self._sample(sent_ns)

    def _enable(self) -> None:
        """Enable all motors, damping; DriverError when a joint moves or a motor does not answer."""
        why = self._readings.moving(time.monotonic_ns())
        if why is not None:
            raise DriverError(f"{why}; motors are enabled at rest only: hold the robot still and start again")
        self._drain(time.monotonic_ns() + 5_000_000)
        self._send(self._damping)
        self._send([mit.ENABLE] * len(self._motors))
        missing = self._collect(time.monotonic_ns() + round(OPEN_S * 1e9))
        self._ledger.write_off()
        if missing:
            raise DriverError(f"no answer to enabling from {', '.join(self._called(missing))}")
        self._enabled = True

    def _send(self, frames: list[bytes]) -> int:
        """One frame to each motor; when [ns] the last was out."""
        for id, frame in zip(self._wires.ids, frames, strict=True):
            self._bus.send(id, frame)
            self._ledger.sent(id)
        return time.monotonic_ns()

    def _drain(self, until_ns: int) -> None:
        """Take in what has come since the last call; while an answer is owed from then, wait half the time for it."""
        half = time.monotonic_ns() + max(0, until_ns - time.monotonic_ns()) // 2
        while (data := self._bus.receive(0.0)) is not None:
            self._take(data)
            if time.monotonic_ns() > until_ns:
                raise StaleState("frames come faster than they can be taken in")
        if self._ledger.owing():
            self._collect(half)
            self._ledger.write_off()

    def _collect(self, until_ns: int) -> list[int]:
        """Take in answers until none is owed or time is up; the motors that still owe one."""
        while (owing := self._ledger.owing()) and (left := until_ns - time.monotonic_ns()) > 0:
            data = self._bus.receive(left * 1e-9)
            if data is not None:
                self._take(data)
        return owing

    def _take(self, data: bytes) -> None:
        k = self._place.get(data[0]) if data else None
        if k is None:
            return  # another motor's
        try:
            state = mit.decode_state(data, self._motors[k])
        except MitError:
            return  # as if it had got lost
        if self._ledger.answered(state.motor, time.monotonic_ns()):
            self._states[k] = state

    def _sample(self, t_ns: int) -> Sample:
        """The newest states as a reading; DriverError when a motor reports a fault or is hot."""
        states = [s for s in self._states if s is not None]
        for name, state in zip(self.spec.joint_names, states, strict=True):
            if state.error:
                raise DriverError(f"motor of joint '{name}': {mit.ERRORS.get(state.error, f'error {state.error}')}")
            if state.temperature is not None and state.temperature > self._hot_c:
                raise DriverError(f"motor of joint '{name}' has {state.temperature:.0f} °C; hot_c is {self._hot_c:g}")
        joints = self._readings.take(
            t_ns, [s.position for s in states], [s.velocity for s in states], [s.torque for s in states]
        )
        celsius = [math.nan if s.temperature is None else s.temperature for s in states]
        health = Health(temperature=np.array(celsius), voltage=self._no_voltage)
        return Sample(t_ns=time.monotonic_ns(), joints=joints, health=health)

    def _still(self) -> bool:
        return all(s is not None and abs(s.velocity) <= STILL for s in self._states)

    def _called(self, ids: list[int]) -> list[str]:
        return [f"'{self._wires.named(id)[0]}' (id {id})" for id in ids]

    def _check_open(self) -> None:
        if self._closed:
            raise DriverError("the CAN driver is closed; open it again")
