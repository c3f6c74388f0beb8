"""Troubles at random times on the emulated buses of all three drivers: whatever happens, the robot ends safe.

    python tests/benchmarks/fault_campaign.py [INJECTIONS] [SECONDS] [WATCHDOG_S]

Default: 2000 injections, without a limit of time, with the robots' own watchdogs. A machine that is busy needs more
patient ones, or they bark before the trouble begins.

Each run is the control loop that ships, on emulated motors in another process. What commands it is as bad as a policy
can be: targets that jump, torques beyond the limits, now and then a value that is no number. In the middle a trouble of
a random kind begins, at a random joint, for a random time. Afterwards what the motors were really told is looked
through. Prints the table of docs/safety.md; ends with exit code 1 when a run broke a rule.
tests/sim/test_fault_campaign.py runs a short one.
"""

from __future__ import annotations

import contextlib
import dataclasses
import sys
import tempfile
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import mujoco
import numpy as np
import numpy.typing as npt

from robot import log as logs
from robot.driver import Driver, DriverError, open_driver
from robot.loop import ControlLoop, LoopConfig, LoopReport
from robot.recorder import Recorder
from robot.safety import Safety
from robot.spec import RobotSpec, load_spec
from robot.state import JointCommand, Sample
from sim.emulators.client import Emulator, emulate
from sim.model import Model, find_robot

ROBOTS = {
    "can": ("double_pendulum_c1", "mit", (0.0, 0.0)),
    "feetech": ("so101", "feetech", (0.0, -0.337, 0.839, 1.402, 0.0, 0.5)),
    "dynamixel": ("servo_bench", "dynamixel", (0.0,)),
}
"""driver -> robot, motors, and where the robot stays when its motors are free."""
KINDS = (
    "lost", "late", "corrupt", "duplicated", "stale", "frozen", "foreign", "echo", "noise", "bus_off", "unplugged",
    "brown_out", "hot", "wrapped", "wrong_direction", "nan",
)  # fmt: skip
"""Those of sim.emulators.faults, and a policy that answers NaN."""
PERIOD_S = 0.01
RUN_S = 0.4
HANG_S = 30.0
"""A run that takes longer hangs."""
NEAR = 0.2
"""[rad] A target this near to where the joint is moves nothing; nor does one that is farther by as much as the robot's
own weight pulls the joint away from it, as it does where a servo with soft gains holds."""


@dataclass(frozen=True)
class Injection:
    """One trouble."""

    kind: str
    joint: str | None
    after_s: float
    seconds: float
    amount: float | None

    @property
    def words(self) -> str:
        """As the emulator is told."""
        joint = f" joint={self.joint}" if self.joint else ""
        amount = "" if self.amount is None else f" amount={self.amount:.3f}"
        return f"fault {self.kind} seconds={self.seconds:.3f}{joint}{amount}"


def draw(spec: RobotSpec, kind: str, rng: np.random.Generator) -> Injection:
    """A trouble of a kind, at a random place and time."""
    alone = kind not in ("bus_off", "unplugged", "echo") and rng.random() < 0.5
    joint = str(rng.choice(spec.joint_names)) if alone else None
    amount = {"lost": rng.uniform(0.1, 1.0), "late": rng.uniform(0.001, 0.05), "corrupt": rng.uniform(0.1, 1.0)}
    times = float(rng.uniform(0.05, 0.7 * RUN_S)), float(10.0 ** rng.uniform(-2.0, 0.0))
    return Injection(kind, joint, *times, amount.get(kind))


class BadPolicy:
    """Wants jumps, too much torque, and at a given time NaN."""

    cameras: tuple[str, ...] = ()
    needs: tuple[str, ...] = ()
    action: npt.NDArray[np.float32] | None = None
    unfamiliar: str | None = None

    def __init__(self, spec: RobotSpec, rng: np.random.Generator, nan_after_s: float | None) -> None:
        self.spec, self.period_ns, self._rng = spec, round(PERIOD_S * 1e9), rng
        self._kp, self._kd = np.zeros((2, len(spec.joints)))
        self._kp[spec.driven] = [a.kp or 8.0 for a in spec.actuators]
        self._kd[spec.driven] = [a.kd or 0.3 for a in spec.actuators]
        self._nan_step = None if nan_after_s is None else round(nan_after_s / PERIOD_S)
        self.reset()

    def reset(self) -> None:
        """Begin where the robot is."""
        self._step, self._home = 0, None

    def act(self, sample: Sample) -> JointCommand:
        """A target about the start, another one every tenth of a second, and torque that is too much."""
        joints, rng = sample.joints.ordered(self.spec.joint_names), self._rng
        if self._home is None or self._step % 10 == 0:
            self._home = joints.position.copy() if self._home is None else self._home
            self._target = self._home + rng.uniform(-0.3, 0.3, len(self._home))
        self._step += 1
        effort = rng.normal(size=len(self._home)) * (20.0 if rng.random() < 0.05 else 0.2)
        if self._nan_step is not None and self._step >= self._nan_step:
            effort = effort * np.nan
        zero = np.zeros(len(effort))
        return JointCommand(
            names=self.spec.joint_names, t_ns=sample.t_ns, position=self._target, velocity=zero, effort=effort,
            kp=self._kp, kd=self._kd,
        )  # fmt: skip


