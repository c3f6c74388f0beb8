"""PositionServos: position servos on a half-duplex bus, whichever protocol they speak.

What a servo can be told is where to be and whether to have torque; its gains are its own. A command whose kp is above 0
gives the servo its position, one with kd alone lets it damp, one with neither lets it go; the returned command says so.
Torque comes at rest only, and with the present position as goal, so that a goal from long ago moves nothing. The safe
action `hold` makes the present position the goal; close() then releases as the driver's option says.
"""

from __future__ import annotations

import contextlib
import dataclasses
import math
import time
from collections.abc import Mapping
from typing import NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

from robot.driver import DriverError, StopReason
from robot.drivers.readings import STILL, STILL_FOR_NS, Readings, wait
from robot.drivers.wiring import MIDDLE, RAD_PER_COUNT, Wiring
from robot.spec import RobotSpec
from robot.state import Health, JointCommand, Sample

Array = npt.NDArray[np.float64]

OFF, ON, DAMPED = 0, 1, 2
"""Values of both protocols' torque register; DAMPED is Feetech's."""
FRESH_S = 0.1
"""Time for a reading that the driver itself needs."""
TRIES = 4
ASTRAY = 64
"""Counts beyond the goals that a servo takes: one that is farther out would turn back when it is told to hold."""


class ServoState(NamedTuple):
    """One reading of all servos, in the order of the wiring."""

    t_ns: int
    position: Array
    """[counts]."""
    velocity: Array
    """[rad/s]."""
    temperature: Array
    """[°C]."""
    voltage: Array
    """[V]."""


class ServoBus(Protocol):
    """What a protocol offers to PositionServos. Every call raises DriverError when the bus is gone."""

    can_damp: bool
    lowest: Array
    """(n,) the lowest goal of each servo [counts]."""
    highest: Array

    def state(self, timeout_s: float) -> ServoState:
        """A new reading of every servo; StaleState names those that did not answer, DriverError a servo's fault."""
        ...

    def positions(self, timeout_s: float) -> dict[int, int]:
        """id -> position [counts] of the servos that answer, whatever they report besides."""
        ...

    def settings(self) -> list[tuple[int, int]]:
        """(torque register, goal [counts]) of every servo, read back from it."""
        ...

    def tell_goals(self, goals: Mapping[int, int]) -> None:
        """id -> goal [counts]; nobody answers."""
        ...

    def tell_torque(self, torques: Mapping[int, int]) -> None:
        """id -> OFF, ON or DAMPED; nobody answers."""
        ...

    def close(self) -> None:
        """Release the port."""
        ...


