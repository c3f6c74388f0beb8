"""Import recorded logs and screen them:

    terrafirma ingest robot=double_pendulum_c1 path=[logs/*.csv.gz] out=runs/logs
    terrafirma ingest robot=my_arm.yaml path=logs map=columns.yaml repair=[clock_jump] against=[runs/test]

Reads   the files, folders and globs of path=: MCAP, bags of ROS 1 and 2, ULogs, the layouts that ship, and with
        map=FILE any table of numbers and any field of a topic (docs/formats_ros.md).
Writes  a data set (dataset.yaml, one MCAP an episode), result.json with every finding, and screening.html.
Costs   about a second a minute of log.
A finding that blocks an episode is lifted with accept=[KIND,...], some are put right with repair=[KIND,...]; nothing is
dropped or repaired silently. Exit code 4 only if no episode is accepted.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from robot.config import ConfigError
from robot.result import Run
from sim.model import Model, RobotConfig
from transfer.choices import existing
from transfer.cli import Common
from transfer.dataset import DataRefused, Episode
from transfer.formats.topic_map import mapped
from transfer.ingest import Ingestion
from transfer.report import screening
from transfer.screening.config import ScreenConfig

VOLATILE = ("dataset", "screening")


@dataclass(frozen=True, kw_only=True)
class Config(Common):
    robot: RobotConfig
    path: tuple[str, ...] | str
    """Files, folders or globs."""
    accept: tuple[str, ...] | str = ()
    """Kinds of blocking findings that a person has looked at and accepts."""
    repair: tuple[str, ...] | str = ()
    """What to put right: rows of transfer.screening.repair.REPAIRS."""
    map: Path | None = None
    """YAML that says which column of a table, or which field of a topic, is what."""
    against: tuple[str, ...] | str = ()
    """Data sets that must hold nothing of these recordings, as a test set must not."""
    screen: ScreenConfig = field(default_factory=ScreenConfig)


def run(cfg: Config, run: Run) -> dict[str, Any]:
    against = [existing(Path(p), "against", "ingest") for p in _listed(cfg.against)]
    if any(p.resolve() == run.out.resolve() for p in against):
        raise ConfigError(f"against={run.out}: a data set cannot be held against itself; name another one.")
    work = Ingestion(
        spec=cfg.robot.spec,
        out=run.out,
        accept=_listed(cfg.accept),
        repairs=_listed(cfg.repair),
        against=[run.input(p) for p in against],
        model=Model(cfg.robot),
        reader=mapped(run.input(existing(cfg.map, "map", "ingest"))) if cfg.map is not None else None,
        config=cfg.screen,
    )
    try:
        episodes = work.run(_listed(cfg.path))
    except DataRefused as refused:
        run.finish(_keys(run, list(refused.episodes), work), VOLATILE)  # the findings stay readable for scripts
        raise
    return _keys(run, episodes, work)


def _listed(value: tuple[str, ...] | str) -> tuple[str, ...]:
    return (value,) if isinstance(value, str) else value


def _keys(run: Run, episodes: list[Episode], work: Ingestion) -> dict[str, Any]:
    for judged in work.judged:
        run.inputs[str(judged.source)] = judged.sha256
    page = screening.write(run.out / "screening.html", work.judged, episodes, work.config)
    return {"dataset": str(run.out), "episodes": [_row(e) for e in episodes], "screening": str(page)}


def _row(episode: Episode) -> dict[str, Any]:
    findings = [
        {"kind": f.kind, "channel": f.channel, "where": f.where, "detail": f.detail, "blocking": f.blocking}
        for f in episode.findings
    ]
    row = {"source": episode.source, "seconds": episode.seconds, "accepted": episode.accepted, "file": episode.file}
    return row | {"label": episode.label, "findings": findings}
