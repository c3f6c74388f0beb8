"""Faults of a camera are found, named and placed, and a sound camera is left alone."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from robot import log
from robot.log import Channel, EpisodeLog, LogError
from sim.model import RobotConfig, find_robot
from transfer import screen_images
from transfer.dataset import DataRefused
from transfer.ingest import ingest
from transfer.screen import KINDS, screen

CAMERA = "camera.side"


@pytest.fixture(scope="module")
def robot() -> RobotConfig:
    return find_robot("simple_pendulum")


def episode(robot: RobotConfig, seed: int = 0, seconds: float = 3.0, side: int = 64) -> EpisodeLog:
    """A pendulum before a coloured wall, in another light each time, with a noisy camera of 50 pictures a second."""
    rng = np.random.default_rng(seed)
    t = np.arange(0, round(seconds * 1e9), 10_000_000, dtype=np.int64)
    angle = 1.2 * np.sin(2.0 * np.pi * 0.7 * t * 1e-9)
    rows, columns = np.mgrid[0:side, 0:side] / side
    wall = np.stack([0.3 + 0.5 * columns, 0.5 + 0 * rows, 0.8 - 0.6 * columns * rows], axis=-1) * rng.uniform(0.6, 1.1)
    images = []
    for q in angle[::2]:
        disc = np.hypot(columns - 0.5 - 0.35 * np.sin(q), rows - 0.5 - 0.35 * np.cos(q)) < 0.08
        picture = np.where(disc[..., None], 0.1, wall) + 0.01 * rng.standard_normal((side, side, 3))
        images.append((255 * np.clip(picture, 0, 1)).astype(np.uint8))
    joints = robot.spec.joint_names

    def numbers(name: str, unit: str, values: np.ndarray) -> Channel:
        return Channel(name, unit, joints, t, values[:, None])

    channels = [
        numbers("joint.position", "rad", angle),
        numbers("joint.velocity", "rad/s", np.gradient(angle, 0.01)),
        numbers("command.effort", "N m", 0.3 * np.cos(t * 1e-9)),
        Channel(CAMERA, "uint8", (), t[::2], np.stack(images)),
    ]
    spec = robot.spec
    return EpisodeLog(f"episode{seed}", spec.name, spec.fingerprint(), {c.name: c for c in channels})


def changed(whole: EpisodeLog, images: np.ndarray, t_ns: np.ndarray | None = None) -> EpisodeLog:
    camera = replace(whole[CAMERA], values=images, t_ns=whole[CAMERA].t_ns if t_ns is None else t_ns)
    return replace(whole, channels={**whole.channels, CAMERA: camera})


def kinds(found: EpisodeLog, robot: RobotConfig, reference: np.ndarray | None = None) -> dict[str, str]:
    references = {} if reference is None else {CAMERA: reference}
    return {f.kind: f"{f.where}: {f.detail}" for f in screen(found, robot.spec, references) if f.channel == CAMERA}


@pytest.fixture(scope="module")
def whole(robot: RobotConfig) -> EpisodeLog:
    return episode(robot)


def test_sound_pictures_give_no_finding(whole: EpisodeLog, robot: RobotConfig) -> None:
    reference = screen_images.reference_of([episode(robot, seed)[CAMERA] for seed in (1, 2)])
    assert kinds(whole, robot, reference) == {}


def test_lost_pictures_are_counted_and_the_longest_gap_is_placed(whole: EpisodeLog, robot: RobotConfig) -> None:
    kept = np.delete(np.arange(150), [30, 70, 71, 72, 73])
    found = kinds(changed(whole, whole[CAMERA].values[kept], whole[CAMERA].t_ns[kept]), robot)
    assert list(found) == ["missing_frames"]
    assert "about 5 of 150" in found["missing_frames"] and "100 ms" in found["missing_frames"]
    assert found["missing_frames"].startswith("picture 70 ")


def test_a_frozen_camera_is_told_from_a_robot_at_rest(whole: EpisodeLog, robot: RobotConfig) -> None:
    images = whole[CAMERA].values.copy()
    images[40:90] = images[40]
    frozen = changed(whole, images)
    assert KINDS["frozen_camera"][0] and "picture 41 " in kinds(frozen, robot)["frozen_camera"]
    at_rest = replace(frozen["joint.position"], values=np.zeros((300, 1)))
    assert kinds(replace(frozen, channels={**frozen.channels, "joint.position": at_rest}), robot) == {}


def test_a_repeated_picture_is_told_and_does_not_block(whole: EpisodeLog, robot: RobotConfig) -> None:
    images = whole[CAMERA].values.copy()
    images[60] = images[59]
    assert list(kinds(changed(whole, images), robot)) == ["repeated_image"]
    assert not KINDS["repeated_image"][0]


@pytest.mark.parametrize(("what", "says"), [("flat", "one colour"), ("half", "broken off"), ("noise", "noise")])
def test_corrupt_pictures(whole: EpisodeLog, robot: RobotConfig, what: str, says: str) -> None:
    images = whole[CAMERA].values.copy()
    rng = np.random.default_rng(0)
    damage = {
        "flat": np.full((64, 64, 3), 128),
        "half": np.concatenate([images[20, :40], np.full((24, 64, 3), 128)]),
        "noise": rng.integers(0, 255, (64, 64, 3)),
    }
    images[20] = damage[what]
    found = kinds(changed(whole, images), robot)
    assert list(found) == ["corrupt_image"]
    assert says in found["corrupt_image"] and found["corrupt_image"].startswith("picture 21 ")


def test_another_size_is_refused_with_both_sizes(robot: RobotConfig) -> None:
    found = kinds(episode(robot, side=48), robot)
    assert "48 x 48" in found["image_size"] and "64 x 64" in found["image_size"] and KINDS["image_size"][0]


def test_swapped_channels_show_against_other_episodes_in_another_light(whole: EpisodeLog, robot: RobotConfig) -> None:
    reference = screen_images.reference_of([episode(robot, seed)[CAMERA] for seed in (1, 2)])
    swapped = changed(whole, whole[CAMERA].values[..., ::-1])
    assert list(kinds(swapped, robot, reference)) == ["swapped_channels"]
    assert kinds(swapped, robot) == {}  # alone, nobody can know


def test_channels_that_swap_half_way_show_alone(whole: EpisodeLog, robot: RobotConfig) -> None:
    images = whole[CAMERA].values.copy()
    images[100:] = images[100:, ..., ::-1]
    assert kinds(changed(whole, images), robot)["swapped_channels"].startswith("picture 101 ")


def test_a_grey_scene_is_never_called_swapped(whole: EpisodeLog, robot: RobotConfig) -> None:
    grey = np.repeat(whole[CAMERA].values[..., :1], 3, axis=-1)
    reference = screen_images.reference_of([replace(whole[CAMERA], values=grey)])
    assert kinds(changed(whole, grey[..., ::-1]), robot, reference) == {}


def test_ingest_leaves_out_the_one_swapped_episode(whole: EpisodeLog, robot: RobotConfig, tmp_path: Path) -> None:
    logs = [whole, episode(robot, 1), episode(robot, 2)]
    logs[2] = changed(logs[2], logs[2][CAMERA].values[..., ::-1])
    paths = [e.save(tmp_path / f"{i}.mcap") for i, e in enumerate(logs)]
    first, second, third = ingest(paths, robot.spec, tmp_path / "set")
    assert first.accepted and second.accepted and not third.accepted
    assert [f.kind for f in third.findings if f.blocking] == ["swapped_channels"]
    with pytest.raises(DataRefused, match="swapped_channels"):  # alone, it is held against the data set that there is
        ingest([paths[2]], robot.spec, tmp_path / "set")
    assert ingest([paths[2]], robot.spec, tmp_path / "set", accept=["swapped_channels"])[0].accepted


def test_a_picture_that_cannot_be_decoded_costs_one_picture(
    whole: EpisodeLog, robot: RobotConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sound = log.encode
    image = whole[CAMERA].values[25]

    def broken(value: Any, t_ns: int = 0) -> bytes:
        data = sound(value, t_ns)
        return data[: len(data) // 2] if value is not None and np.array_equal(value, image) else data

    monkeypatch.setattr(log, "encode", broken)
    path = whole.save(tmp_path / "broken.mcap")
    monkeypatch.undo()
    back = log.load(path)
    assert len(back[CAMERA].t_ns) == 149 and len(back["joint.position"].t_ns) == 300
    assert "torn" not in back.meta
    found = kinds(back, robot)
    assert "1 picture(s) cannot be decoded" in found["damaged_image"] and "missing_frames" in found


def test_pictures_of_two_sizes_are_refused_by_name(whole: EpisodeLog, tmp_path: Path, robot: RobotConfig) -> None:
    from robot.recorder import Recorder

    recorder = Recorder(tmp_path / "two.mcap", "two", robot.spec)
    for i, side in enumerate((64, 32)):
        recorder.row(CAMERA, (), 1000 * i, np.zeros((side, side, 3), np.uint8))
    with pytest.raises(LogError):
        recorder.close()
    with pytest.raises(LogError, match=r"two\.mcap: channel 'camera.side': its pictures have different sizes"):
        log.load(tmp_path / "two.mcap")
