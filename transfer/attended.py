"""Trials with a person beside the robot: one episode after the other, through the onboard loop with all its guards.

Each is recorded where `ingest` does not look, and moved into the series' folder when it has ended by itself, labelled
once it is judged. So a killed series goes on where it was: what was recorded is not repeated, what was only half
recorded is, and what nobody labelled is labelled first.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from robot import cli as onboard
from robot.driver import DriverError
from robot.episode_file import compact
from robot.log import EpisodeLog
from robot.run import RunOptions, episode, loaded
from robot.spec import RobotSpec
from sim.tasks import Task
from transfer.terminal import GONE
from transfer.trial_plan import Plan, Planned, Side
from transfer.trials import Outcome, fault_of, judge, recorded, told

HALF = ".recording"
"""Folder of the episode that is being recorded."""
KEYS = {"y": "success", "n": "failure", "s": "skipped"}

Words = Mapping[str, str]


class Ask(Protocol):
    """transfer.terminal.press, or what stands in for it."""

    def __call__(self, question: str, keys: str) -> str:
        """One of the keys."""
        ...


class Aborted(Exception):
    """The person beside the robot wants no further episode."""


@dataclass(frozen=True, kw_only=True)
class Series:
    """What does not change from one episode to the next."""

    plan: Plan
    folder: Path
    bundles: Mapping[Side, Path]
    """Side -> its bundle."""
    task: Task
    spec: RobotSpec
    ask: Ask
    wait: bool
    """Whether the person says when an episode may begin."""
    progress: Callable[[str], None]

    def run(self) -> tuple[dict[str, Outcome], bool]:
        """File -> what came of it, and whether the person aborted; DriverError after a fault that nobody looks at."""
        found: dict[str, Outcome] = {}
        try:
            for number, planned in enumerate(self.plan.order, 1):
                found[planned.file] = self._one(planned, f"Episode {number} of {len(self.plan.order)}")
        except Aborted:
            return found, True
        return found, False

    def _one(self, planned: Planned, title: str) -> Outcome:
        path, fresh = self.folder / planned.file, False
        log = recorded(path)
        if log is None:
            fresh = True
            self._record(planned, title)
            log = recorded(path)
            assert log is not None
        outcome = told(log)
        if outcome is None:
            outcome = self._label(log, title)
            compact(path, outcome.meta())
        if fresh and outcome.fault and not self.wait and self.plan.label == "rule":
            raise DriverError(
                f"{title} ended in a fault ({outcome.fault}); look at the robot, then resume=true goes on"
            )
        return outcome

    def _record(self, planned: Planned, title: str) -> None:
        """Run and record one episode; KeyboardInterrupt where a signal ended it."""
        if self.wait:
            question = f"{title}: put the robot where the task begins, then SPACE to start (a: abort)."
            if self.ask(question, " a") != " ":
                raise Aborted
        else:
            self.progress(title)
        words = {
            "bundle": str(self.bundles[planned.controller]),
            "driver": self.plan.driver,
            # one period more: the reading after the last command closes the episode
            "seconds": str(self.task.episode_s + self.task.control_period_s),
            "seed": str(planned.seed),
        }
        options, extra = options_of(words | self.plan.options)
        half = self.folder / HALF / planned.file
        meta = {"controller": planned.controller, "trial": planned.file}
        report, _ = episode(options, extra, loaded(options), half, half.stem, meta)
        if report.log is None:
            raise DriverError(f"{title}: {report.faults[0].reason if report.faults else 'nothing was recorded'}")
        if report.reason == "user" and _signalled(report.log):
            raise KeyboardInterrupt
        half.replace(self.folder / planned.file)

    def _label(self, log: EpisodeLog, title: str) -> Outcome:
        if self.plan.label == "rule":
            return judge(log, self.task, self.spec)
        fault = fault_of(log)
        ended = f" ended in a fault ({fault})" if fault else " is over"
        key = self.ask(f"{title}{ended}. Success? y, n, s: skip (does not count), a: abort.", "ynsa")
        if key in ("a", GONE):
            raise Aborted
        return Outcome(label=KEYS[key], fault=fault, by="key")  # type: ignore[arg-type]


def options_of(words: Words) -> tuple[RunOptions, dict[str, str]]:
    """Options of `terrafirma run` and of its driver; ConfigError names the nearest of an unknown one."""
    options, extra = onboard.parse(RunOptions, [f"{k}={v}" for k, v in words.items()], "terrafirma trials: options")
    return options, extra


def _signalled(log: EpisodeLog) -> bool:
    """Whether the end of a run that a person ended was a signal, and not a dead-man switch."""
    told = log["event"].values if "event" in log else ()
    return any(text.startswith("state: ") and text.endswith(("(SIGINT)", "(SIGTERM)", "(user)")) for text in told)
