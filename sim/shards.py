"""The data set of images on disk: `dataset.yaml`, and shards `shard-00000.parquet` of a fixed number of samples.

A shard holds pictures and labels of consecutive samples; it is written whole or not at all, so what exists is done.
Once all are there, `manifest.json` lists each with its hash; a set without one is not finished.
Any parquet reader reads the labels without the pictures. read() and load() turn rows into Samples.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from robot import config, files
from robot.config import ConfigError

if TYPE_CHECKING:
    import pyarrow as pa

CARD, MANIFEST = "dataset.yaml", "manifest.json"
ENCODINGS = ("jpeg", "png", "raw")
"""Of the pictures: JPEG of quality 95 without loss of colour resolution; PNG; or the bytes as they are, compressed by
parquet. The last two lose nothing; JPEG is by far the fastest and smallest."""
ROW_GROUP = 32
LABELS = ("qpos", "qvel", "joint_position", "joint_velocity", "joint_effort", "command", "keypoints", "parameters")
"""Columns of numbers, a list of fixed length a sample."""
FLAGS = ("at_limit", "impact", "contact", "saturated", "occluded")


@dataclass(frozen=True, kw_only=True)
class Layout:
    """What a reader must know of the columns; part of dataset.yaml."""

    width: int
    height: int
    image: str
    """One of ENCODINGS."""
    joints: tuple[str, ...]
    keypoints: tuple[str, ...]
    parameters: tuple[str, ...]
    """Targets drawn; their values are the column `parameters`."""
    units: tuple[str, ...]
    geoms: tuple[str, ...]
    """Name of each geom id in the segmentation."""
    bodies: tuple[str, ...]
    """Name of the body of each geom id."""


@dataclass(frozen=True, slots=True)
class Sample:
    """One picture and its labels."""

    index: int
    event: str
    """The rare event that was made on purpose; empty for none."""
    flags: dict[str, bool]
    """What was measured: FLAGS."""
    rgb: npt.NDArray[np.uint8]
    """(h, w, 3)"""
    depth: npt.NDArray[np.float16]
    """(h, w) along the camera's axis [m]; 0 where there is nothing."""
    segmentation: npt.NDArray[np.int16]
    """(h, w) geom ids, -1 where there is nothing; Layout.geoms names them."""
    keypoints: npt.NDArray[np.float64]
    """(k, 2) column and row [pixel] from the top left corner; NaN behind the camera."""
    visibility: npt.NDArray[np.uint8]
    """(k,) 0 outside of the image, 1 hidden, 2 visible."""
    labels: dict[str, npt.NDArray[np.float64]]
    """The other LABELS: qpos, qvel, joint_position [rad], joint_velocity [rad/s], joint_effort [N m], command (in the
    unit of each actuator), parameters."""


def path_of(folder: Path, shard: int) -> Path:
    return folder / f"shard-{shard:05d}.parquet"


def rows_of(folder: Path, shard: int) -> int:
    """Samples that a shard on disk holds; 0 for one that is absent or no parquet file."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        return int(pq.read_metadata(path_of(folder, shard)).num_rows)
    except (FileNotFoundError, pa.ArrowInvalid):
        return 0


def clear(folder: Path) -> None:
    """Remove what an interrupted writer left behind, and the manifest of what is about to change."""
    for path in (*folder.glob(".shard-*.tmp"), folder / MANIFEST):
        path.unlink(missing_ok=True)


def packed(columns: Mapping[str, Any], images: Mapping[str, Any], image: str) -> npt.NDArray[np.uint8]:
    """(bytes,) a shard's file, the same from the same samples. `images`: rgb, depth, segmentation (n, h, w, ...)."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    table: dict[str, pa.Array] = {name: _column(np.asarray(values)) for name, values in columns.items()}
    table["rgb"] = pa.array(encode(images["rgb"], image), pa.binary())
    table["depth"] = _bytes(np.minimum(images["depth"], np.finfo(np.float16).max).astype(np.float16))
    table["segmentation"] = _bytes(images["segmentation"])
    # lz4 costs a third of zstd, on pictures of few values; an encoded picture is as small as it gets
    squeezed = dict.fromkeys(table, "zstd") | {"depth": "lz4", "segmentation": "lz4"}
    squeezed["rgb"] = "lz4" if image == "raw" else "none"
    lists = {name: f"{name}.list.element" for name, array in table.items() if pa.types.is_nested(array.type)}
    sink = pa.BufferOutputStream()
    pq.write_table(
        pa.table(table),
        sink,
        compression={lists.get(n, n): c for n, c in squeezed.items()},
        use_dictionary=["event"],
        row_group_size=ROW_GROUP,
        write_statistics=["index"],
    )
    return np.frombuffer(sink.getvalue(), np.uint8)


def put(folder: Path, shard: int, data: npt.NDArray[np.uint8]) -> Path:
    """Write a shard's bytes, whole or not at all, and return its file."""
    path = path_of(folder, shard)
    with files.replacing(path, sync=False) as temporary:  # resuming checks it, and can make it anew
        temporary.write_bytes(data.data)
    return path


