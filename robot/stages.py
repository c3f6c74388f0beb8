"""The onboard stages: run, verify, record, replay. Files in, files out; numpy and onnxruntime are enough.

Each is a frozen dataclass of options and a function (options, driver options) -> Outcome; its docstring is what
`terrafirma <stage> --help` prints. The table is in robot/cli.py.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import closing
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from robot import bundle as bundles
from robot import excitation as excitations
from robot import log as logs
from robot.config import ConfigError, nearest
from robot.driver import Driver, driver_options, open_driver
from robot.drivers.replay import samples
from robot.loop import Commander, ControlLoop, LoopConfig, LoopReport
from robot.recorder import Recorder
from robot.result import Run
from robot.safety import Safety
from robot.spec import find_robot, load_spec

QUICK_S = 2.0


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a stage ends with."""

    result: Path
    """Its result.json."""
    exit_code: int
    summary: str


@dataclass(frozen=True, kw_only=True)
class Options:
    """Keys of every stage."""

    out: Path | None = None
    seed: int = 0
    quick: bool = False

    def start(self, stage: str, more: Mapping[str, Any] | None = None) -> Run:
        """Open the stage's run directory."""
        settings = asdict(self) | dict(more or {})
        return Run(stage, self.out, seed=self.seed, budget="quick" if self.quick else "full", settings=settings)


@dataclass(frozen=True, kw_only=True)
class Moving(Options):
    """Keys of the stages that move a robot."""

    driver: str
    seconds: float

    def __post_init__(self) -> None:
        if not self.seconds > 0:
            raise ConfigError(f"seconds={self.seconds}: it must be above 0.")

    @property
    def budget_s(self) -> float:
        return min(self.seconds, QUICK_S) if self.quick else self.seconds

    def open(self, commander: Commander, robot: Path | None, extra: Mapping[str, Any]) -> Driver:
        """The driver, with the common seed, the robot's file and the cameras in use where it takes them."""
        known, spec = driver_options(self.driver), commander.spec
        given: dict[str, Any] = {"seed": self.seed} if "seed" in known else {}
        if commander.cameras and "cameras" in known:
            given["cameras"] = commander.cameras
        if robot is not None and "robot" in known:
            given["robot"] = robot
        return open_driver(self.driver, spec, **{**given, **extra})


@dataclass(frozen=True, kw_only=True)
class RunOptions(Moving):
    bundle: Path
    robot: str | None = None
    key: Path | None = None
    shadow: bool = False
    unfamiliar: Literal["warn", "fault"] = "warn"


def run(options: RunOptions, extra: Mapping[str, str]) -> Outcome:
    """Run a controller bundle on a robot, in the onboard loop:

        terrafirma run bundle=DIR driver=sim seconds=10
        terrafirma run bundle=DIR driver=sim seconds=10 posterior=FILE seed=3
        terrafirma run bundle=DIR driver=NAME seconds=10 shadow=true robot=R key=PUBLIC.pem

    Reads   the bundle: every file is checked, and its recorded steps are replayed, before the driver is opened.
    Writes  episode.mcap, result.json. Costs real time on a robot, a tenth of it in simulation.
    Keys    bundle, driver, seconds; robot=R refuses bundles of other robots; key=FILE pins the signer;
            shadow=true watches and moves nothing; unfamiliar=warn|fault when the policy sees what training
            never saw; further keys go to the driver (posterior, start, spread_rad for sim; log for replay).
    Ends with 0; 4 when the bundle is refused; 5 after a fault. Ctrl-C stops the robot safely.
    """
    path = find_robot(options.robot) if options.robot else None
    controller = bundles.load(options.bundle, options.key, load_spec(path) if path else None)
    run = options.start("run", extra)
    run.input(options.bundle)
    for value in extra.values():
        if Path(value).is_file():
            run.input(Path(value))
    meta = {"bundle": controller.digest, "task": controller.task}
    safety = Safety(controller.spec, controller.period_ns * 1e-9, controller.monitor, options.unfamiliar)
    report = _drive(options, controller, safety, path, extra, run, meta, LoopConfig(shadow=options.shadow))
    keys = {
        "ticks": report.ticks,
        "missed_deadlines": report.missed_deadlines,
        "tick_us": report.tick_us,
        "faults": _faults(report),
        "state": report.state,
        "log": str(run.out / "episode.mcap"),
    }
    tick = report.tick_us
    summary = (
        f"{report.ticks} ticks, {report.missed_deadlines} deadlines missed, {report.stale} without a reading; "
        f"tick p50 {tick['p50']:.0f} µs, p99 {tick['p99']:.0f} µs; ended in state {report.state} ({report.reason})"
    )
    result = run.finish(keys, ("tick_us", "log"))
    return Outcome(result, _exit_code(report), "\n".join([summary, *_reasons(report)]))


@dataclass(frozen=True, kw_only=True)
class RecordOptions(Moving):
    robot: str
    excitation: str
    amplitude: float = 0.5


