"""Parquet tables: columns of numbers, and lists of one length as columns `name/0`, `name/1`, …; sizes come first.

lerobot.py reads its tables with `numbers()`, too.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from robot.spec import RobotSpec
from transfer.formats import Recording, sources
from transfer.formats.parquet_footer import RowGroup, row_groups
from transfer.formats.sources import Source, flat, refused, table_of, unmapped

FORMAT = "parquet table"


def detect(path: Path) -> bool:
    """By the name."""
    return path.is_file() and path.suffix in (".parquet", ".pq")


def read(path: Path, spec: RobotSpec) -> Iterator[Recording]:
    """What is wrong with the file, or a map to confirm."""
    return unmapped(episodes(path), spec)


def episodes(path: Path) -> Iterator[Source]:
    """The one episode of a table."""
    try:
        arrays, unread = numbers(path)
    except TooLarge as error:
        yield sources.too_large(path.stem, FORMAT, error.n_bytes)
        return
    except (pa.ArrowException, OSError, ValueError) as error:
        yield refused(path.stem, FORMAT, "unreadable", f"not a whole parquet file ({short(error)}).")
        return
    columns = {c: v for n, a in arrays.items() for c, v in flat(n, a).items()}
    if not columns or not len(next(iter(columns.values()))):
        yield refused(path.stem, FORMAT, "empty", "it has no rows of numbers.")
        return
    yield Source(name=path.stem, format=FORMAT, table=table_of(columns), unread=unread)


class TooLarge(ValueError):
    """A file declares more numbers than a recording may have."""

    def __init__(self, n_bytes: int) -> None:
        super().__init__(f"{n_bytes} bytes")
        self.n_bytes = n_bytes


def opened(path: Path) -> pq.ParquetFile:
    """The file with its footer read; pa.ArrowException or OSError where it is none."""
    return pq.ParquetFile(path)


def numbers(path: Path, names: Iterable[str] | None = None) -> tuple[dict[str, np.ndarray], tuple[str, ...]]:
    """Columns (n,) and (n, k) of numbers (all, or those named), and the names of the others.

    Nulls become NaN. TooLarge, before anything is read, where they would take more than sources.MEMORY; ValueError,
    OSError or pa.ArrowException where the file is damaged.
    """
    groups = row_groups(path)
    with opened(path) as file:
        schema = file.schema_arrow
        asked = [n for n in schema.names if names is None or n in set(names)]
        chosen = [n for n in asked if _numeric(schema.field(n).type)]
        size = sum(declared(group, chosen) for group in groups)
        if size > sources.MEMORY:
            raise TooLarge(size)
        table = file.read(columns=chosen, use_threads=False)
    arrays, unread = dict[str, np.ndarray](), [n for n in asked if n not in chosen]
    for name in chosen:
        values = _array(table[name].combine_chunks())
        if values is None:
            unread.append(name)
        else:
            arrays[name] = values
    return arrays, tuple(unread)


def declared(group: RowGroup, names: Iterable[str]) -> int:
    """Bytes that columns would take as 8-byte numbers, by the footer's counts: a run of equal values is long, too."""
    wanted = set(names)
    return sum(8 * max(count, group.rows) for path, count in group.values.items() if _is_of(path, wanted))


def _is_of(path: str, names: set[str]) -> bool:
    """Whether a leaf of the file's schema belongs to one of the columns, whose names may hold dots themselves."""
    return path in names or any(path.startswith(f"{name}.") for name in names)


def _numeric(kind: pa.DataType) -> bool:
    """Numbers, booleans, time stamps, and lists of numbers."""
    if pa.types.is_list(kind) or pa.types.is_fixed_size_list(kind) or pa.types.is_large_list(kind):
        return _numeric(kind.value_type) and not pa.types.is_nested(kind.value_type)
    plain = pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_boolean(kind)
    return plain or pa.types.is_timestamp(kind)


def _array(column: pa.Array) -> np.ndarray | None:
    """(n,) or (n, k); None for lists of different lengths."""
    kind = column.type
    if pa.types.is_list(kind) or pa.types.is_fixed_size_list(kind) or pa.types.is_large_list(kind):
        inner = _array(column.flatten())
        n = len(column)
        if inner is None or not n or len(inner) % n:
            return None
        if not pa.types.is_fixed_size_list(kind) and len(set(column.value_lengths().to_pylist())) != 1:
            return None
        return inner.reshape(n, -1)
    if pa.types.is_timestamp(kind):
        column = column.cast(pa.timestamp("ns")).cast(pa.int64())
    values: np.ndarray = column.to_numpy(zero_copy_only=False)
    return values.astype(np.float64) if values.dtype.kind == "O" else values


def short(error: BaseException) -> str:
    """The first line of a library's message, for the end of a sentence."""
    return (str(error).splitlines() or [type(error).__name__])[0][:160].rstrip(". ")
