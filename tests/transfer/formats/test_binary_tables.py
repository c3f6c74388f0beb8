"""NPZ, parquet and HDF5: read by a map, exact stamps, and each broken or hostile file is one sentence."""

from __future__ import annotations

import io
import json
import os
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from robot.spec import RobotSpec
from sim.model import RobotConfig
from tests.transfer.formats import made
from transfer.dataset import DataRefused
from transfer.formats import Recording, format_of, parquet, sources
from transfer.formats.column_map import Mapped
from transfer.ingest import Ingestion

h5py = pytest.importorskip("h5py")


def proposed(path: Path, spec: RobotSpec) -> Recording:
    reader = format_of(path)
    assert reader is not None
    (recording,) = reader.read(path, spec)
    assert recording.log is None
    return recording


def mapped(path: Path, spec: RobotSpec, text: str) -> list[Recording]:
    file = path.parent / "columns.yaml"
    file.write_text(text)
    return list(Mapped.of(file).read(path, spec))


def test_a_parquet_table_keeps_stamps_to_the_nanosecond_and_lists_as_joints(
    double_pendulum: RobotConfig, tmp_path: Path
) -> None:
    data, n = made.motion(60), 60
    stamps = made.EPOCH + 2_000_001 * np.arange(n)
    table = {
        "stamp": pa.array(stamps, pa.timestamp("ns")), "qpos": made.lists(data["q"]),
        "tau_cmd": pa.array(data["tau"].tolist()), "note": ["x"] * n,
        "mode": pa.array([1.0, None] * (n // 2)),
    }  # fmt: skip
    path = tmp_path / "lab.parquet"
    pq.write_table(pa.table(table), path)
    recording = proposed(path, double_pendulum.spec)
    assert recording.findings[0].kind == "unknown_layout" and '# No columns: "note"' in recording.proposal
    (read,) = mapped(path, double_pendulum.spec, made.confirmed(recording.proposal))
    assert read.log is not None and np.array_equal(read.log["joint.position"].t_ns, stamps)
    assert np.array_equal(read.log["joint.position"].values, data["q"])
    assert np.array_equal(read.log["command.effort"].values, data["tau"])


def robomimic_file(path: Path, spec: RobotSpec, rate: float | None = 20.0) -> Path:
    """Demonstrations 0 to 10 of 30 rows, whose order by letters is another."""
    with h5py.File(path, "w") as file:
        group = file.create_group("data")
        kwargs = {} if rate is None else {"control_freq": rate}
        group.attrs["env_args"] = json.dumps({"env_name": "Lift", "type": 1, "env_kwargs": kwargs})
        for k in (0, 1, 2, 10):
            data, demo = made.motion(30 + k, len(spec.joints), 20.0), group.create_group(f"demo_{k}")
            demo["states"] = np.zeros((30 + k, 50))
            demo["actions"], demo["rewards"] = data["tau"], np.zeros(30 + k)
            demo["obs/robot0_joint_pos"], demo["obs/robot0_joint_vel"] = data["q"], data["v"]
            demo["obs/robot0_joint_pos_cos"], demo["obs/robot0_eef_pos"] = np.cos(data["q"]), np.zeros((30 + k, 3))
            demo["obs/agentview_image"] = made.picture_stack(30 + k, (16, 16))
    return path


def test_robomimic_demonstrations_in_their_order_at_the_rate_of_env_args(
    double_pendulum: RobotConfig, tmp_path: Path
) -> None:
    spec = double_pendulum.spec
    path = robomimic_file(tmp_path / "lift.hdf5", spec)
    recording = proposed(path, spec)
    assert recording.format == "robomimic HDF5" and recording.findings[0].kind == "unstated_unit"
    assert (
        '"obs/robot0_joint_pos/0"' in recording.proposal
        and "-1 to 1 of the environment's controller" in recording.proposal
    )
    assert 'time: {column: "frame", unit: s, scale: 0.05}' in recording.proposal
    read = mapped(path, spec, made.confirmed(recording.proposal, command_effort="N m"))
    assert [r.log.name for r in read if r.log] == [f"lift-demo_{k}" for k in (0, 1, 2, 10)]
    last = read[3].log
    assert last is not None and last["joint.position"].values == pytest.approx(made.motion(40, 2, 20.0)["q"])
    assert last["joint.velocity"].t_ns[3] == 150_000_000 and last.meta["environment"] == "robosuite Lift"
    assert np.array_equal(last["camera.agentview"].values, made.picture_stack(40, (16, 16)))
    assert "nominal_clock" in {f.kind for f in read[0].findings}


def test_a_robomimic_file_without_a_rate_asks_for_it(double_pendulum: RobotConfig, tmp_path: Path) -> None:
    path = robomimic_file(tmp_path / "lift.hdf5", double_pendulum.spec, rate=None)
    recording = proposed(path, double_pendulum.spec)
    with pytest.raises(ValueError, match=r"time.scale is 0.0; it must be above 0"):
        mapped(path, double_pendulum.spec, made.confirmed(recording.proposal, command_effort="N m"))


ALOHA_MAP = """
time: {column: frame, unit: s, scale: 0.02}
channels:
  joint.position:
    shoulder: {column: observations/qpos/left_waist}
    elbow: {column: observations/qpos/left_gripper, scale: 2.1}
  command.effort: {shoulder: {column: action/left_waist}, elbow: {column: action/right_gripper}}
cameras: {front: cam_high}
"""


def aloha_file(path: Path, jpeg: bool = False) -> np.ndarray:
    """An episode of 20 rows; returns qpos."""
    qpos = made.motion(20, 14, 50.0)["q"].astype(np.float32)
    images = made.picture_stack(20, (24, 32))
    with h5py.File(path, "w") as file:
        file.attrs["sim"], file.attrs["compress"] = False, jpeg
        file["observations/qpos"], file["observations/qvel"], file["action"] = qpos, qpos, qpos
        if jpeg:
            import cv2

            coded = [cv2.imencode(".jpg", i[:, :, ::-1])[1].reshape(-1) for i in images]
            padded = np.zeros((20, max(map(len, coded)) + 9), np.uint8)
            for row, data in zip(padded, coded, strict=True):
                row[: len(data)] = data
            images = padded
        file.create_dataset("observations/images/cam_high", data=images)
    return qpos


@pytest.mark.parametrize("jpeg", [False, True])
def test_an_aloha_episode_names_its_joints_and_states_their_units(
    jpeg: bool, double_pendulum: RobotConfig, tmp_path: Path
) -> None:
    path = tmp_path / "episode_0.hdf5"
    qpos = aloha_file(path, jpeg)
    assert proposed(path, double_pendulum.spec).format == "ALOHA HDF5"
    (read,) = mapped(path, double_pendulum.spec, ALOHA_MAP)
    assert read.log is not None and set(read.log.channels) == {"joint.position", "command.effort", "camera.front"}
    assert read.log["joint.position"].values == pytest.approx(np.stack([qpos[:, 0], 2.1 * qpos[:, 6]], axis=1))
    assert read.log["joint.position"].t_ns[19] == 380_000_000
    shown = read.log["camera.front"].values.astype(int)
    assert np.abs(shown - made.picture_stack(20, (24, 32))).max() <= (24 if jpeg else 0)


def test_a_map_chooses_cameras_and_a_jpeg_is_measured_before_it_is_unpacked(
    double_pendulum: RobotConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec, path = double_pendulum.spec, tmp_path / "episode_0.hdf5"
    aloha_file(path, jpeg=True)
    (blind,) = mapped(path, spec, ALOHA_MAP.replace("{front: cam_high}", "{}"))
    assert blind.log is not None and not any(n.startswith("camera.") for n in blind.log.channels)
    (wrong,) = mapped(path, spec, ALOHA_MAP.replace("cam_high", "cam_hihg"))
    assert next(f.detail for f in wrong.findings if f.blocking).endswith("Did you mean 'cam_high'?")
    monkeypatch.setattr(sources, "MEMORY", 20 * 24 * 32 * 3 - 1)
    (large,) = mapped(path, spec, ALOHA_MAP)
    assert large.log is not None and [f.kind for f in large.findings if f.blocking] == ["too_large"]
    with h5py.File(path, "r+") as file:
        file["observations/images/cam_high"][3] = 7
    (damaged,) = mapped(path, spec, ALOHA_MAP)
    assert damaged.log is not None and [f.kind for f in damaged.findings if f.blocking] == ["damaged_video"]


class _Evil:
    """Runs a command when it is unpickled."""

    def __reduce__(self) -> tuple[Callable[[str], int], tuple[str]]:
        return os.system, ("touch /tmp/terrafirma_was_here",)


def _npz(path: Path, name: str, data: bytes) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(name, data)


def _pickled(path: Path) -> None:
    np.savez(path, q=np.array([_Evil()], dtype=object))


def _zip_bomb(path: Path) -> None:
    """Twelve megabytes of zeros in a few kilobytes."""
    block = bytes(1 << 20)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as archive:
        for name in "ab":
            with archive.open(f"{name}.npy", "w") as stream:
                for _ in range(6):
                    stream.write(block)


def _false_shape(path: Path) -> None:
    head = io.BytesIO()
    np.lib.format.write_array_header_1_0(head, {"descr": "<f8", "fortran_order": False, "shape": (1 << 40,)})
    _npz(path, "q.npy", head.getvalue() + bytes(80))


def _long_run(path: Path) -> None:
    """Equal values: many rows in few bytes."""
    schema = pa.schema([("q0", pa.float64())])
    with pq.ParquetWriter(path, schema, use_dictionary=True) as writer:
        writer.write_table(pa.table({"q0": np.zeros(1_200_000)}, schema=schema))


def _hdf5(path: Path, fill: Callable[[object], None]) -> None:
    with h5py.File(path, "w") as file:
        fill(file)


def _external(path: Path) -> None:
    _hdf5(path, lambda f: f.__setitem__("data", h5py.ExternalLink("/etc/passwd", "/")))


def _external_rows(path: Path) -> None:
    def fill(file: object) -> None:
        file["action"] = file["observations/qvel"] = np.zeros((5, 14))  # type: ignore[index]
        file.create_dataset("observations/qpos", (5, 14), "f8", external=[("/etc/passwd", 0, h5py.h5f.UNLIMITED)])  # type: ignore[attr-defined]

    _hdf5(path, fill)


def _virtual(path: Path) -> None:
    def fill(file: object) -> None:
        layout = h5py.VirtualLayout((5, 14), "f8")
        layout[:] = h5py.VirtualSource("/tmp/elsewhere.h5", "x", shape=(5, 14))
        file.create_virtual_dataset("observations/qpos", layout)  # type: ignore[attr-defined]

    _hdf5(path, fill)


def _hdf5_bomb(path: Path) -> None:
    _hdf5(
        path,
        lambda f: f.create_dataset("observations/qpos", (1 << 34, 14), "f8", chunks=(1024, 14), compression="gzip"),
    )


def _no_demos(path: Path) -> None:
    _hdf5(path, lambda f: f.create_group("data"))


def _future(path: Path) -> None:
    path.write_bytes(b"\x89HDF\r\n\x1a\n" + bytes([200]) * 2000)


CASES: list[tuple[str, Callable[[Path], object], str, str]] = [
    ("a.npz", lambda p: p.write_bytes(b"PK\x03\x04 nothing"), "unreadable", "not a whole NumPy archive"),
    ("a.npz", lambda p: _npz(p, "q.npy", b"\x93NUMPY\x09\x00"), "unreadable", "not a whole NumPy archive"),
    ("a.npz", lambda p: _npz(p, "readme.txt", b"hello"), "unreadable", "not a whole NumPy archive"),
    ("a.npz", lambda p: np.savez(p, name=np.array(["text"])), "empty", "no array of numbers"),
    ("a.npz", _pickled, "unreadable", "pickled objects, which are never read"),
    ("a.npz", _zip_bomb, "too_large", "12.0 MiB, more than 8.0 MiB"),
    ("a.npz", _false_shape, "unreadable", "claims 8192.0 GiB in"),
    ("a.parquet", lambda p: p.write_bytes(b"PAR1 not PAR1"), "unreadable", "not a whole parquet file"),
    ("a.parquet", lambda p: pq.write_table(pa.table({"s": ["x"]}), p), "empty", "no rows of numbers"),
    ("a.parquet", _long_run, "too_large", "9.2 MiB, more than 8.0 MiB"),
    ("a.hdf5", lambda p: p.write_bytes(b"\x89HDF\r\n\x1a\n cut"), "unreadable", "not a whole HDF5 file"),
    ("a.hdf5", _future, "unreadable", "not a whole HDF5 file"),
    ("a.hdf5", _no_demos, "empty", "no demonstrations"),
    ("a.hdf5", _external, "outside", "links to another file"),
    ("a.hdf5", _external_rows, "outside", "keeps its values in other files"),
    ("a.hdf5", _virtual, "outside", "keeps its values in other files"),
    ("a.hdf5", _hdf5_bomb, "too_large", "more than 8.0 MiB"),
    ("a.hdf5", lambda p: _hdf5(p, lambda f: f.create_group("other")), "unknown_format", "no format reads it"),
]  # fmt: skip


@pytest.mark.parametrize(("name", "damage", "kind", "words"), CASES)
def test_a_broken_or_hostile_file_is_one_sentence_and_little_memory(
    name: str, damage: Callable[[Path], object], kind: str, words: str, double_pendulum: RobotConfig, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    import tracemalloc

    path = tmp_path / name
    damage(path)
    monkeypatch.setattr(sources, "MEMORY", 8 << 20)
    arrow = pa.default_memory_pool()
    before = arrow.bytes_allocated()
    tracemalloc.start()
    try:
        work = Ingestion(spec=double_pendulum.spec, out=tmp_path / "set")
        with pytest.raises(DataRefused, match=words) as error:
            work.run([path])
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert error.value.exit_code == 4 and error.value.episodes[0].findings[0].kind == kind
    assert peak < 8 << 20 and arrow.bytes_allocated() - before < 1 << 20
    assert not (tmp_path / "set" / "dataset.yaml").exists() and path.is_file()
    assert not Path("/tmp/terrafirma_was_here").exists()


def test_a_cut_file_loses_what_came_after_the_cut_only(double_pendulum: RobotConfig, tmp_path: Path) -> None:
    spec = double_pendulum.spec
    path = robomimic_file(tmp_path / "lift.hdf5", spec)
    text = made.confirmed(proposed(path, spec).proposal, command_effort="N m")
    with h5py.File(path, "r+") as file:
        del file["data/demo_1/obs/robot0_joint_vel"]
        file["data/demo_1/obs/robot0_joint_vel"] = np.zeros((3, 2))
    read = mapped(path, spec, text)
    assert [r.log is None for r in read] == [False, True, False, False]
    assert read[1].findings[0].kind == "incomplete" and "/data/demo_1" in read[1].findings[0].where


def test_no_flipped_byte_of_a_footer_ends_in_anything_but_a_finding(
    double_pendulum: RobotConfig, tmp_path: Path
) -> None:
    path = tmp_path / "lab.parquet"
    pq.write_table(pa.table({"t": np.arange(9) / 100.0, "q": made.lists(np.zeros((9, 2)))}), path)
    whole = path.read_bytes()
    kinds = set()
    for place in range(len(whole) - 900, len(whole), 19):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 0x5A]) + whole[place + 1 :])
        kinds |= {f.kind for r in parquet.read(path, double_pendulum.spec) for f in r.findings}
    assert {"unreadable"} <= kinds <= {"unreadable", "unknown_layout", "unstated_unit", "empty", "too_large"}
