"""The onboard stage run: a controller bundle on a robot, in the loop that keeps its deadlines and its limits."""

from __future__ import annotations

import math
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from robot import bundle as bundles
from robot import realtime
from robot.align import AlignConfig
from robot.config import ConfigError
from robot.controller import Controller
from robot.deadman import open_switch
from robot.drive import Job, Moving, Outcome, drive, exit_code, faults, reasons
from robot.driver import on_simulated_clock
from robot.handover import Handover, HandoverConfig
from robot.loop import Commander, LoopConfig, LoopReport
from robot.policy_process import shape_of
from robot.realtime import RealtimeConfig
from robot.result import Run
from robot.safety import Safety, SafetyConfig, Unfamiliar
from robot.spec import find_robot, load_spec
from robot.supervisor import PolicyProcess

SIMULATED_S = 30.0
"""Time for which a policy process is waited for where the clock is simulated [s]."""
DAMP_S = 0.5
"""Time in the safe action before a real robot moves [s]."""


@dataclass(frozen=True, kw_only=True)
class RunOptions(Moving):
    bundle: Path
    robot: str | None = None
    rate: float | None = None
    key: Path | None = None
    goal: tuple[float, ...] = ()
    shadow: bool = False
    next: Path | None = None
    after: float = math.inf
    over: float = 0.5
    process: Literal["auto", "one", "two"] = "auto"
    deadman: str | None = None
    align: bool = True
    damp: float | None = None
    unfamiliar: Unfamiliar = "warn"
    max_temperature: float = 75.0
    voltage: tuple[float, float] = (0.0, math.inf)
    realtime: bool = False
    priority: int = 50
    cpu: int | None = None
    policy_cpu: int | None = None


def run(options: RunOptions, extra: Mapping[str, str]) -> Outcome:
    """Run a controller bundle on a robot, in the onboard loop:

        terrafirma run bundle=DIR driver=sim seconds=10
        terrafirma run bundle=DIR driver=sim seconds=10 posterior=FILE seed=3
        terrafirma run bundle=DIR driver=NAME seconds=10 shadow=true robot=R key=PUBLIC.pem
        terrafirma run bundle=OLD next=NEW after=5 driver=NAME seconds=20 deadman=joystick:/dev/input/js0

    Reads   the bundle: every file is checked, and its recorded steps are replayed, before the driver is opened.
    Writes  episode.mcap, result.json. Costs real time on a robot, a tenth of it in simulation.
    Keys    bundle, driver, seconds (of the policy); robot=R refuses bundles of other robots, rate=HZ of other rates;
            key=FILE pins the signer; goal=[0.25,0,0.15] is the task's goal, where it has one (default: zeros);
            shadow=true watches and compares, and moves nothing; next=DIR computes beside the first bundle and takes
            over `after` seconds, blended in over `over` seconds; deadman=file:PATH|joystick:DEVICE|udp:PORT moves
            nothing while it is not held; damp=S stays in the safe action for so long first; align=false does not go to
            the default pose; unfamiliar=warn|limit|fault when the policy sees what training never saw;
            max_temperature=C, voltage=[LOW,HIGH] end the run; process=two computes in a process of its own, so that a
            crash of the policy cannot hold the bus (default on a robot; one in simulation); realtime=true asks for
            SCHED_FIFO at `priority`, locked memory and a frozen garbage collector, cpu=N and policy_cpu=N for cores;
            video=side:0,wrist:/dev/video2 are the cameras (number, device, file or address), lens=FILE what `calibrate`
            wrote of them; further keys go to the driver (posterior, start, spread_rad for sim; log for replay).
    Ends with 0; 4 when the bundle is refused; 5 after a fault. Ctrl-C and SIGTERM stop the robot safely.
    """
    controllers = loaded(options)
    run = options.start("run", extra)
    for file in (*folders(options), *(Path(v) for v in extra.values() if Path(v).is_file())):
        run.input(file)
    report, steps = episode(options, extra, controllers, run.out / "episode.mcap", run.out.name)
    return _outcome(report, run, steps)


def folders(options: RunOptions) -> list[Path]:
    """The bundles that a run takes."""
    return [options.bundle] if options.next is None else [options.bundle, options.next]


def loaded(options: RunOptions) -> list[Controller]:
    """Their controllers; BundleRefused for one that is not whole, or not for this robot or rate."""
    spec = load_spec(find_robot(options.robot)) if options.robot else None
    controllers = [bundles.load(folder, options.key, spec, options.rate) for folder in folders(options)]
    if options.goal:
        for controller in controllers:
            aim(controller, options.goal)
    if len(controllers) > 1:
        shape_of(controllers)  # one log and one shared memory hold what both say
    return controllers


