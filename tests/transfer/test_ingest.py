"""Ingestion: what each kind of bad file does, and that what was ingested before stays whole."""

from __future__ import annotations

import gzip
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from robot import files
from robot.config import ConfigError
from robot.log import EpisodeLog
from robot.spec import RobotSpec
from sim.model import RobotConfig
from transfer.dataset import DataRefused, Episode, load_dataset, load_index
from transfer.ingest import Ingestion, ingest
from transfer.screening.signals import Noticed

HEADER = "time,pos_meas1,pos_meas2,vel_meas1,vel_meas2,tau_con1,tau_con2,tau_meas1,tau_meas2"
Simulate = Callable[..., EpisodeLog]


@pytest.fixture
def spec(double_pendulum: RobotConfig) -> RobotSpec:
    return double_pendulum.spec


def rows(n: int = 900, period_s: float = 0.002) -> list[str]:
    """Lines of a clean double-pendulum file."""
    t = np.arange(n) * period_s
    q = np.stack([0.5 * np.sin(3 * t), 0.3 * np.sin(5 * t)])
    v = np.stack([1.5 * np.cos(3 * t), 1.5 * np.cos(5 * t)])
    tau = np.stack([0.2 * np.sin(7 * t), 0.1 * np.cos(7 * t)])
    table = np.concatenate([t[None], q, v, tau, tau]).T
    return [HEADER, *(",".join(f"{x:.9e}" for x in row) for row in table)]


def write(path: Path, lines: list[str]) -> Path:
    path.write_bytes(gzip.compress(("\n".join(lines) + "\n").encode(), mtime=0))
    return path


def kinds(episode: Episode) -> set[str]:
    return {f.kind for f in episode.findings}


def refused(path: Path, spec: RobotSpec, out: Path) -> Episode:
    """Ingest one bad file; the refusal carries its episode."""
    with pytest.raises(DataRefused) as error:
        ingest([path], spec, out)
    assert path.name in str(error.value)
    assert not (out / "dataset.yaml").exists()
    return error.value.episodes[0]


def test_a_clean_file_becomes_channels_with_the_stamps_as_logged(spec: RobotSpec, tmp_path: Path) -> None:
    (episode,) = ingest([write(tmp_path / "a.csv.gz", rows())], spec, tmp_path / "set")
    assert episode.accepted and episode.findings == () and episode.seconds == pytest.approx(899 * 0.002)
    (log,) = load_dataset(tmp_path / "set", spec)
    assert log["joint.position"].components == ("shoulder", "elbow")
    assert log["command.effort"].values[3, 1] == pytest.approx(0.1 * np.cos(7 * 0.006), rel=1e-8)
    assert log["joint.position"].t_ns[3] == log["command.effort"].t_ns[3] == 6_000_000


def test_a_missing_column_is_named_and_blocks(spec: RobotSpec, tmp_path: Path) -> None:
    lines = [",".join(c for i, c in enumerate(line.split(",")) if i != 5) for line in rows()]
    episode = refused(write(tmp_path / "a.csv.gz", lines), spec, tmp_path / "set")
    (found,) = [f for f in episode.findings if f.kind == "missing_column"]
    assert found.channel == "command.effort" and "'tau_con1'" in found.detail and "tau_con2" in found.detail


def test_text_in_a_number_is_found_with_row_and_line_and_can_be_accepted(spec: RobotSpec, tmp_path: Path) -> None:
    lines = rows()
    cells = lines[41].split(",")
    lines[41] = ",".join([*cells[:2], "oops", *cells[3:]])
    path = write(tmp_path / "a.csv.gz", lines)
    found = refused(path, spec, tmp_path / "set").findings[0]
    assert (found.kind, found.channel, found.where) == ("text", "pos_meas2", "row 41 (line 42)")
    assert "'oops'" in found.detail
    (episode,) = ingest([path], spec, tmp_path / "set", accept=["text", "nan"])
    assert episode.accepted and kinds(episode) == {"text", "nan"}
    (log,) = load_dataset(tmp_path / "set", spec)
    assert len(log["joint.position"].t_ns) == 900 and np.isnan(log["joint.position"].values[40, 1])


def test_decreasing_time_is_found_where_it_happens(spec: RobotSpec, tmp_path: Path) -> None:
    lines = rows()
    lines[100], lines[101] = lines[101], lines[100]
    path = write(tmp_path / "a.csv.gz", lines)
    found = refused(path, spec, tmp_path / "set").findings[0]
    assert found.kind == "decreasing_time" and found.where.startswith("row 101 ")
    ingest([path], spec, tmp_path / "set", accept=["decreasing_time"])
    (log,) = load_dataset(tmp_path / "set", spec)
    assert (np.diff(log["joint.position"].t_ns) > 0).all() and len(log["joint.position"].t_ns) == 900