@dataclass(frozen=True)
class Outcome:
    """What came of one injection."""

    driver: str
    injection: Injection
    fault: str | None
    """Kind of the first fault; None where the run went on."""
    broken: tuple[str, ...]
    """Rules that were broken."""


def open_on(driver: str, emulator: Emulator, spec: RobotSpec) -> Driver:
    """The driver of an emulator, with as much patience as a busy machine needs."""
    where = {"interface": "slcan", "channel": str(emulator.port)} if driver == "can" else {"port": str(emulator.port)}
    more = {"watchdog_s": 0.5} if driver == "dynamixel" else {}
    for left in reversed(range(5)):
        try:
            return open_driver(driver, spec, **where, settle_s=1.5 if driver == "can" else 0.5, **more)
        except DriverError:
            if not left:
                raise
    raise AssertionError


def inject(
    driver: str,
    emulator: Emulator,
    injection: Injection,
    rng: np.random.Generator,
    folder: Path,
    watchdog_s: float | None = None,
) -> Outcome:
    """One run with one trouble in it; `watchdog_s` instead of the robot's own."""
    spec = load_spec(ROBOTS[driver][0])
    spec = spec if watchdog_s is None else dataclasses.replace(spec, watchdog_s=watchdog_s)
    emulator.rest()
    path = folder / "episode.mcap"
    path.unlink(missing_ok=True)
    opened = open_on(driver, emulator, spec)
    policy = BadPolicy(spec, rng, injection.after_s if injection.kind == "nan" else None)
    recorder = Recorder(path, "campaign", spec)
    loop = ControlLoop(policy, opened, Safety(spec, PERIOD_S), recorder, LoopConfig())
    timer = threading.Timer(injection.after_s, lambda: emulator.tell(injection.words))
    if injection.kind != "nan":
        timer.start()
    begin = time.monotonic()
    try:
        report = loop.run(RUN_S)
        seconds = time.monotonic() - begin
    finally:
        timer.cancel()
        timer.join() if timer.ident else None
        with contextlib.suppress(DriverError):
            opened.close()
    rows = emulator.record()
    broken = [
        *_of_the_wire(driver, spec, injection, rows),
        *_of_the_end(driver, spec, injection, report, rows),
        *_of_the_log(report, path),
    ]
    if seconds > HANG_S:
        broken.append(f"hung for {seconds:.0f} s")
    return Outcome(driver, injection, report.faults[0].kind if report.faults else None, tuple(broken))


def _of_the_wire(driver: str, spec: RobotSpec, injection: Injection, rows: dict[str, Any]) -> Iterable[str]:
    """Every order that the motors got: within limits, and no target that jumps away from where the joint is.

    A servo whose encoder wraps takes the goal that it has for one a turn away, which is its own doing.
    """
    states, orders = rows["states"], rows["orders"]
    count = 24.0 / 4095 if driver == "can" else 2 * np.pi / 4096
    for k, joint in enumerate(spec.joints):
        own, seen = orders[orders[:, 1] == k], states[states[:, 1] == k]
        most = float(spec.effort_limits[k]) + count
        if len(own) and np.abs(own[:, 4]).max() > most:
            yield f"{joint.name}: {np.abs(own[:, 4]).max():.2f} N m were ordered, {most:.2f} are allowed"
        held = own[(own[:, 5] > 0) & (own[:, 7] > 0)]
        if len(held) < 2 or not len(seen) or injection.kind == "wrapped":
            continue
        here = seen[np.clip(np.searchsorted(seen[:, 0], held[1:, 0], side="right") - 1, 0, len(seen) - 1), 2]
        jump = np.abs(np.diff(held[:, 2])) > joint.velocity_limit * PERIOD_S + 3 * count
        far = np.abs(held[1:, 2] - here) > NEAR
        if (jump & far).any():
            yield f"{joint.name}: a target jumped by {np.abs(np.diff(held[:, 2]))[jump & far].max():.2f} rad"


