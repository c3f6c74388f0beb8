"""Import recorded logs of any known format and screen them:

    terrafirma ingest robot=double_pendulum_c1 path=[logs/*.csv.gz] out=runs/logs

Reads   the files that the globs of path= match.
Writes  a data set (dataset.yaml, one MCAP an episode) and result.json with every finding.
Costs   about a second a minute of log.
A finding that blocks an episode is lifted with accept=[KIND,...]. Exit code 4 only if no episode is accepted.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from robot.result import Run
from sim.model import RobotConfig
from transfer import ingest
from transfer.cli import Common
from transfer.dataset import DataRefused, Episode

VOLATILE = ("dataset",)


@dataclass(frozen=True, kw_only=True)
class Config(Common):
    robot: RobotConfig
    path: tuple[str, ...] | str
    """Files or globs."""
    accept: tuple[str, ...] | str = ()
    """Kinds of blocking findings that a person has looked at and accepts."""


def run(cfg: Config, run: Run) -> dict[str, Any]:
    globs = (cfg.path,) if isinstance(cfg.path, str) else cfg.path
    accept = (cfg.accept,) if isinstance(cfg.accept, str) else cfg.accept
    try:
        episodes = ingest.ingest(globs, cfg.robot.spec, run.out, accept=accept)
    except DataRefused as refused:
        run.finish(_keys(run, list(refused.episodes)), VOLATILE)  # the findings stay readable for scripts
        raise
    return _keys(run, episodes)


def _keys(run: Run, episodes: list[Episode]) -> dict[str, Any]:
    for episode in episodes:
        run.input(Path(episode.source))
    return {"dataset": str(run.out), "episodes": [_row(e) for e in episodes]}


def _row(episode: Episode) -> dict[str, Any]:
    findings = [{"kind": f.kind, "channel": f.channel, "where": f.where, "detail": f.detail} for f in episode.findings]
    row = {"source": episode.source, "seconds": episode.seconds, "accepted": episode.accepted}
    return row | {"findings": findings}
