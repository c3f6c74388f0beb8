"""Import recorded logs and screen them:

    terrafirma ingest robot=double_pendulum_c1 path=[logs/*.csv.gz] out=runs/logs
    terrafirma ingest robot=my_arm.yaml path=logs map=columns.yaml repair=[clock_jump] against=[runs/test]
    terrafirma ingest robot=so101 path=runs/logs write=lerobot lerobot.task="push the cube"

Reads   the files, folders and globs of path=: MCAP, bags of ROS 1 and 2, ULogs, the layouts that ship, and with
        map=FILE any field of a topic, any table of numbers, NPZ, parquet, HDF5 of robomimic and ALOHA, and LeRobot data
        sets (docs/formats.md); without map= it writes a guess of one to confirm.
Writes  a data set (dataset.yaml, one MCAP an episode), result.json with what was understood and every finding, and
        screening.html; with write=lerobot the whole data set as a LeRobotDataset v3.0, too, in out/lerobot.
Costs   about a second a minute of log.
A finding that blocks an episode is lifted with accept=[KIND,...], some are put right with repair=[KIND,...]; nothing is
dropped or repaired silently. Exit code 4 only if no episode is accepted.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from robot import config
from robot.config import ConfigError
from robot.result import Run
from sim.model import Model, RobotConfig
from transfer import understood
from transfer.choices import existing
from transfer.cli import Common
from transfer.dataset import DataRefused, Episode, load_index
from transfer.formats import lerobot_writer
from transfer.formats.lerobot_writer import LeRobotConfig
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
    write: Literal["lerobot"] | None = None
    """A format in which to write the data set beside its own."""
    lerobot: LeRobotConfig = field(default_factory=LeRobotConfig)
    """How `write=lerobot` writes."""
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
    keys = _keys(run, episodes, work)
    return keys | ({"lerobot": _written(cfg, run.out)} if cfg.write == "lerobot" else {})


def _written(cfg: Config, out: Path) -> dict[str, Any]:
    """The whole data set as a LeRobotDataset, and what that lost."""
    accepted = [e for e in load_index(out, cfg.robot.spec).episodes if e.accepted]
    told = lerobot_writer.write(out / "lerobot", [out / e.file for e in accepted], cfg.robot.spec, cfg.lerobot)
    print(f"{told.folder}: LeRobotDataset v3.0, {told.episodes} episode(s), {told.frames} frames at {told.fps} Hz")
    for channel, rows in told.lost_rows.items():
        print(f"  {channel}: {rows} row(s) between frames are not in it; lerobot.fps= sets another rate")
    for channel, why in told.left_out.items():
        print(f"  {channel} is not in it: {why}")
    return config.to_plain(told) | {"folder": str(told.folder)}


def _listed(value: tuple[str, ...] | str) -> tuple[str, ...]:
    return (value,) if isinstance(value, str) else value


def _keys(run: Run, episodes: list[Episode], work: Ingestion) -> dict[str, Any]:
    for judged in work.judged:
        run.inputs[str(judged.source)] = judged.sha256
    page = screening.write(run.out / "screening.html", work.judged, episodes, work.config)
    told = understood.rows(work.judged, [e.accepted for e in episodes])
    print("\n".join(understood.lines(told)))
    rows = [_row(e) for e in episodes]
    return {"dataset": str(run.out), "episodes": rows, "understood": told, "screening": str(page)}


def _row(episode: Episode) -> dict[str, Any]:
    findings = [
        {"kind": f.kind, "channel": f.channel, "where": f.where, "detail": f.detail, "blocking": f.blocking}
        for f in episode.findings
    ]
    row = {"source": episode.source, "seconds": episode.seconds, "accepted": episode.accepted, "file": episode.file}
    return row | {"label": episode.label, "findings": findings}
