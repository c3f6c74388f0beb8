"""Logs of DFKI's torque_limited_simple_pendulum: `<run>.csv` as measured, `<run>_command.csv` as commanded.

The rows of both belong together. The command file's own time column is nominal, the measured one is real; where a
position was commanded as well, the motor's own loop made the torque, and only the measured one is an input.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt

from robot.log import UNITS, Channel, EpisodeLog
from transfer.dataset import Finding
from transfer.formats import Recording
from transfer.formats.layout import Layout, columns
from transfer.formats.tables import Table, parse
from transfer.screen import finding

Array = npt.NDArray[np.float64]

LAYOUT = Layout(
    name="csv/simple_pendulum",
    channels={
        "joint.position": columns("position"),
        "joint.velocity": columns("velocity"),
        "joint.effort": columns("torque"),
    },
    companion="_command",
    optional=(),
)
CLOCK_S = 0.001
"""Difference [s] between the two files' clocks that is worth telling."""


def with_command(recording: Recording, log: EpisodeLog, path: Path) -> Recording:
    """The recording with `command.effort` from the file beside `path`; the measured torque where that is the input."""
    command, findings = _command(log, path)
    position = log["joint.position"]
    channel = Channel("command.effort", UNITS["command.effort"], position.components, position.t_ns, command)
    whole = replace(log, channels={**log.channels, "command.effort": channel})
    return Recording(log=whole, findings=(*recording.findings, *findings))


def _command(log: EpisodeLog, path: Path) -> tuple[Array, list[Finding]]:
    stem, _, ending = path.name.partition(".")
    beside = path.with_name(f"{stem}{LAYOUT.companion}.{ending}")
    effort = np.asarray(log["joint.effort"].values)
    if not beside.is_file():
        detail = f"{beside.name} is not there, so the measured torque stands in for the command."
        return effort, [finding("missing_command", "command.effort", "file", detail)]
    table = parse(beside)
    findings = list(table.findings)
    missing = [x for x in ("position", "velocity", "torque") if x not in table.columns]
    if missing or len(table.lines) != len(effort):
        found = f"lacks column '{missing[0]}'" if missing else f"has {len(table.lines)} rows for {len(effort)} measured"
        detail = f"{beside.name} {found}, so the measured torque stands in for the command."
        return effort, [*findings, finding("missing_command", "command.effort", "file", detail)]
    findings += _clock(log, table, beside.name)
    if np.any(table.columns["position"]) or np.any(table.columns["velocity"]):
        detail = "position and velocity were commanded too, so the input is the measured torque, not the feed-forward."
        return effort, [*findings, finding("measured_input", "command.effort", "file", detail)]
    return table.columns["torque"][:, None], findings


def _clock(log: EpisodeLog, table: Table, name: str) -> list[Finding]:
    """That the commands' own time column is another clock, and by how much."""
    if "time" not in table.columns:
        return []
    apart = table.columns["time"] - log["joint.position"].t_ns * 1e-9
    worst = int(np.nanargmax(np.abs(apart))) if np.isfinite(apart).any() else 0
    if not abs(apart[worst]) > CLOCK_S:
        return []
    detail = f"{name} has a clock of its own, up to {apart[worst] * 1e3:+.1f} ms off; the measured rows' clock is used."
    return [finding("nominal_clock", "command.effort", table.where(worst), detail)]
