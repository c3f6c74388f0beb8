"""Videos with labels: what is read, what is refused and why, and how errors are counted."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from robot.config import ConfigError
from transfer import filmed, video
from transfer.dataset import DataRefused
from transfer.video import Clip, Labels, angle_errors, change, crop_of, read_clip, read_labels, summary

cv2 = pytest.importorskip("cv2")
RATE = 25.0


@pytest.fixture(scope="module")
def film(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """60 frames of 96 x 64: grey, with a white square in the left third and, in frame i, a brightness that rises."""
    path = tmp_path_factory.mktemp("film") / "film.mp4"
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"mp4v"), RATE, (96, 64))
    for i in range(60):
        frame = np.full((64, 96, 3), (0, 60, 2 * i), np.uint8)  # blue, green, red
        frame[:, :10] = 255
        writer.write(frame)
    writer.release()
    return path


def write(path: Path, *rows: str, head: str = "frame,angle_rad") -> Path:
    path.write_text("\n".join([head, *rows]) + "\n")
    return path


def test_frames_come_with_their_stamps_cut_to_the_middle_and_in_rgb(film: Path) -> None:
    clip = read_clip(film, 32, 32)
    assert clip.images.shape == (60, 3, 32, 32) and clip.name == "film"
    np.testing.assert_allclose(clip.seconds, np.arange(60) / RATE, atol=1e-3)
    red, green, blue = clip.images[50].astype(float).mean(axis=(1, 2))
    assert abs(red - 100) < 8 and abs(green - 60) < 8 and blue < 12
    assert clip.images[50].max() < 130, "the white edge lies outside of the middle square"


def test_a_crop_takes_another_part_and_must_lie_inside(film: Path) -> None:
    left = read_clip(film, 8, 16, crop=(0, 0, 8, 16))
    assert left.images.min() > 200
    with pytest.raises(DataRefused, match=r"crop \[90, 0, 32, 32\] leaves the picture of 96 x 64"):
        read_clip(film, 32, 32, crop=(90, 0, 32, 32))
    with pytest.raises(ConfigError, match="column,row,width,height"):
        crop_of((1, 2, 3))


def test_what_is_no_video_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataRefused, match="no such file"):
        read_clip(tmp_path / "absent.mp4", 32, 32)
    broken = tmp_path / "broken.mp4"
    broken.write_bytes(b"not a film at all" * 50)
    with pytest.raises(DataRefused, match="reads no frame"):
        read_clip(broken, 32, 32)


def test_only_frames_that_move_once_are_scored(film: Path, tmp_path: Path) -> None:
    clip = read_clip(film, 32, 32)
    rows = [f"{i},{i / RATE:.4f},{0.1 * i},{int(i > 10)},{int(i == 30)}" for i in range(60)]
    labels = read_labels(write(tmp_path / "l.csv", *reversed(rows), head="frame,time_s,angle_rad,moving,dup"), clip)
    assert labels.frames.tolist() == list(range(60)), "in order of time, however the file is sorted"
    assert np.flatnonzero(labels.scored).tolist() == [i for i in range(11, 60) if i != 30]
    first, second = labels.halves()
    assert len(first) == len(second) == 24 and first.max() < second.min()
    few = read_labels(write(tmp_path / "few.csv", "7,0.5", "3,0.25"), clip)
    angles, scored = few.of(60)
    assert np.flatnonzero(scored).tolist() == [3, 7] and angles[7] == 0.5 and np.isnan(angles[5])


@pytest.mark.parametrize(
    ("rows", "head", "said"),
    [
        (["0,0.1"], "frame,angle", "column 'angle_rad' is missing"),
        ([], "frame,angle_rad", "no rows"),
        (["60,0.1"], "frame,angle_rad", "frame 60 is not in the video, whose frames are 0 to 59"),
        (["3,0.1", "3,0.2"], "frame,angle_rad", "frame 3 is labelled twice"),
        (["3,x"], "frame,angle_rad", "line 2: could not convert"),
        (["3,nan"], "frame,angle_rad", "line 2: frame 3 and angle_rad nan must be finite"),
        (["3,0.1,0.5"], "frame,angle_rad,time_s", r"frame 3 is at 0\.500 s there and at 0\.120 s in the video"),
    ],
)
def test_labels_of_something_else_are_refused_by_row(
    film: Path, tmp_path: Path, rows: list[str], head: str, said: str
) -> None:
    path = write(tmp_path / "l.csv", *rows, head=head)
    with pytest.raises(DataRefused, match=said):
        read_labels(path, read_clip(film, 32, 32))


def test_stamps_that_do_not_rise_give_way_to_the_frame_rate() -> None:
    np.testing.assert_allclose(video._seconds(Path("f"), np.zeros(4), 20.0), np.arange(4) / 20.0)
    with pytest.raises(DataRefused, match="neither rising time stamps nor a frame rate"):
        video._seconds(Path("f"), np.zeros(4), 0.0)


def test_errors_go_the_short_way_round() -> None:
    np.testing.assert_allclose(angle_errors(np.radians([179.0, -10.0]), np.radians([-179.0, 20.0])), [2.0, 30.0])


def test_intervals_know_that_neighbours_are_alike() -> None:
    """The same errors in an order in which neighbours agree are worth less than in random order."""
    rng = np.random.default_rng(0)
    seconds = np.arange(120) / 30.0
    slow = np.repeat(rng.exponential(3.0, 16), 8)[:120]
    widths = []
    for errors in (slow, rng.permutation(slow)):
        low, high = summary(errors, seconds, np.random.default_rng(1))["mean_deg"]["ci95"]
        widths.append(high - low)
    assert widths[0] > 1.5 * widths[1]


def test_statistics_over_runs_leave_out_what_a_run_is_not_judged_on() -> None:
    errors = np.tile(np.arange(40.0), (3, 1))
    errors[0, 20:] = np.nan
    found = summary(errors, np.arange(40) / 30.0, np.random.default_rng(0))
    assert found["median_deg"]["mean"] == pytest.approx((9.5 + 19.5 + 19.5) / 3)
    assert found["share_over_10_deg"]["mean"] == pytest.approx((9 / 20 + 2 * 29 / 40) / 3)
    better = change(errors - 1.0, errors, np.arange(40) / 30.0, np.random.default_rng(0))
    assert better["median_deg"]["mean"] == pytest.approx(-1.0)
    assert better["median_deg"]["ci95"] == pytest.approx([-1.0, -1.0])


def test_an_encoder_is_evaluated_on_a_film(film: Path, tmp_path: Path) -> None:
    import torch

    from policies.encoders.vision import VisionCard, VisionEncoder
    from transfer import cli

    torch.manual_seed(0)
    card = VisionCard(
        robot="simple_pendulum", fingerprint="x", cameras=("side",), height=32, width=32, channels=(4, 4, 4), points=2,
        features=4, states=("joint_cos/shoulder", "joint_sin/shoulder"), keypoints=("joint/shoulder", "body/pendulum"),
    )  # fmt: skip
    VisionEncoder(card).save(tmp_path / "encoder")
    labels = write(tmp_path / "l.csv", *(f"{i},{0.1 * i:.2f}" for i in range(0, 60, 2)))
    words = [f"encoder={tmp_path / 'encoder'}", f"video={film}", f"labels={labels}", f"out={tmp_path / 'run'}"]
    result = json.loads(cli.call("evaluate", words).read_text())
    assert {"median_deg", "mean_deg", "p90_deg", "share_over_10_deg", "max_deg"} == set(result["angle_error"])
    assert result["angle_error"]["median_deg"]["n"] == 30 and result["frames"] == 60
    table = (tmp_path / "run" / "frames.csv").read_text().splitlines()
    assert len(table) == 61 and table[1].split(",")[-1] != "" and table[2].split(",")[-1] == ""
    assert "<!doctype html>" in (tmp_path / "run" / "angles.html").read_text()[:200]
    with pytest.raises(DataRefused, match="video= is missing"):
        cli.call("evaluate", [words[0], f"out={tmp_path / 'run'}"])
    with pytest.raises(ConfigError, match="give the folder that"):
        filmed.one_camera(tmp_path)


def test_frames_told_by_nobody_leave_no_errors(tmp_path: Path) -> None:
    clip = Clip("c", np.zeros((5, 3, 8, 8), np.uint8), np.arange(5) / 30.0)
    seen = filmed.Seen(np.zeros(5), np.zeros((5, 2, 2)), np.zeros((5, 2)))
    assert "angle_error" not in filmed.told(seen, clip, None, tmp_path, 0)
    still = Labels(np.arange(5), np.zeros(5), np.zeros(5, bool))
    assert "angle_error" not in filmed.told(seen, clip, still, tmp_path, 0)
