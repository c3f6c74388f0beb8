"""Motor characterization logs of an ODrive (University of Minnesota, odrive-with-motor-characterization).

Rows are reads of a ring buffer filled at 8 kHz: `index, voltage [V], position [turn], velocity [turn/s];`. The read is
rejected, and the row holds nan or index 0, where the buffer was written meanwhile.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np

from robot.log import Channel
from robot.spec import RobotSpec
from transfer.dataset import Finding
from transfer.formats import Recording
from transfer.formats.layout import Column, Layout, episode_of
from transfer.formats.tables import Dialect, Table, head_of, parse
from transfer.screen import finding

FIRST = "%Motor characterization data"
NM_PER_VOLT = 0.00706
"""Torque that one volt makes at rest [N m/V]: the model's torque constant over its resistance, 1 ohm by convention."""
LAYOUT = Layout(
    name="csv/odrive",
    time="index",
    time_s=1.0 / 8000.0,
    channels={
        "joint.position": (Column(column="position", unit="turn"),),
        "joint.velocity": (Column(column="velocity", unit="turn/s"),),
        "command.effort": (Column(column="voltage", scale=NM_PER_VOLT),),
        "command.voltage": (Column(column="voltage"),),
    },
    dialect=Dialect(comment="%", end=";", header=("index", "voltage", "position", "velocity")),
)


def detect(path: Path) -> bool:
    """By the first line."""
    return path.is_file() and path.name.endswith((".csv", ".csv.gz")) and head_of(path, 64).startswith(FIRST)


def read(path: Path, spec: RobotSpec) -> list[Recording]:
    """The one episode of a file, without the rejected reads, which a finding counts."""
    table = parse(path, LAYOUT.dialect)
    if not table.columns:
        return [Recording(log=None, findings=table.findings)]
    index = table.columns["index"]
    rejected = ~np.isfinite(np.stack(list(table.columns.values()))).all(axis=0) | (index == 0.0)
    kept = Table({n: c[~rejected] for n, c in table.columns.items()}, table.lines[~rejected], table.findings)
    recording = episode_of(LAYOUT, kept, path, spec)
    if recording.log is None:
        return [recording]
    volts = recording.log["command.voltage"]
    channels = {**recording.log.channels, "command.voltage": Channel("command.voltage", "V", volts.components,
                                                                       volts.t_ns, volts.values)}  # fmt: skip
    log = replace(recording.log, channels=channels)
    return [Recording(log=log, findings=(*recording.findings, *_told(table, rejected)))]


def _told(table: Table, rejected: np.ndarray) -> list[Finding]:
    findings = []
    if rejected.any():
        first, nan = int(np.argmax(rejected)), int(np.isnan(table.columns["index"]).sum())
        detail = f"{nan} rows of nan and {int(rejected.sum()) - nan} with index 0 are rejected reads, and left out."
        findings.append(finding("rejected_rows", "", table.where(first), detail))
    for channel, detail in (
        ("joint.position", "recorded in turns, read as rad (2 pi a turn)."),
        ("joint.velocity", "recorded in turn/s, read as rad/s (2 pi a turn)."),
        ("command.effort", f"a voltage was commanded; read as {NM_PER_VOLT} N m a volt, its torque at rest."),
    ):
        findings.append(finding("converted", channel, "file", detail))
    return findings
