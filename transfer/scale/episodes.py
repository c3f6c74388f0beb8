"""The runs of a stress suite in pieces of a fixed number, each simulated as one batch, here or by other processes.

What a run draws, and the last bit of what a network answers, may depend on the runs that it is simulated with. So the
result depends on the size of the pieces, and on neither the engine nor the number of workers. What moves is the files
of the policy or bundle, once to each host, then perturbations as text and numbers, and outcomes back.
"""

from __future__ import annotations

import functools
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from robot import config
from sim.arena import Arena, Flags, Outcome, Subject, Trace, Unit
from sim.model import RobotConfig
from sim.mujoco_arena import MujocoArenaConfig
from sim.perturbation import Perturbation
from sim.published_arena import PublishedArenaConfig
from sim.randomization import Randomization
from sim.tasks import Task, load_task
from transfer.scale.cluster import ScaleConfig
from transfer.scale.fan import fan_out
from transfer.subjects import of_bundle, of_policy
from transfer.suites import arena_of

PIECE = 64
"""Runs in a piece where nobody has said how many."""


@dataclass(frozen=True, slots=True)
class InPieces:
    """An arena whose runs are done piece by piece; one piece alone is done in this process."""

    arena: Arena
    piece: int
    scale: ScaleConfig
    shared: Mapping[str, Any]
    """What told() gives."""

    @property
    def duration_s(self) -> float:
        return self.arena.duration_s

    @property
    def channels(self) -> Mapping[str, float]:
        return self.arena.channels

    def expand(self, name: str) -> dict[str, tuple[str, ...]]:
        return self.arena.expand(name)

    def nominal(self, knob: str) -> float:
        return self.arena.nominal(knob)

    def unit(self, knob: str, relative_to: Unit) -> float:
        return self.arena.unit(knob, relative_to)

    def physical(self, perturbations: Sequence[Perturbation]) -> Flags:
        return self.arena.physical(perturbations)

    def run(self, subject: Subject, perturbations: Sequence[Perturbation], *, trace: bool = False) -> Outcome:
        pieces = [perturbations[i : i + self.piece] for i in range(0, len(perturbations), self.piece)]
        if len(pieces) == 1 or trace or self.scale.engine == "local":
            return joined([self.arena.run(subject, piece, trace=trace) for piece in pieces])
        tasks = [[config.to_plain(p) for p in piece] for piece in pieces]
        found = fan_out(run_piece, tasks, self.scale, self.shared, "pieces of the suite")
        return joined([Outcome(success=o["success"], returns=o["returns"], final=o["final"]) for o in found])


def joined(outcomes: Sequence[Outcome]) -> Outcome:
    """The outcomes of pieces as of one; the traces of several are left out."""
    success, returns, final = (
        np.concatenate([getattr(o, k) for o in outcomes]) for k in ("success", "returns", "final")
    )
    trace: Trace | None = outcomes[0].trace if len(outcomes) == 1 else None
    return Outcome(success=success, returns=returns, final=final, trace=trace)


def told(
    arena: PublishedArenaConfig | MujocoArenaConfig,
    task: Task,
    robot: RobotConfig,
    law: Randomization | None,
    policy: Path | None,
    bundle: Path | None,
) -> dict[str, Any]:
    """What a worker must know of a suite: one of `policy` and `bundle` is the controller's folder."""
    folder = policy or bundle
    assert folder is not None  # subjects.subject_of() has refused it
    return {
        "setting": config.dump_yaml(
            {
                "arena": arena, "task": task.name, "robot": robot, "law": law,
                "kind": "policy" if policy is not None else "bundle",
            }
        ),
        "files": {str(p.relative_to(folder)): _bytes(p) for p in sorted(folder.rglob("*")) if p.is_file()},
    }  # fmt: skip


def _bytes(path: Path) -> Any:
    return np.frombuffer(path.read_bytes(), np.uint8)


def run_piece(shared: Mapping[str, Any], task: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """A worker's task: the outcome of some runs."""
    runs = [config.convert(Perturbation, p, "a worker's run") for p in task]
    held = {name: data.tobytes() for name, data in shared["files"].items()}
    arena, subject = _set_up(shared["setting"], tuple(held.items()))
    outcome = arena.run(subject, runs)
    return {"success": outcome.success, "returns": outcome.returns, "final": outcome.final}


@functools.lru_cache(maxsize=1)
def _set_up(setting: str, held: tuple[tuple[str, bytes], ...]) -> tuple[Arena, Subject]:
    """Of a worker process; made on its first piece."""
    data = config.parse_yaml(setting, "the suite")
    chosen = config.value_of(PublishedArenaConfig | MujocoArenaConfig, data["arena"], "the suite", "arena")
    robot = config.convert(RobotConfig, data["robot"], "the robot")
    law = None if data["law"] is None else config.convert(Randomization, data["law"], "the law")
    with tempfile.TemporaryDirectory() as scratch:
        for name, content in held:
            path = Path(scratch) / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
        subject = (of_policy if data["kind"] == "policy" else of_bundle)(Path(scratch))
    return arena_of(chosen, load_task(data["task"]), law, robot), subject