class PositionServos:
    """The joints of a robot, one position servo each."""

    def __init__(
        self, spec: RobotSpec, bus: ServoBus, wires: Wiring, *, turn: float, settle_s: float, release: str
    ) -> None:
        """`turn`: what a position jumps by where the encoder wraps [rad]; `release`: hold, damp or off, at close().

        DriverError when a servo does not answer, or a joint's travel crosses the end of its encoder.
        """
        self.spec, self._bus, self._wires = spec, bus, wires
        self._settle_ns, self._release = round(settle_s * 1e9), release
        self._readings = Readings(spec, wires, np.full(len(wires.ids), turn))
        self._actions = {a.joint: a.safe_action for a in spec.actuators}
        self._gains = np.zeros((2, len(wires.ids)))
        self._gains[:, spec.driven] = [[a.kp for a in spec.actuators], [a.kd for a in spec.actuators]]
        self._closed = False
        self._drove = self._untold = False
        """Whether this driver has told the servos anything, for what it only watched it does not release; and whether
        stop() has failed, so that what they were told may not have arrived."""
        settings = bus.settings()
        self._torque = np.array([t for t, _ in settings])
        self._goal = np.array([g for _, g in settings])
        if (trouble := self._refresh()) is not None:
            raise DriverError(str(trouble)) from trouble
        self._check_travel()

    def now_ns(self) -> int:
        """The machine's monotonic clock [ns]."""
        return time.monotonic_ns()

    def wait(self, until_ns: int) -> None:
        """Sleep."""
        wait(until_ns)

    def read(self, timeout_s: float) -> Sample:
        """A reading that was asked for in this call; StaleState or DriverError as robot.driver says."""
        self._check_open()
        return self._take(self._bus.state(timeout_s))

    def write(self, command: JointCommand) -> JointCommand:
        """Send the goals; returns what the servos really do. Torque that is not on yet is given first, at rest only."""
        self._check_open()
        try:
            c = command.ordered(self.spec.joint_names)
        except KeyError as error:
            raise DriverError(f"nothing was sent: {error.args[0]}") from error
        if not np.isfinite(c.position + c.velocity + c.effort + c.kp + c.kd).all():
            raise DriverError("the command has a value that is not finite; nothing was sent")
        if (k := self._readings.wrapped()) is not None:
            raise DriverError(
                f"joint '{self.spec.joint_names[k]}' has turned past the end of its encoder; its servo would go the "
                "long way round: move it back by hand"
            )
        self._drove = True
        limp = np.where((c.kd > 0.0) & self._bus.can_damp, DAMPED, OFF)
        wanted = np.where(c.kp > 0.0, ON, limp)
        if (wanted != self._torque).any():
            self._switch(wanted)
        goals = np.rint(self._readings.to_motor(c.position) / RAD_PER_COUNT) + MIDDLE
        goals = np.clip(goals, self._bus.lowest, self._bus.highest).astype(int)
        on = wanted == ON
        if on.any():
            self._bus.tell_goals({self._wires.ids[i]: int(goals[i]) for i in np.flatnonzero(on)})
        self._goal = np.where(on, goals, self._goal)
        return self._said(c, wanted)

    def stop(self, reason: StopReason) -> None:
        """Each joint's safe action, and wait for rest up to `settle_s`; safe to call twice, and after a failure.

        DriverError when the servos do not answer; they were told all the same.
        """
        if self._closed:
            return
        if not (self._torque == ON).any() and not self._untold:
            return  # nothing has torque: nothing to hold, and nothing is given torque in order to stop
        self._drove = True
        trouble = self._hold()
        begin, still_since = time.monotonic_ns(), None
        while trouble is None and (now := time.monotonic_ns()) - begin < self._settle_ns:
            trouble = self._refresh()
            last = self._readings.last
            still = trouble is None and last is not None and (np.abs(last.velocity) <= STILL).all()
            still_since = (still_since or now) if still else None
            if still_since is not None and now - still_since >= STILL_FOR_NS:
                break
            wait(now + 10_000_000)
        if trouble is not None:
            for _ in range(TRIES):
                self._tell_quietly()
            self._untold = True
            raise DriverError(f"the servos were told to stop, but: {trouble}")
        self._untold = False

    def close(self) -> None:
        """Release the joints as the option says, and the port."""
        if self._closed:
            return
        self._closed = True
        value = {"hold": ON, "damp": DAMPED if self._bus.can_damp else ON, "off": OFF}[self._release]
        with contextlib.suppress(DriverError):  # where the bus is gone there is nobody to tell
            if self._drove and value != ON and (self._untold or (self._torque != OFF).any()):
                for _ in range(TRIES):
                    self._bus.tell_torque(dict.fromkeys(self._wires.ids, value))
                    if all(torque == value for torque, _ in self._bus.settings()):
                        break
        self._bus.close()

    def _hold(self) -> DriverError | None:
        """Send the safe action, by a new reading, else by what can be read at all; what went wrong, or None."""
        trouble = self._refresh()
        counts = self._counts() if trouble is None else self._found()
        self._goal = np.clip(counts, self._bus.lowest, self._bus.highest).astype(int)
        astray, limp = np.abs(counts - self._goal) > ASTRAY, DAMPED if self._bus.can_damp else OFF
        for i, name in enumerate(self.spec.joint_names):
            action = self._actions.get(name, "zero")
            if self._torque[i] != OFF:
                # a servo that cannot damp holds: to let go would be to let fall
                damps = action == "damp" and self._bus.can_damp
                self._torque[i] = OFF if action == "zero" else limp if astray[i] else DAMPED if damps else ON
        return self._tell_quietly() or trouble

    def _counts(self) -> Array:
        """(n,) where the servos were when last read."""
        last = self._readings.last
        assert last is not None
        return np.asarray(np.rint(self._readings.to_motor(last.position) / RAD_PER_COUNT) + MIDDLE)

    def _found(self) -> Array:
        """(n,) where the servos are that still answer; of the others the goals that they have.

        Where a silent one is nobody knows: to send it back to where it was would be one more motion.
        """
        found: dict[int, int] = {}
        with contextlib.suppress(DriverError):
            found = self._bus.positions(FRESH_S)
        return np.array([found.get(id, int(goal)) for id, goal in zip(self._wires.ids, self._goal, strict=True)], float)

    def _tell_quietly(self) -> DriverError | None:
        """Send goals and torques as they should be; the error instead of raising it."""
        ids, on = self._wires.ids, np.flatnonzero(self._torque == ON)
        try:
            if on.size:
                self._bus.tell_goals({ids[i]: int(self._goal[i]) for i in on})
            if (released := np.flatnonzero(self._torque != ON)).size:  # ON is never told here: stopping gives no torque
                self._bus.tell_torque({ids[i]: int(self._torque[i]) for i in released})
        except DriverError as error:
            return error
        return None

    def _refresh(self) -> DriverError | None:
        """Try to get a new reading; what kept it from coming, or None."""
        trouble: DriverError | None = None
        for _ in range(TRIES):
            try:
                self._take(self._bus.state(FRESH_S))
                return None
            except DriverError as error:
                trouble = error
        return trouble

    def _switch(self, wanted: npt.NDArray[np.int_]) -> None:
        """Change torque registers and see that they changed; torque is given at rest, at the present position."""
        rising = np.flatnonzero((wanted == ON) & (self._torque != ON))
        ids = self._wires.ids
        if rising.size:
            why = self._readings.moving(time.monotonic_ns())
            if why is not None:
                raise DriverError(f"{why}; torque is given at rest only: hold the robot still and start again")
            last = self._readings.last
            assert last is not None
            here = np.rint(self._readings.to_motor(last.position) / RAD_PER_COUNT).astype(int) + MIDDLE
            goals = np.clip(here, self._bus.lowest, self._bus.highest).astype(int)
            for _ in range(TRIES):
                self._bus.tell_goals({ids[i]: int(goals[i]) for i in rising})
                told = self._bus.settings()
                if all(told[i][1] == goals[i] for i in rising):
                    break
            else:
                raise DriverError("a servo does not take its present position as goal: torque was not given")
        self._torque = np.where(wanted == ON, ON, self._torque)  # for stop(): some may take it although not all answer
        for _ in range(TRIES):
            self._bus.tell_torque({id: int(t) for id, t in zip(ids, wanted, strict=True)})
            if [t for t, _ in self._bus.settings()] == wanted.tolist():
                self._torque = wanted.copy()
                return
        raise DriverError("a servo does not switch its torque: check its supply")

    def _take(self, state: ServoState) -> Sample:
        position = (state.position - MIDDLE) * RAD_PER_COUNT
        joints = self._readings.take(state.t_ns, position.tolist(), state.velocity.tolist(), [math.nan] * len(position))
        health = Health(temperature=state.temperature, voltage=state.voltage)
        return Sample(t_ns=time.monotonic_ns(), joints=joints, health=health)

    def _said(self, c: JointCommand, torque: npt.NDArray[np.int_]) -> JointCommand:
        """What the servos do: their own gains about the goal, and no torque that was asked for besides."""
        on, zero = torque == ON, np.zeros(len(torque))
        goal = self._wires.to_joint((self._goal - MIDDLE) * RAD_PER_COUNT) + self._readings.wraps()
        kp, kd = self._gains
        return dataclasses.replace(
            c,
            t_ns=time.monotonic_ns(),
            position=np.where(on, goal, c.position),
            velocity=zero,
            effort=zero,
            kp=np.where(on, kp, 0.0),
            kd=np.where(on, kd, np.where(torque == DAMPED, c.kd, 0.0)),
        )

    def _check_travel(self) -> None:
        """ConfigError where part of a joint's travel lies beyond the ends of its encoder."""
        limits = np.array([j.position_limits for j in self.spec.joints]).T
        for end in limits:
            counts = self._readings.to_motor(end) / RAD_PER_COUNT + MIDDLE
            outside = np.isfinite(end) & ((counts < self._bus.lowest - 1) | (counts > self._bus.highest + 1))
            if outside.any():
                i = int(np.argmax(outside))
                raise DriverError(
                    f"joint '{self.spec.joint_names[i]}': its travel to {end[i]:.3f} rad crosses the end of its "
                    f"encoder (count {counts[i]:.0f}): set its homing offset, so that the middle reads {MIDDLE}"
                )

    def _check_open(self) -> None:
        if self._closed:
            raise DriverError("the servo driver is closed; open it again")