def record(options: RecordOptions, extra: Mapping[str, str]) -> Outcome:
    """Move a robot with an excitation and record it, for `terrafirma ingest` and `identify`:

        terrafirma record robot=simple_pendulum driver=sim excitation=chirp seconds=10
        terrafirma record robot=simple_pendulum driver=surrogate excitation=prbs seconds=10 seed=4 amplitude=0.3
        terrafirma record robot=R driver=NAME excitation=torques.csv seconds=8

    Reads   configs/robot/R.yaml (or robot=FILE.yaml); with a file, a CSV `time` [s] and one column an actuator.
    Writes  episode.mcap, result.json. Costs real time on a robot.
    Keys    robot, driver, excitation, seconds; amplitude is the share of the robot's torque limit (of its travel
            for position servos); seed draws the excitation; further keys go to the driver.
    Torque, travel and speed limits hold while it moves; the robot ends in its safe action.
    """
    path = find_robot(options.robot)
    spec = load_spec(path)
    seconds, rng = options.budget_s, np.random.default_rng(options.seed)
    source = Path(options.excitation)
    if options.excitation in excitations.KINDS:
        excitation = excitations.KINDS[options.excitation](spec, seconds, rng, options.amplitude)
    elif source.suffix == ".csv" or source.exists():
        excitation = excitations.from_file(source, spec)
    else:
        hint = nearest(options.excitation, list(excitations.KINDS))
        raise ConfigError(f"excitation={options.excitation}: neither a kind nor a CSV file. {hint}")
    run = options.start("record", extra)
    run.input(path)
    if options.excitation not in excitations.KINDS:
        run.input(source)
    commander = excitations.Exciter(spec, excitation)
    safety = Safety(spec, spec.control_period_s)
    report = _drive(options, commander, safety, path, extra, run, {"excitation": excitation.name}, LoopConfig())
    frames = len(report.log["joint.position"].t_ns) if report.log and "joint.position" in report.log else 0
    result = run.finish({"log": str(run.out / "episode.mcap"), "frames": frames}, ("log",))
    summary = f"{frames} frames in {report.log.seconds if report.log else 0.0:.2f} s; ended in state {report.state}"
    return Outcome(result, _exit_code(report), "\n".join([summary, *_reasons(report)]))


def _drive(
    options: Moving,
    commander: Commander,
    safety: Safety,
    robot: Path | None,
    extra: Mapping[str, str],
    run: Run,
    meta: Mapping[str, str],
    config: LoopConfig,
) -> LoopReport:
    with closing(options.open(commander, robot, extra)) as driver:
        meta = {**meta, "driver": options.driver, "shadow": str(config.shadow).lower(), "seed": str(options.seed)}
        recorder = Recorder(run.out / "episode.mcap", run.out.name, commander.spec, meta)
        return ControlLoop(commander, driver, safety, recorder, config).run(options.budget_s)


def _faults(report: LoopReport) -> list[dict[str, Any]]:
    return [{"t_s": fault.t_ns * 1e-9, "kind": fault.kind, "reason": fault.reason} for fault in report.faults]


def _reasons(report: LoopReport) -> list[str]:
    return [f"fault at {fault.t_ns * 1e-9:.3f} s: {fault.reason}" for fault in report.faults]


def _exit_code(report: LoopReport) -> int:
    return 5 if report.faults else 0


@dataclass(frozen=True, kw_only=True)
class VerifyOptions(Options):
    bundle: Path
    key: Path | None = None
    robot: str | None = None


def verify(options: VerifyOptions, extra: Mapping[str, str]) -> Outcome:
    """Check a controller bundle without running it on a robot:

        terrafirma verify bundle=DIR
        terrafirma verify bundle=DIR key=PUBLIC.pem robot=R

    Reads   the bundle. Writes result.json. Costs a second.
    Keys    bundle; key=FILE pins the signer to an ECDSA P-256 public key; robot=R refuses bundles of other robots.
    Ends with 0 when every check passes, 4 when one fails; each failure names the file and the reason.
    """
    spec = load_spec(options.robot) if options.robot else None
    checks = bundles.checks(options.bundle, options.key, spec)
    run = options.start("verify")
    if options.bundle.is_dir():
        run.input(options.bundle)
    lines = [f"{'ok  ' if c['ok'] else 'FAIL'}  {c['name']}: {c['detail']}" for c in checks]
    return Outcome(run.finish({"checks": checks}), 0 if all(c["ok"] for c in checks) else 4, "\n".join(lines))


@dataclass(frozen=True, kw_only=True)
class ReplayOptions(Options):
    log: Path
    bundle: Path
    key: Path | None = None


def replay(options: ReplayOptions, extra: Mapping[str, str]) -> Outcome:
    """Ask a bundle what it would have done in a recorded run, and compare with what was done:

        terrafirma replay log=runs/run/X/episode.mcap bundle=DIR

    Reads   a log that `terrafirma run` recorded, and a bundle. Writes result.json. Costs a second a minute of log.
    Keys    log, bundle; key=FILE pins the bundle's signer.
    max_action_difference is the largest difference of any output, which lie in [-1, 1]; 0 for the same bundle on
    the same machine.
    """
    controller = bundles.load(options.bundle, options.key)
    log = logs.load(options.log)
    if log.fingerprint != controller.spec.fingerprint():
        raise logs.LogError(
            f"{options.log}: recorded on robot '{log.robot}' ({log.fingerprint}), the bundle is for "
            f"'{controller.spec.name}' ({controller.spec.fingerprint()})."
        )
    if "action" not in log:
        raise logs.LogError(f"{options.log}: has no channel 'action'; give a log that `terrafirma run` recorded.")
    recorded = dict(zip(log["action"].t_ns.tolist(), log["action"].values, strict=True))
    controller.reset()
    worst, pairs = 0.0, 0
    for sample in samples(log, controller.spec):
        if sample.t_ns in recorded:
            controller.act(sample)
            assert controller.action is not None
            worst = max(worst, float(np.abs(controller.action - recorded[sample.t_ns]).max()))
            pairs += 1
    run = options.start("replay")
    run.input(options.log)
    run.input(options.bundle)
    result = run.finish({"max_action_difference": worst})
    return Outcome(result, 0, f"{pairs} steps replayed; the largest difference of an action is {worst:.3g}")
