"""robomimic's HDF5: one file of demonstrations /data/demo_<i>, with observations and normalised actions, and no clock.

Source: robomimic v0.5, docs/datasets/overview. Actions are -1 to 1 of whatever controller the environment had, so they
are no joint command unless a person says so; rows are as far apart as `env_kwargs.control_freq` says.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from robot.log import Channel
from robot.spec import RobotSpec
from transfer.dataset import Finding
from transfer.formats import Recording, hdf5, sources
from transfer.formats.hdf5 import Hdf5Refused
from transfer.formats.layout import nanoseconds
from transfer.formats.sources import FRAME, Clock, Pictures, Source, flat, refused, size_told, table_of, unmapped
from transfer.screen import finding

FORMAT = "robomimic HDF5"
DEMO = "demo_"
SKIPPED = ("states", "next_obs", "obs", "model_file")
"""The simulator's whole state, what repeats the next row, and what is read in parts."""
ENVIRONMENTS = {1: "robosuite", 2: "gym", 3: "iGibson"}


def detect(path: Path) -> bool:
    """An HDF5 file with a group /data, or one that cannot be opened and has no other reader."""
    return hdf5.is_hdf5(path) and (hdf5.has(path, "data") or not hdf5.has(path, "/"))


def read(path: Path, spec: RobotSpec) -> Iterator[Recording]:
    """What is wrong with the file, or a map to confirm."""
    return unmapped(episodes(path), spec)


def episodes(path: Path) -> Iterator[Source]:
    """The demonstrations in the order of their numbers."""
    try:
        with hdf5.opened(path) as file:
            demos = [n for n in hdf5.children(file, "data") if n.startswith(DEMO) and n[len(DEMO) :].isdigit()]
            if not demos:
                yield refused(path.stem, FORMAT, "empty", "/data has no demonstrations (demo_0, demo_1, …).")
            about = _about(hdf5.text(file, "data", "env_args"))
            for name in sorted(demos, key=lambda n: int(n[len(DEMO) :])):
                yield _episode(file, path, name, about, len(demos))
    except Hdf5Refused as error:
        yield refused(path.stem, "HDF5", error.kind, str(error))


def _about(text: str) -> dict[str, str]:
    """What env_args says: environment and control rate."""
    try:
        data = json.loads(text) if text else {}
        kind = ENVIRONMENTS.get(data.get("type", data.get("env_type", 0)), "")
        rate = float(data.get("env_kwargs", {}).get("control_freq") or 0.0)
        name = str(data.get("env_name", ""))[:80]
    except (ValueError, AttributeError, TypeError, RecursionError):
        return {}
    about = {"environment": " ".join(filter(None, (kind, name)))} if kind or name else {}
    return about | ({"rate_hz": f"{rate:g}"} if 0.0 < rate < 1e5 else {})


def _episode(file: Any, path: Path, name: str, about: dict[str, str], count: int) -> Source:
    label = f"{path.stem}-{name}"
    try:
        columns, images, unread = _columns(file, f"data/{name}")
        if not columns:
            return refused(label, FORMAT, "empty", f"/data/{name} has no numbers.")
        n = len(next(iter(columns.values())))
        columns = {FRAME: np.arange(n), **columns}
    except Hdf5Refused as error:
        return refused(label, FORMAT, error.kind, str(error), f"/data/{name}")
    rate = float(about.get("rate_hz", 0.0))
    clock = Clock(column=FRAME, scale=1.0 / rate if rate else None, nominal=_nominal(rate))
    cameras = {n.rsplit("/", 1)[1].removesuffix("_image"): n for n in images} if rate else {}
    units = {c: "-1 to 1 of the environment's controller" for c in columns if c.split("/")[0] == "actions"}
    return Source(
        name=label, format=FORMAT, table=table_of(columns), units=units, clock=clock,
        cameras=tuple(cameras), pictures=_pictures(file, cameras, 1.0 / rate if rate else 0.0),
        meta={"environment": about.get("environment", "")}, episodes=count, unread=tuple(unread),
    )  # fmt: skip


def _nominal(rate: float) -> str:
    if rate:
        return f"the file has no clock; rows are 1/{rate:g} s apart, as env_args says."
    return "the file has no clock and says no rate."


def _columns(file: Any, demo: str) -> tuple[dict[str, np.ndarray], list[str], list[str]]:
    """Columns of numbers, data sets of pictures, and what is neither."""
    names = [n for n in hdf5.children(file, demo) if n not in SKIPPED]
    names += [f"obs/{n}" for n in hdf5.children(file, f"{demo}/obs")]
    columns, images, unread, total, rows = dict[str, np.ndarray](), list[str](), list[str](), 0, None
    for name in names:
        shape, dtype = hdf5.declared(file, f"{demo}/{name}")
        if len(shape) == 4 and dtype == np.uint8 and shape[3] in (1, 3):
            images.append(f"{demo}/{name}")
            continue
        if len(shape) not in (1, 2) or 0 in shape:
            unread.append(name)
            continue
        total += 8 * int(np.prod(shape, dtype=np.float64))
        if total > sources.MEMORY:
            raise Hdf5Refused("too_large", f"its numbers would take more than {size_told(sources.MEMORY)}; split it.")
        if rows is not None and shape[0] != rows:
            raise Hdf5Refused("incomplete", f"{demo}/{name} has {shape[0]} rows where others have {rows}.")
        rows = shape[0]
        columns |= flat(name, hdf5.array(file, f"{demo}/{name}"))
    return columns, images, unread


def _pictures(file: Any, names: dict[str, str], period: float) -> Callable[[Collection[str]], Pictures]:
    return lambda wanted: pictures_of(file, {c: names[c] for c in wanted}, period)


def pictures_of(file: Any, names: dict[str, str], period: float) -> Pictures:
    """Cameras whose pictures stand in data sets (n, h, w, c) of uint8, one each `period` seconds."""
    channels, findings = dict[str, Channel](), list[Finding]()
    left = sources.MEMORY
    for camera, name in names.items():
        try:
            shape, dtype = hdf5.declared(file, name)
            left -= int(np.prod(shape, dtype=np.float64)) * dtype.itemsize
            if left < 0:
                told = f"with {name} the pictures would take more than {size_told(sources.MEMORY)}; it is left out."
                raise Hdf5Refused("too_large", told)
            values = hdf5.array(file, name)
            if values.dtype != np.uint8 or values.ndim != 4 or values.shape[3] not in (1, 3):
                raise Hdf5Refused("damaged_video", f"{name} has no pictures but {values.dtype} of shape {shape}.")
        except Hdf5Refused as error:
            kind = error.kind if error.kind in ("too_large", "outside") else "damaged_video"
            findings.append(finding(kind, f"camera.{camera}", "file", str(error)))
            continue
        t_ns = nanoseconds(np.arange(shape[0]).astype(np.float64), period)
        channels[camera] = Channel(f"camera.{camera}", "uint8", (), t_ns, values)
    return channels, tuple(findings)
