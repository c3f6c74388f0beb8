"""Calibrate a camera of a robot with a chessboard:

    terrafirma calibrate robot=so101 camera=front path=pictures board='{columns: 9, rows: 6, square_m: 0.025}'
    terrafirma calibrate robot=arm.yaml camera=wrist path=board.mp4 board='{square_m: 0.03}' poses=poses.yaml

Reads   pictures of the board (a folder, or a video), from several sides and distances; and, for the camera's place, at
        which poses the board stood in some of them: `NAME: {position: [x, y, z], quaternion: [w, x, y, z]}` [m], in the
        frame of the body that carries the camera (for a camera that stands still: the world). NAME is a picture's file
        name, or a frame's number.
Writes  lens.yaml, which `run` and `record` take as lens=FILE; robot.yaml, the robot with the camera's field of view
        and, with poses=, its place; and result.json.
Costs   a tenth of a second a picture.
A robot.yaml with another field of view has another fingerprint: it is another robot to policies of before.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import mujoco
import numpy as np

from robot import config
from robot.config import ConfigError, nearest
from robot.result import Run
from sim.model import Model, RobotConfig
from transfer.choices import existing
from transfer.cli import Common

VOLATILE = ("lens", "robot")


@dataclass(frozen=True, kw_only=True)
class Config(Common):
    robot: RobotConfig
    camera: str | None = None
    """Default: the first that the robot lists."""
    path: Path | None = None
    """Folder of pictures, or a video."""
    board: dict[str, Any] = field(default_factory=dict)
    """Fields of transfer.calibrate_camera.Board: square_m, columns, rows."""
    poses: Path | None = None
    """YAML file of the board's known poses."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Known:
    """A row of poses.yaml."""

    position: tuple[float, float, float]
    quaternion: tuple[float, float, float, float] = (1.0, 0.0, 0.0, 0.0)


def run(cfg: Config, run: Run) -> dict[str, Any]:
    from transfer import calibrate_camera as calibration

    board = config.convert(calibration.Board, cfg.board, "terrafirma calibrate", "board")
    name = _camera(cfg)
    taken = calibration.pictures(run.input(existing(cfg.path, "path", "record")))
    height, width = taken[0][1].shape[:2]
    if any(image.shape[:2] != (height, width) for _, image in taken):
        raise ConfigError(f"path={cfg.path}: the pictures are of several sizes; one camera takes them in one.")
    seen = {picture: at for picture, image in taken if (at := calibration.corners(image, board)) is not None}
    lens, error = calibration.lens_of(list(seen.values()), board, width, height)
    keys: dict[str, Any] = {"camera": name, "pictures": len(taken), "used": len(seen), "rms_px": error}
    keys["fovy_deg"] = calibration.fovy_deg(lens)
    model = dict(cfg.robot.model.parameters)
    if cfg.poses is not None:
        known = _known(run.input(existing(cfg.poses, "poses", "calibrate --help")), seen)
        boards = [_pose(k.position, k.quaternion) for k in known.values()]
        place, spread_m, spread_rad = calibration.place_of([seen[p] for p in known], boards, board, lens)
        camera = Model(cfg.robot).mj.camera(name)
        found = calibration.as_targets(place, _pose(camera.pos, camera.quat), lens)
        model |= {f"camera/{name}/{what}": value for what, value in found.items()}
        keys |= {"place": found, "spread_m": spread_m, "spread_rad": spread_rad}
    cameras = [replace(c, fovy_deg=keys["fovy_deg"]) if c.name == name else c for c in cfg.robot.spec.cameras]
    spec = replace(cfg.robot.spec, cameras=tuple(cameras))
    made = RobotConfig(spec=spec, model=replace(cfg.robot.model, parameters=model))
    config.save(run.out / "lens.yaml", {name: config.to_plain(lens)})
    config.save(run.out / "robot.yaml", made)
    return keys | {"lens": str(run.out / "lens.yaml"), "robot": str(run.out / "robot.yaml")}


def _camera(cfg: Config) -> str:
    known = [c.name for c in cfg.robot.spec.cameras]
    if not known:
        raise ConfigError(f"robot '{cfg.robot.spec.name}' has no camera; list it in the robot's YAML first.")
    if cfg.camera is not None and cfg.camera not in known:
        raise ConfigError(f"camera={cfg.camera}: robot '{cfg.robot.spec.name}' has none. {nearest(cfg.camera, known)}")
    return cfg.camera or known[0]


def _known(path: Path, seen: Mapping[str, Any]) -> dict[str, Known]:
    """The poses of boards that were found, by picture; ConfigError when there is none."""
    data = config.load_yaml(path)
    if not isinstance(data, Mapping):
        raise ConfigError(f"poses={path}: it has no poses; a row is `PICTURE: {{position: [x, y, z]}}`.")
    rows = {str(k): config.convert(Known, v, str(path), str(k)) for k, v in data.items()}
    found = {name: row for name, row in rows.items() if name in seen}
    if not found:
        raise ConfigError(f"poses={path}: in none of its pictures ({', '.join(list(rows)[:3])}, …) a board was found.")
    return found


def _pose(position: Any, quaternion: Any) -> Any:
    from transfer.calibrate_camera import Pose

    turn = np.zeros(9)
    length = float(np.linalg.norm(quaternion))
    if not length > 0.0:
        raise ConfigError("poses: a quaternion is all 0; w, x, y, z of the board's orientation are needed.")
    mujoco.mju_quat2Mat(turn, np.asarray(quaternion, dtype=np.float64) / length)
    return Pose(np.asarray(position, dtype=np.float64), turn.reshape(3, 3))
