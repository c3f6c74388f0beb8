"""What `terrafirma pretrain study=NAME` does: encoders pretrained under several seeds, then the study's queue.

Everything is kept in the run's folder, seed by seed and cell by cell, so a study that was killed goes on with
resume=true. To add a study: its function here and a row in STUDIES.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from robot import files
from robot.config import ConfigError, nearest
from robot.result import Run
from sim.model import RobotConfig
from sim.randomization import Randomization
from sim.tasks import Task
from transfer import study
from transfer.progress import terminal

Pretrain = Callable[[int, Path], Path]
"""(seed, folder of its run) -> folder of the encoder."""


def data_efficiency(
    kind: str, robot: RobotConfig, task: Task, prior: Randomization, seeds: tuple[int, ...], pretrain: Pretrain,
    run: Run, *, quick: bool,
) -> dict[str, Any]:  # fmt: skip
    """Held-out error against the amount of adaptation data, on surrogates; writes study.md beside result.json."""
    if not seeds:
        raise ConfigError("seeds is empty; a study needs at least one, and three for an interval worth having.")

    def encoder_of(seed: int) -> Path:
        return pretrain(seed, run.out / f"seed-{seed}")

    arms = _arms(kind, robot, task, prior, encoder_of, quick)
    result = study.study(arms, run.out, seeds, terminal())
    files.write_text(run.out / "study.md", study.markdown(result))
    return result


def _arms(
    kind: str, robot: RobotConfig, task: Task, prior: Randomization, encoder_of: Callable[[int], Path], quick: bool
) -> study.Arms:
    if kind == "physics":
        from transfer.study_logs import Logs

        return Logs(robot, task, prior, encoder_of, quick)
    from transfer.study_images import Images

    return Images(robot, encoder_of, quick)


STUDIES = {"data_efficiency": data_efficiency}


def named(name: str) -> Callable[..., dict[str, Any]]:
    """The study called `name`; ConfigError lists those that there are."""
    if name not in STUDIES:
        raise ConfigError(f"study={name}: there is no such study. {nearest(name, list(STUDIES))}")
    return STUDIES[name]
