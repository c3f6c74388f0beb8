"""LeRobotDataset: what we write comes back, what others wrote is read by a map, and what is wrong is said."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from robot.log import EpisodeLog
from sim.model import RobotConfig
from tests.transfer.formats import made
from transfer.dataset import DataRefused
from transfer.formats import format_of, lerobot, sources, whole_of
from transfer.formats.column_map import Mapped
from transfer.formats.lerobot_own import OWN
from transfer.formats.lerobot_writer import LeRobotConfig, Written, write
from transfer.ingest import Ingestion

pytest.importorskip("av")


@pytest.fixture(scope="module")
def logs(double_pendulum: RobotConfig) -> list[EpisodeLog]:
    return [made.episode(double_pendulum.spec, f"run{k}", 20 + 5 * k) for k in range(3)]


@pytest.fixture(scope="module")
def files(logs: list[EpisodeLog], tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder = tmp_path_factory.mktemp("own")
    return [log.save(folder / f"{log.name}.mcap") for log in logs]


@pytest.fixture(scope="module")
def films(files: list[Path], double_pendulum: RobotConfig, tmp_path_factory: pytest.TempPathFactory) -> Written:
    folder = tmp_path_factory.mktemp("lerobot") / "films"
    return write(folder, files, double_pendulum.spec, LeRobotConfig(pictures="video"))


@pytest.fixture()
def copy(films: Written, tmp_path: Path) -> Path:
    return Path(shutil.copytree(films.folder, tmp_path / "set"))


def test_what_was_written_comes_back_with_true_stamps(
    files: list[Path], logs: list[EpisodeLog], double_pendulum: RobotConfig, tmp_path: Path
) -> None:
    told = write(tmp_path / "set", files, double_pendulum.spec)  # pictures this small are kept exactly
    assert (told.fps, told.episodes, told.frames, told.lost_rows) == (30, 3, 75, {})
    assert told.left_out == {"joint.effort": "it holds no number"} and 0.1 < told.late_ms < 2.1
    back = [r.log for r in lerobot.read(tmp_path / "set", double_pendulum.spec)]
    for log, other in zip(logs, back, strict=True):
        assert other is not None and other.name == log.name and other.fingerprint == log.fingerprint
        assert {**log.meta, "layout": "lerobot/own"} == other.meta
        assert set(other.channels) == set(log.channels) - {"joint.effort"}
        for name, channel in other.channels.items():
            assert np.array_equal(channel.t_ns, log[name].t_ns), name
            assert channel.components == log[name].components and channel.unit == log[name].unit
        for name in ("joint.position", "joint.velocity", "command.effort"):
            assert np.array_equal(other[name].values, log[name].values.astype(np.float32).astype(np.float64))
        for name in ("servo.current", "camera.front", "event"):
            assert np.array_equal(other[name].values, log[name].values)


def test_a_film_has_the_right_frame_at_each_stamp(
    films: Written, logs: list[EpisodeLog], double_pendulum: RobotConfig
) -> None:
    assert len(list(films.folder.glob("videos/*/*/*.mp4"))) == 1  # three episodes in one file
    for log, recording in zip(logs, lerobot.read(films.folder, double_pendulum.spec), strict=True):
        assert recording.log is not None and recording.findings == ()
        shown, true = recording.log["camera.front"], log["camera.front"]
        assert np.array_equal(shown.t_ns, true.t_ns)
        apart = np.abs(shown.values[:, :, :, 0].mean((1, 2))[:, None] - true.values[:, 0, 0, 0])
        assert (apart.argmin(1) == np.arange(len(true.t_ns))).all()  # of all pictures, each is most like its own


def test_it_says_what_lerobot_asks_for(films: Written) -> None:
    info = json.loads((films.folder / "meta/info.json").read_text())
    assert info["codebase_version"] == "v3.0" and info["splits"] == {"train": "0:3"} and info["total_frames"] == 75
    state = info["features"]["observation.state"]
    assert state["names"] == ["shoulder.pos", "elbow.pos", "shoulder.vel", "elbow.vel"] and state["dtype"] == "float32"
    assert state["info"] == {"units": ["rad", "rad", "rad/s", "rad/s"]}
    assert info["features"]["action"]["names"] == ["shoulder.torque", "elbow.torque"]
    index = pq.read_table(films.folder / "meta/episodes/chunk-000/file-000.parquet").to_pydict()
    assert index["dataset_from_index"] == [0, 20, 45] and index["dataset_to_index"] == [20, 45, 75]
    assert index["videos/observation.images.front/from_timestamp"] == [0.0, 20 / 30, 45 / 30]
    data = pq.read_table(films.folder / "data/chunk-000/file-000.parquet")
    assert data["timestamp"].to_numpy()[20] == 0.0 and data["index"].to_pylist() == list(range(75))
    assert pq.ParquetFile(films.folder / "data/chunk-000/file-000.parquet").num_row_groups == 3
    tasks = pq.read_table(films.folder / "meta/tasks.parquet")
    assert json.loads(tasks.schema.metadata[b"pandas"])["index_columns"] == ["task"]
    stats = json.loads((films.folder / "meta/stats.json").read_text())
    state_values = np.stack(data["observation.state"].to_pylist())
    assert stats["observation.state"]["mean"] == pytest.approx(state_values.mean(0), abs=1e-6)
    assert stats["observation.state"]["std"] == pytest.approx(state_values.std(0), abs=1e-6)
    assert stats["observation.state"]["max"] == pytest.approx(state_values.max(0)) and stats["action"]["count"] == [75]
    assert np.shape(stats["observation.images.front"]["mean"]) == (3, 1, 1)


def test_rows_between_frames_are_counted_and_a_pause_is_filled(double_pendulum: RobotConfig, tmp_path: Path) -> None:
    log = made.episode(double_pendulum.spec, rows=100, rate=100.0, jitter_ns=1)
    keep = np.r_[0:40, 60:100]  # the joints pause for 0.2 s
    channels = {n: type(c)(n, c.unit, c.components, c.t_ns[keep], c.values[keep]) for n, c in log.channels.items()
                if n in ("joint.position", "command.effort")}  # fmt: skip
    path = EpisodeLog("paused", log.robot, log.fingerprint, channels).save(tmp_path / "paused.mcap")
    told = write(tmp_path / "fast", [path], double_pendulum.spec)
    assert (told.fps, told.frames, told.lost_rows) == (100, 100, {})  # LeRobot's clock goes on in the pause
    (back,) = lerobot.read(tmp_path / "fast", double_pendulum.spec)
    assert back.log is not None and np.array_equal(back.log["joint.position"].t_ns, channels["joint.position"].t_ns)
    slow = write(tmp_path / "slow", [path], double_pendulum.spec, LeRobotConfig(fps=50))
    assert slow.lost_rows == {"joint.position": 38, "command.effort": 38}


def test_episodes_that_do_not_fit_together_are_refused_and_nothing_is_left(
    files: list[Path], double_pendulum: RobotConfig, tmp_path: Path
) -> None:
    log = made.episode(double_pendulum.spec, "blind")
    channels = {n: c for n, c in log.channels.items() if n != "camera.front"}
    blind = EpisodeLog("blind", log.robot, log.fingerprint, channels).save(tmp_path / "blind.mcap")
    with pytest.raises(DataRefused, match=r"'blind' has no camera.front"):
        write(tmp_path / "set", [files[0], blind], double_pendulum.spec)
    mute = {n: c for n, c in channels.items() if n != "command.effort"}
    EpisodeLog("mute", log.robot, log.fingerprint, mute).save(blind)
    with pytest.raises(DataRefused, match=r"blind.mcap: it has no command.effort"):
        write(tmp_path / "set", [files[0], blind], double_pendulum.spec)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["blind.mcap"]


def test_a_foreign_set_is_read_only_by_a_map_that_a_person_confirmed(
    double_pendulum: RobotConfig, tmp_path: Path
) -> None:
    spec = double_pendulum.spec
    root = made.lerobot_v21(tmp_path / "arm", spec.joint_names, [90, 80])
    assert whole_of(root / "data/chunk-000/episode_000001.parquet") == root
    reader = format_of(root)
    assert reader is not None
    (recording,) = reader.read(root, spec)
    assert (
        recording.log is None and recording.format == "LeRobotDataset v2.1 of robot type 'lab_arm', 2 episodes at 50 Hz"
    )
    (told,) = recording.findings
    assert told.kind == "unstated_unit" and "observation.state/shoulder.pos" in told.detail and told.blocking
    file = tmp_path / "columns.yaml"
    for text, message in (
        (recording.proposal, "confirmed is false"),
        (recording.proposal.replace("confirmed: false", "confirmed: true"), r"unit is '\?'.*rad, deg"),
    ):
        file.write_text(text)
        with pytest.raises(ValueError, match=message):
            Mapped.of(file)
    file.write_text(made.confirmed(recording.proposal, joint_position="deg", command_position="deg"))
    first, second = Mapped.of(file).read(root, spec)
    assert first.log is not None and second.log is not None and second.log.name == "arm-000001"
    true = made.motion(90, 2, 50)
    assert first.log["joint.position"].values == pytest.approx(true["q"], abs=1e-6)
    assert first.log["command.position"].values == pytest.approx(true["q"] + 0.01, abs=1e-6)
    assert np.array_equal(first.log["joint.position"].t_ns, np.arange(90) * 20_000_000)  # float32 would be 50 ns off
    assert first.log.meta["task"] == "wave"
    assert {"converted", "nominal_clock"} == {f.kind for f in first.findings}


def test_zeros_of_arms_that_were_calibrated_by_hand_are_not_the_models(
    double_pendulum: RobotConfig, tmp_path: Path
) -> None:
    root = made.lerobot_v21(tmp_path / "arm", double_pendulum.spec.joint_names, [40])
    made.changed(root / "meta/info.json", robot_type="so101_follower")
    (recording,) = lerobot.read(root, double_pendulum.spec)
    assert [f.kind for f in recording.findings] == ["unknown_zero", "unstated_unit"]
    made.changed(root / "meta/info.json", total_episodes=3)
    first, _ = lerobot.read(root, double_pendulum.spec)
    assert first.findings[0].kind == "incomplete" and "1 of the 3 episodes" in first.findings[0].detail


def test_a_set_of_ours_that_lerobots_tools_changed_states_its_units_still(
    copy: Path, logs: list[EpisodeLog], double_pendulum: RobotConfig, tmp_path: Path
) -> None:
    (copy / OWN).unlink()
    (recording,) = lerobot.read(copy, double_pendulum.spec)
    assert recording.log is None and recording.findings[0].kind == "unknown_layout"
    assert "stated by the file" in recording.proposal and '"?"' not in recording.proposal
    file = tmp_path / "columns.yaml"
    file.write_text(made.confirmed(recording.proposal))
    first, *_ = Mapped.of(file).read(copy, double_pendulum.spec)
    assert first.log is not None
    assert first.log["joint.position"].values == pytest.approx(logs[0]["joint.position"].values, abs=1e-6)
    assert first.log.meta["task"] == "swing up"
    shown = first.log["camera.front"].values[:, 0, 0, 0].astype(int)
    assert np.abs(shown - logs[0]["camera.front"].values[:, 0, 0, 0]).max() <= 8
    assert first.log["camera.front"].t_ns[3] == 100_000_000


def _outside(root: Path) -> None:
    made.changed(root / "meta/info.json", data_path="../../{chunk_index:03d}/{file_index:03d}.parquet")
    (root / OWN).unlink()


def _film_outside(root: Path) -> None:
    made.changed(root / "meta/info.json", video_path="/etc/{chunk_index}{file_index}")


def _no_film(root: Path) -> None:
    next(root.glob("videos/*/*/*.mp4")).write_bytes(b"#EXTM3U\n#EXTINF:1,\nfile:///etc/passwd\n")


def _short_film(root: Path) -> None:
    path = next(root.glob("videos/*/*/*.mp4"))
    path.write_bytes(path.read_bytes()[:-700])


def _other_size(root: Path) -> None:
    info = json.loads((root / "meta/info.json").read_text())
    info["features"]["observation.images.front"]["shape"] = [480, 640, 3]
    (root / "meta/info.json").write_text(json.dumps(info))


def _huge(root: Path) -> None:
    info = json.loads((root / "meta/info.json").read_text())
    info["features"]["observation.images.front"]["shape"] = [60_000, 60_000, 3]
    (root / "meta/info.json").write_text(json.dumps(info))


def _cut(root: Path) -> None:
    path = root / "data/chunk-000/file-000.parquet"
    path.write_bytes(path.read_bytes()[:-40])


def _missing(root: Path) -> None:
    (root / "data/chunk-000/file-000.parquet").unlink()


def _no_index(root: Path) -> None:
    shutil.rmtree(root / "meta/episodes")


def _longer(root: Path) -> None:
    path = root / "meta/episodes/chunk-000/file-000.parquet"
    table = pq.read_table(path)
    lengths = [n + 1 for n in table["length"].to_pylist()]
    pq.write_table(table.set_column(table.column_names.index("length"), "length", [lengths]), path)


def _info(text: str) -> object:
    return lambda root: (root / "meta/info.json").write_text(text)


@pytest.mark.parametrize(
    ("damage", "kind", "words"),
    [
        (_outside, "outside", "outside the data set's folder"),
        (_film_outside, "outside", "camera is left out"),
        (_no_film, "damaged_video", "cannot be decoded as MP4"),
        (_short_film, "damaged_video", "cannot be decoded|no frame at"),
        (_other_size, "damaged_video", "64 x 64, not 640 x 480"),
        (_huge, "too_large", "more than 2.0 GiB"),
        (_cut, "unreadable", "not a whole parquet file"),
        (_missing, "incomplete", "the file is missing"),
        (_no_index, "empty", "lists no episodes"),
        (_longer, "incomplete", "has 20 of its 21 frames"),
        (_info(""), "unreadable", "it is no JSON"),
        (_info("[" * 100_000), "unreadable", "it is no JSON"),
        (_info('{"codebase_version": "v1.6"}'), "unknown_format", "'v1.6' is not read; v3.0, v2.1, v2.0 are"),
        (_info('{"codebase_version": "v3.0", "fps": -1}'), "unreadable", "fps -1"),
    ],
)
def test_a_damaged_or_hostile_set_is_one_sentence(
    damage: object, kind: str, words: str, copy: Path, double_pendulum: RobotConfig
) -> None:
    damage(copy)  # type: ignore[operator]
    if damage is _longer:
        (copy / OWN).unlink()
    found = [f for r in lerobot.read(copy, double_pendulum.spec) for f in r.findings]
    assert kind in {f.kind for f in found}, found
    import re

    assert any(re.search(words, f.detail) and f.blocking for f in found), found


def test_numbers_without_their_film_are_accepted_by_name(
    copy: Path, double_pendulum: RobotConfig, tmp_path: Path
) -> None:
    _no_film(copy)
    work = Ingestion(spec=double_pendulum.spec, out=tmp_path / "data")
    with pytest.raises(DataRefused, match="damaged_video"):
        work.run([copy])
    kinds = {f.kind for j in work.judged for f in j.findings() if f.blocking}
    done = Ingestion(spec=double_pendulum.spec, out=tmp_path / "data", accept=sorted(kinds)).run([copy])
    assert [e.accepted for e in done] == [True] * 3 and [e.file for e in done] == [
        "run0.mcap",
        "run1.mcap",
        "run2.mcap",
    ]


def test_a_bomb_of_equal_rows_is_refused_by_its_footer(
    copy: Path, double_pendulum: RobotConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sources, "MEMORY", 4000)
    found = [f for r in lerobot.read(copy, double_pendulum.spec) for f in r.findings]
    assert found and {f.kind for f in found} == {"too_large"}


def test_a_set_of_another_robot_is_refused_by_name(copy: Path, pendulum: RobotConfig) -> None:
    (recording,) = lerobot.read(copy, pendulum.spec)
    assert recording.log is None and recording.findings[0].kind == "other_robot"