@pytest.mark.parametrize(
    "content",
    [b"", gzip.compress(b"", mtime=0), gzip.compress((HEADER + "\n").encode(), mtime=0)],
    ids=["nothing", "no text", "a header"],
)
def test_an_empty_file_is_refused(spec: RobotSpec, tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "a.csv.gz"
    path.write_bytes(content)
    assert kinds(refused(path, spec, tmp_path / "set")) == {"empty"}


def test_a_truncated_gz_is_refused_and_its_whole_rows_can_be_accepted(spec: RobotSpec, tmp_path: Path) -> None:
    path = write(tmp_path / "a.csv.gz", rows())
    path.write_bytes(path.read_bytes()[:-20000])
    assert kinds(refused(path, spec, tmp_path / "set")) >= {"truncated"}
    (episode,) = ingest([path], spec, tmp_path / "set", accept=["truncated"])
    (log,) = load_dataset(tmp_path / "set", spec)
    assert 100 < len(log["joint.position"].t_ns) < 900 and np.isfinite(log["joint.position"].values).all()
    assert episode.accepted


def test_a_file_that_is_no_gzip_is_refused(spec: RobotSpec, tmp_path: Path) -> None:
    path = tmp_path / "a.csv.gz"
    path.write_bytes(b"time,pos_meas1\n0,1\n")
    assert "unreadable" in kinds(refused(path, spec, tmp_path / "set"))


def test_nan_a_gap_a_repeated_stamp_and_a_stuck_joint_are_found(spec: RobotSpec, tmp_path: Path) -> None:
    def changed(name: str, change: Callable[[int, list[str]], list[str]]) -> Episode:
        lines = [HEADER, *(",".join(change(i, line.split(","))) for i, line in enumerate(rows()[1:]))]
        path = write(tmp_path / name, lines)
        try:
            return ingest([path], spec, tmp_path / name.split(".")[0])[0]
        except DataRefused as error:
            return error.episodes[0]

    nan = changed("nan.csv.gz", lambda i, c: [*c[:1], "nan", *c[2:]] if i == 7 else c)
    assert not nan.accepted and [(f.kind, f.where.split(" (")[0]) for f in nan.findings] == [("nan", "row 8")]
    repeated = changed("repeated.csv.gz", lambda i, c: [f"{(i - (i == 9)) * 0.002}", *c[1:]])
    assert repeated.accepted and kinds(repeated) == {"repeated_stamp"}
    stuck = changed("stuck.csv.gz", lambda i, c: [*c[:2], "0.25", *c[3:4], "0", *c[5:6], f"{i % 2}", *c[7:]])
    assert not stuck.accepted and kinds(stuck) == {"stuck"}


def test_degrees_and_a_mirrored_axis_are_found(spec: RobotSpec, tmp_path: Path) -> None:
    def scaled(name: str, factor: float) -> Episode:
        lines = [line.split(",") for line in rows()]
        for cells in lines[1:]:
            cells[4] = f"{factor * float(cells[4])}"
        return refused(write(tmp_path / name, [",".join(c) for c in lines]), spec, tmp_path / "set")

    for name, factor, kind in (("degrees.csv.gz", 57.3, "unit"), ("mirrored.csv.gz", -1.0, "sign")):
        (found,) = [f for f in scaled(name, factor).findings if f.kind == kind and f.channel == "joint.velocity"]
        assert found.blocking and "'elbow'" in found.detail


def test_one_bad_file_among_good_ones_is_recorded_not_dropped(spec: RobotSpec, tmp_path: Path) -> None:
    write(tmp_path / "a.csv.gz", rows())
    (tmp_path / "b.csv.gz").write_bytes(b"")
    episodes = ingest([tmp_path / "*.csv.gz"], spec, tmp_path / "set")
    assert [e.accepted for e in episodes] == [True, False]
    index = load_index(tmp_path / "set", spec)
    assert [Path(e.source).name for e in index.episodes] == ["a.csv.gz", "b.csv.gz"]
    assert len(load_dataset(tmp_path / "set", spec)) == 1


def test_a_failing_ingest_leaves_the_data_set_as_it_was(
    spec: RobotSpec, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "set"
    ingest([write(tmp_path / "a.csv.gz", rows())], spec, out)
    before = files.sha256(out)
    with pytest.raises(DataRefused):
        ingest([write(tmp_path / "bad.csv.gz", rows()[:1])], spec, out)
    assert files.sha256(out) == before

    real_save, count = EpisodeLog.save, [0]

    def full_disk(self: EpisodeLog, path: Path) -> Path:
        count[0] += 1
        if count[0] == 2:
            raise OSError(28, "No space left on device")
        return real_save(self, path)

    monkeypatch.setattr(EpisodeLog, "save", full_disk)
    with pytest.raises(OSError, match="No space"):
        ingest([write(tmp_path / f"{n}.csv.gz", rows(800 + n)) for n in (1, 2)], spec, out)
    assert files.sha256(out) == before


def test_a_second_ingest_adds_and_the_same_source_again_replaces(spec: RobotSpec, tmp_path: Path) -> None:
    out = tmp_path / "set"
    ingest([write(tmp_path / "a.csv.gz", rows())], spec, out)
    ingest([write(tmp_path / "b.csv.gz", rows(800))], spec, out)
    ingest([tmp_path / "a.csv.gz"], spec, out)
    assert sorted(Path(e.source).name for e in load_index(out, spec).episodes) == ["a.csv.gz", "b.csv.gz"]
    assert len(load_dataset(out, spec)) == 2 and len(list(out.glob("*.mcap"))) == 2


def test_two_sources_of_one_name_both_stay(spec: RobotSpec, tmp_path: Path) -> None:
    for folder, n in (("x", 900), ("y", 800)):
        (tmp_path / folder).mkdir()
        write(tmp_path / folder / "run.csv.gz", rows(n))
    ingest([tmp_path / "x", tmp_path / "y"], spec, tmp_path / "set")
    logs = load_dataset(tmp_path / "set", spec)
    assert sorted(len(log["joint.position"].t_ns) for log in logs) == [800, 900]
    assert len({log.name for log in logs}) == 2  # results are keyed by name


def test_a_misspelt_finding_and_a_glob_without_files_are_usage_errors(spec: RobotSpec, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="Did you mean 'decreasing_time'"):
        ingest([tmp_path], spec, tmp_path / "set", accept=["decreasing_tim"])
    with pytest.raises(ConfigError, match="matches no file") as error:
        ingest([tmp_path / "*.csv"], spec, tmp_path / "set")
    assert not isinstance(error.value, DataRefused)


def test_a_data_set_of_another_robot_is_refused_by_name(
    spec: RobotSpec, pendulum: RobotConfig, simulate: Simulate, tmp_path: Path
) -> None:
    ingest([write(tmp_path / "a.csv.gz", rows())], spec, tmp_path / "set")
    with pytest.raises(DataRefused, match=r"double_pendulum_c1.*simple_pendulum"):
        load_dataset(tmp_path / "set", pendulum.spec)
    path = simulate(pendulum, {}, seed=1, seconds=2.0).save(tmp_path / "b.mcap")
    with pytest.raises(DataRefused, match="simple_pendulum"):
        ingest([path], spec, tmp_path / "set")
    assert "other_robot" in kinds(refused(write(tmp_path / "c.csv.gz", rows()), pendulum.spec, tmp_path / "other"))


def test_a_folder_that_is_no_data_set_or_a_damaged_one_is_refused(spec: RobotSpec, tmp_path: Path) -> None:
    with pytest.raises(DataRefused, match=r"no dataset\.yaml"):
        load_dataset(tmp_path, spec)
    ingest([write(tmp_path / "a.csv.gz", rows())], spec, tmp_path / "set")
    (tmp_path / "set" / "a.mcap").unlink()
    with pytest.raises(DataRefused, match=r"a\.mcap"):
        load_dataset(tmp_path / "set", spec)


def test_our_own_recordings_come_back_and_a_torn_one_says_so(
    pendulum: RobotConfig, simulate: Simulate, tmp_path: Path
) -> None:
    log = simulate(pendulum, {}, seed=1, seconds=3.0)
    path = log.save(tmp_path / "run.mcap")
    (episode,) = ingest([path], pendulum.spec, tmp_path / "set")
    (again,) = load_dataset(tmp_path / "set", pendulum.spec)
    assert episode.accepted and np.array_equal(again["joint.position"].values, log["joint.position"].values)
    path.write_bytes(path.read_bytes()[:20])
    assert kinds(refused(path, pendulum.spec, tmp_path / "other")) == {"unreadable"}


def pendulum_file(path: Path, n: int, commanded_position: float | None = None) -> None:
    """A measured or a command file in the simple pendulum's layout; the command's clock is nominal."""
    t = np.arange(n) * 0.005 * (1.0 if commanded_position is not None else 1.01)
    q = np.full(n, commanded_position) if commanded_position is not None else 0.3 * np.sin(4 * t)
    v = np.zeros(n) if commanded_position is not None else 1.2 * np.cos(4 * t)
    tau = np.sin(np.arange(n)) if commanded_position is not None else 0.9 * np.sin(np.arange(n))
    lines = ["time,position,velocity,torque", *(",".join(f"{x:.9e}" for x in row) for row in zip(t, q, v, tau))]  # noqa: B905
    write(path, lines)


def test_the_command_file_is_the_input_and_the_measured_clock_is_the_clock(
    pendulum: RobotConfig, tmp_path: Path
) -> None:
    pendulum_file(tmp_path / "run.csv.gz", 400)
    pendulum_file(tmp_path / "run_command.csv.gz", 400, commanded_position=0.0)
    episodes = ingest([tmp_path], pendulum.spec, tmp_path / "set")
    assert len(episodes) == 1 and kinds(episodes[0]) == {"nominal_clock"}
    (log,) = load_dataset(tmp_path / "set", pendulum.spec)
    assert log["command.effort"].values[5, 0] == pytest.approx(np.sin(5.0), rel=1e-8)
    assert log["command.effort"].t_ns[5] == 25_250_000


def test_where_positions_were_commanded_the_measured_torque_is_the_input(pendulum: RobotConfig, tmp_path: Path) -> None:
    pendulum_file(tmp_path / "run.csv.gz", 400)
    pendulum_file(tmp_path / "run_command.csv.gz", 400, commanded_position=0.2)
    (episode,) = ingest([tmp_path / "run.csv.gz"], pendulum.spec, tmp_path / "set")
    assert episode.accepted and kinds(episode) == {"measured_input", "nominal_clock"}
    (log,) = load_dataset(tmp_path / "set", pendulum.spec)
    assert log["command.effort"].values[5, 0] == pytest.approx(0.9 * np.sin(5.0), rel=1e-8)


def test_a_command_without_its_measurement_and_the_reverse_are_found(pendulum: RobotConfig, tmp_path: Path) -> None:
    pendulum_file(tmp_path / "run.csv.gz", 400)
    assert kinds(refused(tmp_path / "run.csv.gz", pendulum.spec, tmp_path / "set")) == {"missing_command"}
    pendulum_file(tmp_path / "other_command.csv.gz", 400, commanded_position=0.0)
    assert kinds(refused(tmp_path / "other_command.csv.gz", pendulum.spec, tmp_path / "set")) == {"missing_measured"}


def test_the_real_recordings_pass(
    real_logs: Path, double_pendulum: RobotConfig, pendulum: RobotConfig, tmp_path: Path
) -> None:
    folder = real_logs / "double_pendulum" / "c1"
    episodes = ingest([folder / "sysid" / "14*.csv.gz"], double_pendulum.spec, tmp_path / "c1")
    assert len(episodes) == 6 and all(e.accepted and not e.findings for e in episodes)
    found = {
        Path(e.source).name.split(".")[0]: kinds(e)
        for e in ingest([real_logs / "simple_pendulum" / "*.csv.gz"], pendulum.spec, tmp_path / "pendulum")
    }
    assert found == {
        "energy_shaping": {"nominal_clock", "quantized"},
        "gravity_compensation": {"nominal_clock", "quantized", "over_limit"},
        "pd_swingup_sysid": {"nominal_clock", "quantized", "measured_input", "over_limit"},
    }


def test_what_a_repair_has_done_blocks_like_any_other_finding(
    spec: RobotSpec, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A repair that leaves nothing of an episode must not let the nothing pass."""

    def emptied(episode: EpisodeLog, *_: object) -> tuple[EpisodeLog, list[Noticed]]:
        gone = {n: replace(c, t_ns=c.t_ns[:0], values=c.values[:0]) for n, c in episode.channels.items()}
        return replace(episode, channels=gone), [Noticed("repaired", "", "", "resample: everything left out.")]

    monkeypatch.setattr("transfer.ingest.repair", emptied)
    with pytest.raises(DataRefused) as error:
        Ingestion(spec=spec, out=tmp_path / "out", repairs=["resample"]).run([write(tmp_path / "a.csv.gz", rows())])
    assert "empty" in kinds(error.value.episodes[0])