def aim(controller: Controller, goal: tuple[float, ...]) -> None:
    """Give a controller its goal; ConfigError where its task has none, or one of other components."""
    names = controller.encoder.config.goal
    if controller.goal is None or len(goal) != len(names):
        wanted = f"[{', '.join(names)}]" if names else "none"
        raise ConfigError(f"goal={list(goal)}: the task '{controller.task}' of this bundle takes {wanted}.")
    controller.goal[:] = goal


def episode(
    options: RunOptions,
    extra: Mapping[str, str],
    controllers: list[Controller],
    path: Path,
    name: str,
    meta: Mapping[str, str] | None = None,
) -> tuple[LoopReport, list[dict[str, Any]]]:
    """Let controllers drive once, with all that protects the robot; what came of it, and the real-time steps.

    The log is written to `path` as the episode `name`, with `meta` in it; further keys in `extra` are the driver's.
    """
    simulated = on_simulated_clock(options.driver)
    handover = HandoverConfig(at_s=options.after, over_s=options.over)
    whole: Commander = controllers[0]
    if len(controllers) > 1:
        whole = Handover(controllers[0], controllers[1], handover)
    hygiene = RealtimeConfig(priority=options.priority, cpu=options.cpu) if options.realtime else None
    with ExitStack() as stack:
        commander = whole
        check = None
        if options.process == "two" or (options.process == "auto" and not simulated):
            commander = PolicyProcess(
                folders(options), controllers, key=options.key, handover=handover,
                realtime=_beside(hygiene, options.policy_cpu), patience_s=SIMULATED_S if simulated else None,
            )  # fmt: skip
            stack.callback(commander.close)
            check = commander.check
        job = Job(
            commander, Safety(whole.spec, whole.period_ns * 1e-9, _safety(options)),
            find_robot(options.robot) if options.robot else None, extra,
            {"bundle": controllers[0].digest, "task": controllers[0].task, **_goal(options), **(meta or {})},
            _loop(options, simulated),
            open_switch(options.deadman) if options.deadman else None, check,
        )  # fmt: skip
        steps = realtime.enter(hygiene) if hygiene else []
        if hygiene:
            stack.callback(realtime.leave)
        report = drive(options, job, path, name)
    return report, steps + (commander.hygiene if isinstance(commander, PolicyProcess) else [])


def _goal(options: RunOptions) -> dict[str, str]:
    """What the log says of it, so that `replay` asks for the same."""
    return {"goal": ",".join(map(repr, options.goal))} if options.goal else {}


def _safety(options: RunOptions) -> SafetyConfig:
    return SafetyConfig(unfamiliar=options.unfamiliar, max_temperature=options.max_temperature, voltage=options.voltage)


def _loop(options: RunOptions, simulated: bool) -> LoopConfig:
    damp = options.damp if options.damp is not None else 0.0 if simulated else DAMP_S
    return LoopConfig(shadow=options.shadow, damp_s=damp, align=AlignConfig() if options.align else None)


def _beside(hygiene: RealtimeConfig | None, cpu: int | None) -> RealtimeConfig | None:
    """The same for the policy process, on a core of its own."""
    return None if hygiene is None else RealtimeConfig(priority=hygiene.priority, cpu=cpu)


def _outcome(report: LoopReport, run: Run, steps: list[dict[str, Any]]) -> Outcome:
    keys: dict[str, Any] = {
        "ticks": report.ticks,
        "missed_deadlines": report.missed_deadlines,
        "longest_miss": report.longest_miss,
        "stale": report.stale,
        "tick_us": report.tick_us,
        "faults": faults(report),
        "state": report.state,
        "log": str(run.out / "episode.mcap"),
        "shadow": report.shadow,
        "realtime": steps,
    }
    tick = report.tick_us
    lines = [
        f"{report.ticks} ticks, {report.missed_deadlines} deadlines missed, {report.stale} without a reading; "
        f"tick p50 {tick['p50']:.0f} µs, p99 {tick['p99']:.0f} µs; ended in state {report.state} ({report.reason})"
    ]
    if report.shadow is not None and report.shadow["n"]:
        rms = ", ".join(f"{joint} {value:.3g}" for joint, value in report.shadow["rms"].items())
        lines.append(f"from the {report.shadow['reference']} that moved the robot, RMS [N m]: {rms}")
    lines += [f"{s['name']}: {s['detail']}" for s in steps if not s["ok"]]
    result = run.finish(keys, ("tick_us", "log", "realtime"))
    return Outcome(result, exit_code(report), "\n".join([*lines, *reasons(report)]))
