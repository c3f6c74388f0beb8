"""What the rules that compare episodes keep of each: a few kilobytes beside the data set, so none is read twice."""

from __future__ import annotations

import io
import zipfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from robot import files
from sim.model import Model
from transfer.screening.dynamics import Regression, regression_of
from transfer.screening.leakage import Fingerprints, fingerprints_of
from transfer.screening.signals import Signals

FOLDER = ".screening"
VERSION = 1


@dataclass(frozen=True, slots=True)
class Kept:
    """Of one episode."""

    fingerprints: Fingerprints
    regression: Regression | None
    """None for robots whose dynamics are not compared."""


def keep(signals: Signals, model: Model | None) -> Kept:
    """Everything that comparisons need of one episode."""
    return Kept(fingerprints_of(signals), regression_of(signals, model) if model is not None else None)


def save(path: Path, kept: Kept) -> None:
    """Write what is kept as an .npz."""
    f = kept.fingerprints
    arrays = {
        "version": np.array(VERSION),
        "hashes": f.hashes,
        "rows": f.rows,
        "clock": np.array([f.period, f.seconds]),
    }
    if (r := kept.regression) is not None:
        arrays |= {"normal": r.normal, "right": r.right, "square": r.square, "zero": r.zero, "total": r.total}
        arrays["of"] = np.array([r.rows, r.seconds])
    stream = io.BytesIO()
    np.savez_compressed(stream, **arrays)  # type: ignore[arg-type]
    files.write_bytes(path, stream.getvalue())


def load(path: Path) -> Kept | None:
    """What save() wrote; None where it is missing, damaged or of another version: the episode is then read again."""
    try:
        with np.load(path, allow_pickle=False) as data:
            if int(data["version"]) != VERSION:
                return None
            clock = data["clock"]
            fingerprints = Fingerprints(data["hashes"], data["rows"], float(clock[0]), float(clock[1]))
            regression = None
            if "normal" in data:
                regression = Regression(
                    normal=data["normal"],
                    right=data["right"],
                    square=data["square"],
                    zero=data["zero"],
                    total=data["total"],
                    rows=int(data["of"][0]),
                    seconds=float(data["of"][1]),
                )
            return Kept(fingerprints, regression)
    except (OSError, KeyError, ValueError, EOFError, zipfile.BadZipFile):
        return None
