"""CSV recordings, plain or gzipped, one row a control cycle.

A layout says which columns make which channel; the header decides which layout a file has. To add one: a row
in LAYOUTS. All channels of a row get the row's time stamp, as logged: a command that acts later is for
identification to find (`timing/command/shift`), not for reading to hide.
"""

from __future__ import annotations

import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from robot.log import UNITS, Channel, EpisodeLog
from robot.spec import RobotSpec
from transfer.dataset import Finding
from transfer.formats import Recording
from transfer.screen import finding

Array = npt.NDArray[np.float64]


@dataclass(frozen=True, kw_only=True, slots=True)
class Layout:
    """Which columns make which channel; components in the order of the robot's joints."""

    time: str = "time"
    """Column of the time stamps [s]."""
    channels: Mapping[str, tuple[str, ...]]
    late_rows: int | None = None
    """Rows by which the recording loop is known to send a command late; None where nobody has said."""
    companion: str = ""
    """Ending of the file beside `<run>.csv` that holds what was commanded, in the same columns; empty for none."""


LAYOUTS: dict[str, Layout] = {
    # DFKI double_pendulum: tau_con is the total command, friction compensation (tau_fric) included; row k's command
    # is sent at the moment row k + 1 is read
    "double_pendulum": Layout(
        late_rows=1,
        channels={
            "joint.position": ("pos_meas1", "pos_meas2"),
            "joint.velocity": ("vel_meas1", "vel_meas2"),
            "joint.effort": ("tau_meas1", "tau_meas2"),
            "command.effort": ("tau_con1", "tau_con2"),
        },
    ),
    # DFKI torque_limited_simple_pendulum: the command file's own time column is nominal, the measured one is real
    "simple_pendulum": Layout(
        channels={"joint.position": ("position",), "joint.velocity": ("velocity",), "joint.effort": ("torque",)},
        companion="_command",
    ),
}


@dataclass(frozen=True, slots=True)
class Table:
    """A parsed file: columns by name, the line that each row stands in, and what was odd."""

    columns: dict[str, Array]
    lines: npt.NDArray[np.int64]
    findings: tuple[Finding, ...]


def detect(path: Path) -> bool:
    """By the name: .csv or .csv.gz."""
    return path.name.endswith((".csv", ".csv.gz"))


def companion_of(path: Path) -> Path | None:
    """The measured file that a command file belongs to; None for any other file."""
    for layout in LAYOUTS.values():
        stem, _, ending = path.name.partition(".")
        if layout.companion and stem.endswith(layout.companion):
            return path.with_name(f"{stem.removesuffix(layout.companion)}.{ending}")
    return None


def read(path: Path, spec: RobotSpec) -> list[Recording]:
    """The one episode of a CSV file; rows without a readable time stamp are left out, and a finding says so."""
    table = parse(path)
    if not table.columns:
        return [Recording(log=None, findings=table.findings)]
    name = max(LAYOUTS, key=lambda n: _share(LAYOUTS[n], table.columns))
    layout = LAYOUTS[name]
    findings = [*table.findings, *_layout_findings(name, layout, table, spec)]
    wanted = ("joint.position", "command.effort") if not layout.companion else ("joint.position",)
    complete = [c for c, columns in layout.channels.items() if all(x in table.columns for x in columns)]
    wrong_width = any(len(columns) != len(spec.joints) for columns in layout.channels.values())
    if wrong_width or layout.time not in table.columns or not set(wanted) <= set(complete):
        return [Recording(log=None, findings=tuple(findings))]
    keep = np.isfinite(table.columns[layout.time])
    t_ns = np.round(table.columns[layout.time][keep] * 1e9).astype(np.int64)
    values = {c: np.stack([table.columns[x][keep] for x in layout.channels[c]], axis=1) for c in complete}
    if layout.companion:
        command, more = _companion_command(path, layout, values, keep)
        findings += more
        values["command.effort"] = command
    channels = {c: Channel(c, UNITS[c], spec.joint_names, t_ns, v) for c, v in values.items()}
    meta = {"source": path.name, "layout": f"csv/{name}", "stamps": "row"}
    if layout.late_rows is not None:
        meta["late_rows"] = str(layout.late_rows)
    episode = EpisodeLog(path.name.split(".")[0], spec.name, spec.fingerprint(), channels, meta)
    return [Recording(log=episode, findings=tuple(findings))]


def _share(layout: Layout, columns: Mapping[str, Array]) -> float:
    wanted = [layout.time, *(x for c in layout.channels.values() for x in c)]
    return sum(x in columns for x in wanted) / len(wanted)


