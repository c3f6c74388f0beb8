"""The onboard stages verify, record and replay. Files in, files out; numpy and onnxruntime are enough.

Each is a frozen dataclass of options and a function (options, driver options) -> Outcome; its docstring is what
`terrafirma <stage> --help` prints. The table is in robot/cli.py; robot/run.py has `run`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from robot import bundle as bundles
from robot import excitation as excitations
from robot import log as logs
from robot.align import AlignConfig
from robot.config import ConfigError, nearest
from robot.deadman import open_switch
from robot.drive import Job, Moving, Options, Outcome, drive, exit_code, reasons
from robot.drivers.replay import samples
from robot.loop import LoopConfig
from robot.run import aim
from robot.safety import Safety
from robot.spec import find_robot, load_spec


@dataclass(frozen=True, kw_only=True)
class RecordOptions(Moving):
    robot: str
    excitation: str
    amplitude: float = 0.5
    deadman: str | None = None
    align: bool = True


def record(options: RecordOptions, extra: Mapping[str, str]) -> Outcome:
    """Move a robot with an excitation and record it, for `terrafirma ingest` and `identify`:

        terrafirma record robot=simple_pendulum driver=sim excitation=chirp seconds=10
        terrafirma record robot=simple_pendulum driver=surrogate excitation=prbs seconds=10 seed=4 amplitude=0.3
        terrafirma record robot=R driver=NAME excitation=torques.csv seconds=8

    Reads   configs/robot/R.yaml (or robot=FILE.yaml); with a file, a CSV `time` [s] and one column an actuator.
    Writes  episode.mcap, result.json. Costs real time on a robot.
    Keys    robot, driver, excitation, seconds; amplitude is the share of the robot's torque limit (of its travel
            for position servos); seed draws the excitation; video=, lens=, deadman= as in `run`; other keys go to the
            driver. Position servos first go slowly to the default pose, about which they are excited (align=false
            does not).
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
    servos = any(a.kind == "position_pd" for a in spec.actuators)
    config = LoopConfig(align=AlignConfig() if servos and options.align else None)
    armed = open_switch(options.deadman) if options.deadman else None
    job = Job(commander, safety, path, extra, {"excitation": excitation.name}, config, armed)
    report = drive(options, job, run.out / "episode.mcap", run.out.name)
    frames = len(report.log["joint.position"].t_ns) if report.log and "joint.position" in report.log else 0
    result = run.finish({"log": str(run.out / "episode.mcap"), "frames": frames}, ("log",))
    summary = f"{frames} frames in {report.log.seconds if report.log else 0.0:.2f} s; ended in state {report.state}"
    return Outcome(result, exit_code(report), "\n".join([summary, *reasons(report)]))


@dataclass(frozen=True, kw_only=True)
class VerifyOptions(Options):
    bundle: Path
    key: Path | None = None
    robot: str | None = None
    rate: float | None = None


def verify(options: VerifyOptions, extra: Mapping[str, str]) -> Outcome:
    """Check a controller bundle without running it on a robot:

        terrafirma verify bundle=DIR
        terrafirma verify bundle=DIR key=PUBLIC.pem robot=R rate=100

    Reads   the bundle. Writes result.json. Costs a second.
    Keys    bundle; key=FILE pins the signer to an ECDSA P-256 public key; robot=R refuses bundles of other robots,
            rate=HZ those for another control rate.
    Ends with 0 when every check passes, 4 when one fails; each failure names the file and the reason.
    """
    spec = load_spec(options.robot) if options.robot else None
    checks = bundles.checks(options.bundle, options.key, spec, options.rate)
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
    if "goal" in log.meta:
        aim(controller, tuple(float(v) for v in log.meta["goal"].split(",")))
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
