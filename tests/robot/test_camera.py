"""Cameras beside a driver, on a synthetic video: time stamps, colours, the lens, and what happens when they fail."""

from __future__ import annotations

import dataclasses
import itertools
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest

from robot import cli, config
from robot.config import ConfigError
from robot.driver import Driver, DriverError
from robot.drivers.camera import Camera, Lens, Seeing, open_cameras
from robot.spec import CameraSpec, RobotSpec
from tests.robot.driver_conformance import DriverConformance
from tests.robot.fakes import FakeDriver

SIDE = CameraSpec(name="side", width=64, height=48)
RATE = 50.0


@pytest.fixture(scope="module")
def film(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A second of pictures that are red on the left; the brightness of the right half counts the frames."""
    return filmed(tmp_path_factory.mktemp("film") / "film.avi", RATE)


def filmed(path: Path, rate_hz: float) -> Path:
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"MJPG"), rate_hz, (64, 48))
    for k in range(50):
        picture = np.zeros((48, 64, 3), np.uint8)
        picture[:, :32, 2], picture[:, 32:] = 250, 5 * k  # blue, green, red
        writer.write(picture)
    writer.release()
    return path


class TestConformance(DriverConformance):
    """A driver with cameras is a driver like any other."""

    @pytest.fixture
    def spec(self, two_link: RobotSpec) -> RobotSpec:
        return dataclasses.replace(two_link, cameras=(SIDE,))

    @pytest.fixture
    def driver(self, spec: RobotSpec, tmp_path: Path) -> Iterator[Driver]:
        film = filmed(tmp_path / "long.avi", 1.0)
        made = Seeing(FakeDriver(spec), open_cameras(spec, f"side:{film}", None))
        yield made
        made.close()


def number(image: np.ndarray) -> int:
    return round(float(image[:, 40:].mean()) / 5.0)


def test_pictures_come_in_their_time_with_stamps_that_rise_and_colours_that_are_right(film: Path) -> None:
    camera, seen = Camera(SIDE, str(film)), []
    begin = time.monotonic_ns()
    while len(seen) < 5:
        t_ns, image = camera.newest
        if not seen or t_ns != seen[-1][0]:
            seen.append((t_ns, number(image)))
    camera.close()
    camera.close()
    assert image.shape == (48, 64, 3) and image.dtype == np.uint8
    assert image[:, :28, 0].min() > 200 and image[:, :28, 1:].max() < 50  # red
    stamps, numbers = zip(*seen, strict=True)
    assert all(a < b for a, b in itertools.pairwise(stamps)) and stamps[0] <= begin + 1e9
    assert all(a < b for a, b in itertools.pairwise(numbers))
    # a file is played at its own rate: the frame that was shown says how long it has run
    assert (stamps[-1] - stamps[0]) * 1e-9 > 0.7 * (numbers[-1] - numbers[0]) / RATE


def test_a_camera_that_ends_is_a_fault_and_never_an_old_picture(film: Path) -> None:
    camera = Camera(SIDE, str(film))
    end = time.monotonic() + 30.0
    with pytest.raises(DriverError, match="camera 'side': no further pictures come"):
        while time.monotonic() < end:
            camera.newest  # noqa: B018
            time.sleep(0.01)
    camera.close()


def test_a_frame_that_opencv_cannot_turn_is_a_fault_and_no_silent_end(
    film: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    camera = Camera(SIDE, str(filmed(film.with_name("slow.avi"), 5.0)))

    def refuses(*_: object) -> None:
        raise cv2.error("bad frame")

    monkeypatch.setattr(cv2, "cvtColor", refuses)
    end = time.monotonic() + 10.0
    with pytest.raises(DriverError, match="camera 'side': bad frame"):
        while time.monotonic() < end:
            camera.newest  # noqa: B018
            time.sleep(0.01)
    camera.close()


def test_doctor_looks_through_a_camera(film: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["doctor", f"camera={film}", f"out={tmp_path / 'a'}"]) == 0
    assert "64 x 48 at" in capsys.readouterr().out
    writer = cv2.VideoWriter(str(tmp_path / "dark.avi"), cv2.VideoWriter.fourcc(*"MJPG"), RATE, (64, 48))
    for _ in range(100):
        writer.write(np.zeros((48, 64, 3), np.uint8))
    writer.release()
    assert cli.main(["doctor", f"camera={tmp_path / 'dark.avi'}", f"out={tmp_path / 'b'}"]) == 5
    assert "the same picture" in capsys.readouterr().out
    assert cli.main(["doctor", "camera=/dev/video77", f"out={tmp_path / 'c'}"]) == 5
    out = capsys.readouterr().out
    assert "cannot be opened" in out and "usermod -aG video" in out


def test_the_lens_takes_the_distortion_out(film: Path) -> None:
    plain = Lens(width=64, height=48, fx=60.0, fy=60.0, cx=31.5, cy=23.5, distortion=(0.0,) * 5)
    bent = dataclasses.replace(plain, distortion=(0.0, 0.0, 0.0, 0.3, 0.0))
    edges = {}
    for name, lens in {"plain": plain, "bent": bent}.items():
        camera = Camera(SIDE, str(film), lens)
        edges[name] = (camera.newest[1][:, :, 0] > 125).sum(axis=1)
        camera.close()
    assert np.ptp(edges["plain"][4:-4]) <= 1
    assert np.ptp(edges["bent"][4:-4]) >= 2  # a straight edge of such a lens's picture is bent in the world
    with pytest.raises(DriverError, match="pictures are 64 x 48; it was calibrated at 640 x 480"):
        Camera(SIDE, str(film), dataclasses.replace(plain, width=640, height=480))


def test_a_driver_with_cameras_gives_readings_with_pictures(film: Path, two_link: RobotSpec, tmp_path: Path) -> None:
    spec = dataclasses.replace(two_link, cameras=(SIDE,))
    lens = Lens(width=64, height=48, fx=60.0, fy=60.0, cx=31.5, cy=23.5, distortion=(0.0,) * 5)
    config.save(tmp_path / "lens.yaml", {"side": config.to_plain(lens)})
    driver = Seeing(FakeDriver(spec), open_cameras(spec, f"side:{film}", tmp_path / "lens.yaml"))
    sample = driver.read(0.1)
    t_ns, image = sample.images["side"]
    assert image.shape == (48, 64, 3) and 0 < t_ns <= time.monotonic_ns()
    assert sample.joints.names == spec.joint_names
    driver.stop("done")
    driver.close()


@pytest.mark.parametrize(
    ("video", "kind", "words"),
    [
        ("side", ConfigError, "'side' is not CAMERA:SOURCE"),
        ("wrist:0", ConfigError, "has no camera 'wrist'. "),
        ("side:/nowhere.avi", DriverError, "/nowhere.avi cannot be opened"),
    ],
)
def test_sources_that_are_wrong_are_named(video: str, kind: type[Exception], words: str, two_link: RobotSpec) -> None:
    with pytest.raises(kind, match=words):
        open_cameras(dataclasses.replace(two_link, cameras=(SIDE,)), video, None)


def test_without_opencv_the_error_says_what_to_install(
    film: Path, two_link: RobotSpec, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "cv2", None)
    with pytest.raises(ConfigError, match=r"pip install 'terrafirma\[camera\]'"):
        open_cameras(dataclasses.replace(two_link, cameras=(SIDE,)), f"side:{film}", None)


def test_a_simulated_clock_and_a_camera_do_not_go_together(film: Path, tmp_path: Path) -> None:
    words = ["robot=simple_pendulum", "driver=sim", "excitation=chirp", "seconds=2", f"video=side:{film}"]
    with pytest.raises(ConfigError, match="driver 'sim' has a clock of its own"):
        cli.call("record", [*words, f"out={tmp_path}"])