def _layout_findings(name: str, layout: Layout, table: Table, spec: RobotSpec) -> list[Finding]:
    have = ", ".join(table.columns)
    if _share(layout, table.columns) < 0.5:
        return [finding("unknown_layout", "", "line 1", f"no known layout has the columns {have}.")]
    wanted = {layout.time: "time"} | {x: c for c, columns in layout.channels.items() for x in columns}
    findings = [
        finding("missing_column", channel, "line 1", f"layout '{name}' needs column '{x}'; the file has {have}.")
        for x, channel in wanted.items()
        if x not in table.columns
    ]
    width = len(next(iter(layout.channels.values())))
    if width != len(spec.joints):
        detail = f"layout '{name}' has {width} joint(s); robot '{spec.name}' has {len(spec.joints)}."
        findings.append(finding("other_robot", "", "line 1", detail))
    times = table.columns.get(layout.time, np.zeros(0))
    if not np.isfinite(times).all():
        row = int(np.argmin(np.isfinite(times)))
        count = int((~np.isfinite(times)).sum())
        where = f"row {row + 1} (line {table.lines[row]})"
        findings.append(finding("nan", "time", where, f"{count} rows have no time stamp and are left out."))
    return findings


def _companion_command(
    path: Path, layout: Layout, measured: Mapping[str, Array], keep: npt.NDArray[np.bool_]
) -> tuple[Array, list[Finding]]:
    """The commanded torque from the file beside `path`, row by row; the measured torque where that is the input."""
    stem, _, ending = path.name.partition(".")
    beside = path.with_name(f"{stem}{layout.companion}.{ending}")
    effort = measured.get("joint.effort", np.full_like(measured["joint.position"], np.nan))
    if not beside.is_file():
        detail = f"{beside.name} is not there, so the measured torque stands in for the command."
        return effort, [finding("missing_command", "command.effort", "file", detail)]
    table = parse(beside)
    findings = list(table.findings)
    columns = {c: layout.channels[c] for c in ("joint.position", "joint.velocity", "joint.effort")}
    missing = [x for names in columns.values() for x in names if x not in table.columns]
    if missing or len(table.lines) != len(keep):
        found = f"lacks column '{missing[0]}'" if missing else f"has {len(table.lines)} rows for {len(keep)} measured"
        detail = f"{beside.name} {found}, so the measured torque stands in for the command."
        return effort, [*findings, finding("missing_command", "command.effort", "file", detail)]
    commanded = {c: np.stack([table.columns[x][keep] for x in names], axis=1) for c, names in columns.items()}
    if np.any(commanded["joint.position"]) or np.any(commanded["joint.velocity"]):
        detail = "position and velocity were commanded too, so the input is the measured torque, not the feed-forward."
        return effort, [*findings, finding("measured_input", "command.effort", "file", detail)]
    return commanded["joint.effort"], findings


def parse(path: Path) -> Table:
    """Read a table of numbers; what is no number becomes NaN with a finding that names row and line."""
    data, findings = _decompress(path)
    text = data.decode("utf-8", errors="replace")
    lines = text.splitlines()
    if findings and lines and not text.endswith("\n"):
        lines.pop()  # the row that the truncation cut in two
    rows = [(i + 1, line.split(",")) for i, line in enumerate(lines) if line.strip()]
    if len(rows) < 2:
        return Table({}, np.zeros(0, np.int64), (*findings, finding("empty", "", "file", "the file has no rows.")))
    header = [name.strip() for name in rows[0][1]]
    body = rows[1:]
    values, more = _numbers(header, body)
    columns = {name: values[:, i] for i, name in enumerate(header)}
    return Table(columns, np.array([line for line, _ in body]), (*findings, *more))


def _decompress(path: Path) -> tuple[bytes, tuple[Finding, ...]]:
    data = path.read_bytes()
    if not path.name.endswith(".gz") or not data:
        return data, ()
    decoder, out = zlib.decompressobj(wbits=31), b""
    try:
        out = decoder.decompress(data)
    except zlib.error as error:
        return out, (finding("unreadable", "", "file", f"not a whole gzip file ({error})."),)
    if not decoder.eof:
        detail = f"the gzip stream breaks off after {len(out)} bytes of text; the rows before that were recovered."
        return out, (finding("truncated", "", "end of file", detail),)
    return out, ()


def _numbers(header: Sequence[str], body: Sequence[tuple[int, list[str]]]) -> tuple[Array, list[Finding]]:
    """(rows, columns) of floats, and findings for cells that are missing or no numbers."""
    try:
        values = np.array([cells for _, cells in body], dtype=np.float64)
        if values.shape == (len(body), len(header)):
            return values, []
    except ValueError:
        pass  # some cell is no number or some row is too short: go through them one by one
    values = np.full((len(body), len(header)), np.nan)
    odd: dict[tuple[str, str], list[tuple[str, str]]] = {}
    for row, (line, cells) in enumerate(body):
        where = f"row {row + 1} (line {line})"
        if len(cells) != len(header):
            odd.setdefault(("ragged", ""), []).append((where, f"it has {len(cells)} of {len(header)} cells"))
        for column, cell in enumerate(cells[: len(header)]):
            try:
                values[row, column] = float(cell)
            except ValueError:
                odd.setdefault(("text", header[column]), []).append((where, f"it holds {cell.strip()[:40]!r}"))
    findings = []
    for (kind, name), cases in odd.items():
        where, detail = cases[0]
        findings.append(finding(kind, name, where, f"{detail}; {len(cases)} such row(s)."))
    return values, findings
