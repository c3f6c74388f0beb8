"""Tables of numbers as text, plain or gzipped: columns by name, and what was odd in which row and line."""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from transfer.dataset import Finding
from transfer.screen import finding

Array = npt.NDArray[np.float64]


TEXT_BYTES = 512 << 20
"""Most bytes of text that are read: each becomes several of Python's. A gzip file that unpacks to more is a bomb."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Dialect:
    """How a table is written."""

    delimiter: str = ","
    comment: str = ""
    """What a line begins with that is no row; empty for none."""
    end: str = ""
    """What each row ends with, after its last cell."""
    header: tuple[str, ...] = ()
    """Names of the columns where no line of the file gives them."""
    drop: str = ""
    """Characters that stand around lists in a cell, and are left out."""
    labels: int = 0
    """Cells at the start of each row that hold text, and are left out."""


@dataclass(frozen=True, slots=True)
class Table:
    """A parsed file: columns by name, the line that each row stands in (none in binary files), and what was odd."""

    columns: dict[str, Array]
    lines: npt.NDArray[np.int64]
    findings: tuple[Finding, ...]

    def where(self, row: int) -> str:
        """Where a row is, as findings say it."""
        return f"row {row + 1} (line {self.lines[row]})" if len(self.lines) else f"row {row + 1}"


def text_of(path: Path) -> tuple[str, tuple[Finding, ...]]:
    """A file's text, unpacked; what is left of a damaged one, and a finding that says so."""
    if path.stat().st_size > TEXT_BYTES:
        return "", (_too_long(),)
    data = path.read_bytes()
    if not path.name.endswith(".gz") or not data:
        return data.decode("utf-8", errors="replace"), ()
    parts, found, left = list[bytes](), tuple[Finding, ...](), TEXT_BYTES
    while data:
        decoder = zlib.decompressobj(wbits=31)
        try:
            parts.append(decoder.decompress(data, left))
            left -= len(parts[-1])
            if left <= 0 or decoder.unconsumed_tail:
                return "", (_too_long(),)
        except zlib.error as error:
            found = (finding("unreadable", "", "file", f"not a whole gzip file ({error})."),)
            break
        if not decoder.eof:
            size = sum(map(len, parts))
            detail = f"the gzip stream breaks off after {size} bytes of text; the rows before that were recovered."
            found = (finding("truncated", "", "end of file", detail),)
            break
        data = decoder.unused_data  # gzip files may be appended to one another
    return b"".join(parts).decode("utf-8", errors="replace"), found


def _too_long() -> Finding:
    return finding("too_large", "", "file", f"it has more than {TEXT_BYTES >> 20} MiB of text; split it.")


def head_of(path: Path, size: int = 4096) -> str:
    """The first characters of a file, unpacked; empty where they cannot be read."""
    with path.open("rb") as stream:
        data = stream.read(size)
    if path.name.endswith(".gz"):
        try:
            data = zlib.decompressobj(wbits=31).decompress(data, size)
        except zlib.error:
            return ""
    return data.decode("utf-8", errors="replace")


def parse(path: Path, dialect: Dialect | None = None) -> Table:
    """Read a table of numbers; what is no number becomes NaN with a finding that names row and line."""
    dialect = dialect or Dialect()
    text, findings = text_of(path)
    for character in dialect.drop:
        text = text.replace(character, "")
    lines = text.splitlines()
    if findings and lines and not text.endswith("\n"):
        lines.pop()  # the row that the truncation cut in two
    rows = [(i + 1, line) for i, line in enumerate(lines) if line.strip()]
    if dialect.comment:
        rows = [(i, line) for i, line in rows if not line.startswith(dialect.comment)]
    named = 0 if dialect.header else 1
    if len(rows) < 1 + named:
        return Table({}, np.zeros(0, np.int64), (*findings, finding("empty", "", "file", "the file has no rows.")))
    header = list(dialect.header) or [name.strip().strip('"') for name in rows[0][1].split(dialect.delimiter)]
    body = [(i, line.removesuffix(dialect.end).split(dialect.delimiter)[dialect.labels :]) for i, line in rows[named:]]
    values, more = _numbers(header, body)
    columns = {name: values[:, i] for i, name in enumerate(header)}
    return Table(columns, np.array([line for line, _ in body]), (*findings, *more))


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