def seal(folder: Path, shards: int) -> None:
    """Write the manifest: each of the `shards` that there are, with its rows and hash."""
    rows = [
        {"file": path_of(folder, i).name, "rows": rows_of(folder, i), "sha256": files.sha256(path_of(folder, i))}
        for i in range(shards)
    ]
    files.write_json(folder / MANIFEST, {"shards": rows})


def damaged(folder: Path) -> list[str]:
    """Shards that are not as the manifest says, or not there; ConfigError for a set that is not finished."""
    if not (folder / MANIFEST).is_file():
        raise ConfigError(f"{folder}: no {MANIFEST} in it, so it is not finished; go on with resume=true.")
    listed = json.loads((folder / MANIFEST).read_text())["shards"]
    there = {path.name for path in folder.glob("shard-*.parquet")}
    wrong = {s["file"] for s in listed if s["file"] in there and files.sha256(folder / s["file"]) != s["sha256"]}
    return sorted(wrong | (there ^ {s["file"] for s in listed}))


def _column(values: npt.NDArray[Any]) -> pa.Array:
    """(n,) as a column of scalars, (n, k) as one of lists of length k."""
    import pyarrow as pa

    if values.ndim == 1:
        return pa.array(values)
    if values.shape[1] == 0:  # arrow has no lists of the fixed length 0
        return pa.array([[]] * len(values), pa.list_(pa.from_numpy_dtype(values.dtype)))
    return pa.FixedSizeListArray.from_arrays(pa.array(values.reshape(-1)), values.shape[1])


def _bytes(images: npt.NDArray[Any]) -> pa.Array:
    """One binary value an image, without a copy of each."""
    import pyarrow as pa

    data = np.ascontiguousarray(images)
    offsets = np.arange(len(data) + 1, dtype=np.int32) * (data[0].nbytes if len(data) else 0)
    return pa.Array.from_buffers(pa.binary(), len(data), [None, pa.py_buffer(offsets), pa.py_buffer(data)])


def encode(rgb: npt.NDArray[np.uint8], image: str) -> list[bytes]:
    """Images (n, h, w, 3) as bytes."""
    import cv2

    if image == "raw":
        return [one.tobytes() for one in rgb]
    if image == "png":
        options = [cv2.IMWRITE_PNG_COMPRESSION, 1]
    else:
        options = [cv2.IMWRITE_JPEG_QUALITY, 95, cv2.IMWRITE_JPEG_SAMPLING_FACTOR, cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444]
    suffix = {"png": ".png", "jpeg": ".jpg"}[image]
    return [cv2.imencode(suffix, cv2.cvtColor(one, cv2.COLOR_RGB2BGR), options)[1].tobytes() for one in rgb]


def decode(data: bytes, layout: Layout) -> npt.NDArray[np.uint8]:
    """(h, w, 3) RGB."""
    import cv2

    if layout.image == "raw":
        return np.frombuffer(data, np.uint8).reshape(layout.height, layout.width, 3)
    picture = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
    if picture is None:
        raise ConfigError("a shard holds a picture that cannot be decoded; delete the shard and resume.")
    return np.asarray(cv2.cvtColor(picture, cv2.COLOR_BGR2RGB), dtype=np.uint8)


def layout_of(folder: Path) -> Layout:
    """How to read a data set; ConfigError for a folder that holds none."""
    if not (folder / CARD).is_file():
        raise ConfigError(f"{folder}: no {CARD} in it; `terrafirma synthesize` makes such a folder.")
    card = config.load_yaml(folder / CARD)
    return config.convert(Layout, card["layout"], str(folder / CARD), "layout")


def load(folder: Path) -> Iterator[Sample]:
    """All samples in order of their index; ConfigError for a folder that holds no data set."""
    layout = layout_of(folder)
    for path in sorted(folder.glob("shard-*.parquet")):
        yield from read(path, layout)


def read(path: Path, layout: Layout) -> Iterator[Sample]:
    """The samples of one shard."""
    import pyarrow.parquet as pq

    for batch in pq.ParquetFile(path).iter_batches(batch_size=ROW_GROUP):
        for row in batch.to_pylist():
            yield _sample(row, layout)


def _sample(row: Mapping[str, Any], layout: Layout) -> Sample:
    shape = layout.height, layout.width
    return Sample(
        index=row["index"],
        event=row["event"],
        flags={name: row[name] for name in FLAGS},
        rgb=decode(row["rgb"], layout),
        depth=np.frombuffer(row["depth"], np.float16).reshape(shape),
        segmentation=np.frombuffer(row["segmentation"], np.int16).reshape(shape),
        keypoints=np.array(row["keypoints"]).reshape(-1, 2),
        visibility=np.array(row["visibility"], dtype=np.uint8),
        labels={name: np.array(row[name], dtype=np.float64) for name in LABELS if name != "keypoints"},
    )
