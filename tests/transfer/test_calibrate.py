"""A camera's lens and place come back from rendered chessboards, and go into the robot's file."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest

from robot import config
from robot.config import ConfigError
from robot.drivers.camera import Lens, load_lenses
from sim.model import Model, find_robot, load_robot
from transfer import cli
from transfer.calibrate_camera import FLIP, Board, Pose, as_targets, corners, fovy_deg, lens_of

BOARD = Board(columns=7, rows=6, square_m=0.04)
TRUTH = Lens(width=480, height=360, fx=430.0, fy=425.0, cx=244.0, cy=172.0, distortion=(0.0,) * 5)
TURN = {"pitch": 0.04, "yaw": -0.03, "roll": 0.05}
SHIFT = np.array([0.03, -0.02, 0.1])
PIXELS = 60
"""Of a square in the board's own picture."""


def turned(x: float, y: float, z: float) -> np.ndarray:
    rx, ry, rz = (cv2.Rodrigues(a * axis)[0] for a, axis in zip((x, y, z), np.eye(3), strict=True))
    return np.asarray(rx @ ry @ rz)


def drawn(camera: Pose, board: Pose) -> np.ndarray:
    """A picture of the board, through a pinhole; the camera looks along -z, y upwards."""
    squares = np.indices((BOARD.rows + 1, BOARD.columns + 1)).sum(axis=0) % 2
    sheet = np.kron(squares, np.ones((PIXELS, PIXELS))) * 230 + 10
    sheet = np.pad(sheet, PIXELS, constant_values=240).astype(np.uint8)
    # pixel of the sheet -> board [m]: the first inner corner is the origin
    scale, edge = BOARD.square_m / PIXELS, 2 * PIXELS - 0.5
    onto = np.array([[scale, 0.0, -scale * edge], [0.0, scale, -scale * edge], [0.0, 0.0, 1.0]])
    rotation = (camera.rotation @ FLIP).T
    planar = np.column_stack([*(rotation @ board.rotation)[:, :2].T, rotation @ (board.position - camera.position)])
    image = cv2.warpPerspective(
        sheet, TRUTH.matrix @ planar @ onto, (TRUTH.width, TRUTH.height), flags=cv2.INTER_AREA, borderValue=90
    )
    return cv2.GaussianBlur(image, (3, 3), 0.6)


