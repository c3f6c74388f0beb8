"""Logs of the flywheel's bench: a line with its name, then one line a reading: microseconds, degrees, newton metres."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from robot.log import Channel, EpisodeLog
from robot.spec import RobotSpec
from transfer.formats import Recording
from transfer.screen import finding

HEAD = "# flywheel bench"


def detect(path: Path) -> bool:
    """By the ending and the first line."""
    if path.suffix != ".wheel" or not path.is_file():
        return False
    with path.open(encoding="utf-8", errors="replace") as file:
        return file.readline(len(HEAD)) == HEAD


def read(path: Path, spec: RobotSpec) -> list[Recording]:
    """The one episode of a file; positions in rad. A file that cannot be read gives a finding and no episode."""
    try:
        rows = np.loadtxt(path, delimiter=";", ndmin=2)
    except ValueError as error:
        return [Recording(log=None, findings=(finding("unreadable", "", "file", f"a line is no row ({error})."),))]
    if rows.shape[1] != 3 or len(spec.joints) != 1:
        detail = f"it has {rows.shape[1]} columns for 3, and robot '{spec.name}' {len(spec.joints)} joints for 1."
        return [Recording(log=None, findings=(finding("other_robot", "", "file", detail),))]
    t_ns = (rows[:, 0] * 1000).astype(np.int64)
    values = {"joint.position": ("rad", np.deg2rad(rows[:, 1:2])), "command.effort": ("N m", rows[:, 2:])}
    channels = {n: Channel(n, unit, spec.joint_names, t_ns, v) for n, (unit, v) in values.items()}
    meta = {"source": path.name, "layout": "wheel", "stamps": "row"}
    told = finding("converted", "joint.position", "row 1", "positions are in degrees; read as radians.")
    log = EpisodeLog(path.stem, spec.name, spec.fingerprint(), channels, meta)
    return [Recording(log=log, findings=(told,))]