def _of_the_end(
    driver: str, spec: RobotSpec, injection: Injection, report: LoopReport, rows: dict[str, Any]
) -> Iterable[str]:
    """Faults latch, and the last order of each motor is safe: damping, holding still, or off."""
    if bool(report.faults) != (report.state == "fault"):
        yield f"ended in state {report.state} with {len(report.faults)} faults"
    if injection.kind == "unplugged":
        return  # there is no wire to say it on; motors without a watchdog of their own go on
    orders, states = rows["orders"], rows["states"]
    ends = [states[states[:, 1] == k, 2] for k in range(len(spec.joints))]
    load = np.abs(weight(driver, np.array([end[-1] if len(end) else 0.0 for end in ends])))
    for k, joint in enumerate(spec.joints):
        own = orders[orders[:, 1] == k]
        if not len(own) or not own[-1, 7]:
            continue
        _, _, position, _, effort, kp, _, _ = own[-1]
        if abs(effort) > 0.01 or (kp > 0 and len(ends[k]) and abs(position - ends[k][-1]) > NEAR + load[k] / kp):
            yield f"{joint.name}: the last order is no safe one ({own[-1, 2:].round(3).tolist()})"


def weight(driver: str, position: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """(n_joints,) [N m] what gravity asks of the joints of a driver's robot at `position` (n_joints,) [rad]."""
    model = Model(find_robot(ROBOTS[driver][0]))
    data = mujoco.MjData(model.mj)
    data.qpos[model.qpos_index] = position
    mujoco.mj_forward(model.mj, data)
    return np.asarray(data.qfrc_bias[model.dof_index])


def _of_the_log(report: LoopReport, path: Path) -> Iterable[str]:
    log = logs.load(path)
    events = " ".join(log["event"].values) if "event" in log else ""
    for fault in report.faults:
        if f"fault: {fault.kind}" not in events:
            yield f"the log does not tell of the fault '{fault.kind}'"
    if report.ticks and "joint.position" not in log:
        yield "the log has no readings"


def campaign(
    drivers: dict[str, Emulator],
    injections: int,
    seed: int,
    seconds: float = float("inf"),
    kinds: tuple[str, ...] = KINDS,
    watchdog_s: float | None = None,
) -> list[Outcome]:
    """`injections` runs over the drivers in turn, all kinds in turn; ends early after `seconds`."""
    rng, found, begin = np.random.default_rng(seed), [], time.monotonic()
    order = np.arange(len(kinds))
    with tempfile.TemporaryDirectory() as folder:
        for n in range(injections):
            driver = list(drivers)[n % len(drivers)]
            turn = (n // len(drivers)) % len(kinds)
            order = rng.permutation(len(kinds)) if n % (len(drivers) * len(kinds)) == 0 else order
            kind = kinds[order[turn]]
            injection = draw(load_spec(ROBOTS[driver][0]), kind, rng)
            found.append(inject(driver, drivers[driver], injection, rng, Path(folder), watchdog_s))
            if time.monotonic() - begin > seconds:
                break
    return found


def table(found: list[Outcome]) -> str:
    """Markdown: what came of each kind."""
    by_kind: dict[str, list[Outcome]] = defaultdict(list)
    for outcome in found:
        by_kind[outcome.injection.kind].append(outcome)
    lines = ["| trouble | injections | ridden out | first fault | rules broken |", "|---|---|---|---|---|"]
    for kind in (k for k in KINDS if k in by_kind):
        outcomes = by_kind[kind]
        faults = Counter(o.fault for o in outcomes if o.fault)
        told = ", ".join(f"{name} {n}" for name, n in faults.most_common()) or "-"
        broken = sum(bool(o.broken) for o in outcomes)
        lines.append(f"| {kind} | {len(outcomes)} | {sum(o.fault is None for o in outcomes)} | {told} | {broken} |")
    total = sum(bool(o.broken) for o in found)
    lines.append(f"| **all** | {len(found)} | {sum(o.fault is None for o in found)} | | {total} |")
    return "\n".join(lines)


def main(words: list[str]) -> int:
    """Run it and print the table."""
    injections = int(words[0]) if words else 2000
    seconds = float(words[1]) if len(words) > 1 else float("inf")
    with contextlib.ExitStack() as stack:
        drivers = {
            name: stack.enter_context(emulate(robot=robot, motors=motors, start=start))
            for name, (robot, motors, start) in ROBOTS.items()
        }
        patience = float(words[2]) if len(words) > 2 else None
        found = campaign(drivers, injections, seed=0, seconds=seconds, watchdog_s=patience)
    print(table(found))
    for outcome in found:
        for rule in outcome.broken:
            print(f"{outcome.driver}, {outcome.injection.words}: {rule}")
    return int(any(o.broken for o in found))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
