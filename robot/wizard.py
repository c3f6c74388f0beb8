"""The wizard of `terrafirma doctor wiggle=true`: one joint after another moves a little, and a person says what turned.

A motor and its encoder turn together, so no reading tells that one is mirrored or that two are exchanged. What can be
told without a person is: a joint that does not move, and one that its own motor drives the wrong way.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass

import numpy as np

from robot.driver import Driver, DriverError, StaleState
from robot.drivers.wiring import Wiring
from robot.limits import Limits
from robot.spec import RobotSpec
from robot.state import JointCommand, Joints

STEP = 0.1
"""How far a joint moves [rad]: six degrees."""
SHARE = 0.2
"""Of the joint's torque and speed."""
MOVE_S, STAY_S, PERIOD_S = 0.8, 0.4, 0.01
TALK_S = 0.02
"""How often something is said on the bus while a question is open."""
LEAST = 0.015
"""A joint that moved less [rad] did not move."""

Ask = Callable[[str], str]


@dataclass(frozen=True, slots=True)
class Seen:
    """What a person saw when `commanded` was moved in its positive direction."""

    commanded: str
    joint: str
    """The joint that turned."""
    sense: int
    """1 when it turned in its own positive direction, -1 the other way."""
    moved: float
    """By the motor's own encoder [rad]."""


def wiggle(driver: Driver, spec: RobotSpec, ask: Ask) -> list[Seen]:
    """Move each driven joint and ask; DriverError for one that does not move, or that moves against its command."""
    seen = []
    for k in spec.driven:
        name = spec.joint_names[k]
        towards = -1.0 if _read(driver, spec).position[k] + STEP > spec.joints[k].position_limits[1] else 1.0
        try:
            moved = towards * _swing(driver, spec, k, towards * STEP)
        finally:
            driver.stop("done")
        if moved < -LEAST:
            raise DriverError(f"joint '{name}' moves against its command: motor or encoder is connected wrongly")
        if moved < LEAST:
            raise DriverError(f"joint '{name}' moved by {moved:.3f} rad with a fifth of its torque: is it free?")
        way = "positive" if towards > 0 else "negative"
        text = (
            f"'{name}' was told to turn in its {way} direction and back. ENTER if that is what you saw, '-' if it "
            f"turned the other way, or the name of the joint that turned instead ('-name' the other way): "
        )
        with talking(driver):
            typed = ask(text)
        joint, sense = answer(spec, name, typed)
        seen.append(Seen(name, joint, sense, float(towards * moved)))
    return seen


@contextmanager
def talking(driver: Driver) -> Iterator[None]:
    """Go on reading while a person thinks: servos with a watchdog of their own take silence for the end of the host."""
    over = threading.Event()

    def read() -> None:
        while not over.wait(TALK_S):
            with suppress(DriverError):
                driver.read(TALK_S)

    thread = threading.Thread(target=read, name="wizard", daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def answer(spec: RobotSpec, name: str, text: str) -> tuple[str, int]:
    """Which joint turned and which way, of what a person typed; DriverError when it names no joint."""
    word = text.strip()
    joint = word.removeprefix("-").strip() or name
    if joint not in spec.joint_names:
        raise DriverError(f"'{joint}' is no joint of '{spec.name}'; its joints are {', '.join(spec.joint_names)}")
    return joint, -1 if word.startswith("-") else 1


def _swing(driver: Driver, spec: RobotSpec, joint: int, step: float) -> float:
    """There and back; how far it got by its own encoder [rad]."""
    start, limits = _read(driver, spec), Limits(spec, PERIOD_S)
    rest = JointCommand.safe(spec, 0, start.position)
    kp, kd = rest.kp.copy(), rest.kd.copy()
    actuator = next(a for i, a in zip(spec.driven, spec.actuators, strict=True) if i == joint)
    kp[joint] = actuator.kp or SHARE * actuator.effort_limit / STEP
    kd[joint] = actuator.kd or 0.3 * actuator.safe_kd
    ticks, farthest, begin = round((2 * MOVE_S + STAY_S) / PERIOD_S), 0.0, driver.now_ns()
    for tick in range(ticks):
        driver.wait(begin + round(tick * PERIOD_S * 1e9))
        t = tick * PERIOD_S
        share = min(t / MOVE_S, 1.0) if t < MOVE_S + STAY_S else max(1.0 - (t - MOVE_S - STAY_S) / MOVE_S, 0.0)
        position = start.position.copy()
        position[joint] += share * step
        zero = np.zeros(len(position))
        wish = JointCommand(
            names=spec.joint_names, t_ns=driver.now_ns(), position=position, velocity=zero, effort=zero, kp=kp, kd=kd
        )
        now = _read(driver, spec)
        driver.write(limits.apply(wish, now, SHARE)[0])
        away = now.position[joint] - start.position[joint]
        farthest = away if abs(away) > abs(farthest) else farthest
        if abs(away) > 3 * STEP:
            raise DriverError(f"joint '{spec.joint_names[joint]}' ran away by {away:.2f} rad; it was stopped")
    return float(farthest)


def _read(driver: Driver, spec: RobotSpec, tries: int = 10) -> Joints:
    for left in reversed(range(tries)):
        try:
            return driver.read(0.05).joints.ordered(spec.joint_names)
        except StaleState:
            if not left:
                raise
            driver.wait(driver.now_ns() + 1_000_000)
    raise AssertionError


def corrected(wires: Wiring, seen: list[Seen]) -> dict[str, dict[str, int | float]]:
    """joint -> id, direction and zero as a calibration file has them, so that each name means the joint that turned.

    DriverError when one joint is said to have turned twice.
    """
    found: dict[str, dict[str, int | float]] = {}
    rows = list(zip(wires.names, wires.ids, wires.direction.tolist(), wires.zero.tolist(), strict=True))
    told = {s.commanded: s for s in seen}
    for name, id, direction, zero in rows:
        joint, sense = (told[name].joint, told[name].sense) if name in told else (name, 1)
        if joint in found:
            raise DriverError(f"joint '{joint}' turned for two motors; look again, one joint at a time")
        found[joint] = {"id": id, "direction": round(direction * sense), "zero": zero}
    return found