def scene(seed: int, count: int) -> tuple[Pose, list[Pose]]:
    """The simple pendulum's camera, moved a little from its mount, and boards in front of it."""
    mount = Model(find_robot("simple_pendulum")).mj.camera("side")
    nominal = np.array([[1.0, 0.0, 0.0], [0.0, 0.0, -1.0], [0.0, 1.0, 0.0]])  # looks along +y, z upwards
    camera = Pose(mount.pos + nominal @ SHIFT, nominal @ turned(*TURN.values()))
    rng, boards = np.random.default_rng(seed), []
    for _ in range(count):
        # x to the right and y downwards in the picture, as the sheet is printed
        facing = camera.rotation @ FLIP @ turned(*rng.uniform(-0.5, 0.5, 3))
        middle = camera.position - camera.rotation @ [*rng.uniform(-0.06, 0.06, 2), rng.uniform(0.55, 0.7)]
        centre = BOARD.points.mean(axis=0)
        boards.append(Pose(middle - facing @ centre, facing))
    return camera, boards


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Pictures of ten boards, one of nothing, and the poses of four of them."""
    top = tmp_path_factory.mktemp("boards")
    (top / "pictures").mkdir()
    camera, boards = scene(0, 10)
    poses = {}
    for i, board in enumerate(boards):
        cv2.imwrite(str(top / "pictures" / f"{i}.png"), drawn(camera, board))
        if i < 4:
            trace = np.sqrt(1.0 + np.trace(board.rotation)) / 2.0
            r = board.rotation
            axis = np.array([r[2, 1] - r[1, 2], r[0, 2] - r[2, 0], r[1, 0] - r[0, 1]]) / (4.0 * trace)
            poses[f"{i}.png"] = {"position": board.position.tolist(), "quaternion": [float(trace), *axis.tolist()]}
    cv2.imwrite(str(top / "pictures" / "none.png"), np.full((360, 480), 90, np.uint8))
    config.save(top / "poses.yaml", poses)
    return top


def words(folder: Path, out: Path) -> list[str]:
    board = f"board={{columns: {BOARD.columns}, rows: {BOARD.rows}, square_m: {BOARD.square_m}}}"
    return ["robot=simple_pendulum", f"path={folder / 'pictures'}", board, f"out={out}"]


def test_lens_and_place_come_back_and_go_into_the_robots_file(folder: Path, tmp_path: Path) -> None:
    result = json.loads(cli.call("calibrate", [*words(folder, tmp_path), f"poses={folder / 'poses.yaml'}"]).read_text())
    assert (result["camera"], result["pictures"], result["used"]) == ("side", 11, 10)
    assert result["rms_px"] < 0.2
    lens = load_lenses(Path(result["lens"]))["side"]
    assert (lens.fx, lens.fy) == pytest.approx((TRUTH.fx, TRUTH.fy), rel=0.01)
    assert (lens.cx, lens.cy) == pytest.approx((TRUTH.cx, TRUTH.cy), abs=4.0)
    place = result["place"]
    assert [place[k] for k in "xyz"] == pytest.approx(SHIFT, abs=0.006)
    assert [place[k] for k in TURN] == pytest.approx(list(TURN.values()), abs=0.01)
    assert result["spread_m"] < 0.006 and result["spread_rad"] < 0.01
    robot = load_robot(Path(result["robot"]))
    assert robot.spec.cameras[0].fovy_deg == pytest.approx(fovy_deg(TRUTH), rel=0.01)
    assert robot.spec.fingerprint() != find_robot("simple_pendulum").spec.fingerprint()
    nominal = Model(robot).nominal("camera/side/pitch")
    assert nominal == pytest.approx(TURN["pitch"], abs=0.01)  # the simulator draws from there


def test_what_is_missing_is_named(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="robot 'simple_pendulum' has none"):
        cli.call("calibrate", [*words(folder, tmp_path), "camera=front"])
    (tmp_path / "none").mkdir()
    with pytest.raises(ConfigError, match="there is no picture in it"):
        cli.call("calibrate", [*words(folder, tmp_path), f"path={tmp_path / 'none'}"])
    config.save(tmp_path / "poses.yaml", {"none.png": {"position": [0.0, 0.0, 0.0]}})
    with pytest.raises(ConfigError, match=r"in none of its pictures \(none\.png, …\) a board was found"):
        cli.call("calibrate", [*words(folder, tmp_path), f"poses={tmp_path / 'poses.yaml'}"])


def test_a_board_has_one_way_up() -> None:
    """Hung upside down, its first corner is where it was on the board, and so at the other end of the picture."""
    camera, (board, *_) = scene(2, 1)
    at = corners(drawn(camera, board), BOARD)
    turned_at = corners(drawn(camera, board)[::-1, ::-1], BOARD)
    assert at is not None and turned_at is not None
    np.testing.assert_allclose(turned_at, [479.0, 359.0] - at, atol=0.3)
    with pytest.raises(ConfigError, match="look the same upside down"):
        Board(columns=7, rows=5, square_m=0.04)


def test_few_boards_tell_no_lens() -> None:
    camera, boards = scene(1, 2)
    found = [at for b in boards if (at := corners(drawn(camera, b), BOARD)) is not None]
    with pytest.raises(ConfigError, match="in view in 2 pictures; 5 are needed"):
        lens_of(found, BOARD, TRUTH.width, TRUTH.height)


def test_targets_turn_the_mount_into_the_place() -> None:
    mount = Pose(np.array([1.0, 2.0, 3.0]), turned(0.3, 0.2, 0.1))
    place = Pose(mount.position + mount.rotation @ SHIFT, mount.rotation @ turned(*TURN.values()))
    found = as_targets(place, mount, TRUTH)
    assert [found[k] for k in ("x", "y", "z", *TURN)] == pytest.approx([*SHIFT, *TURN.values()])
    assert found["principal_x"] == pytest.approx(4.0 / 480) and found["principal_y"] == pytest.approx(-8.0 / 360)
