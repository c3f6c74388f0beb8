"""Simulated pictures for the vision encoder, and its stage: labels that fit, cameras that agree, runs that go on."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from policies.encoders.vision import VisionConfig, VisionEncoder
from robot.config import ConfigError, shipped
from sim import randomization
from sim.model import Model, find_robot
from transfer import cli
from transfer.images import free_bodies, own_geoms, simulated_images, vision_card

CONFIG = VisionConfig(width=48, height=48, images=24, samples=2, appearances=2, map_weight=0.1)
WORDS = [
    "encoder=vision",
    "robot=simple_pendulum",
    "quick=true",
    "encoder.width=32",
    "encoder.height=32",
    "encoder.processes=1",
]


def test_the_pendulums_angle_is_that_of_its_keypoints(tmp_path: Path) -> None:
    robot = find_robot("simple_pendulum")
    card = vision_card(robot, replace(CONFIG, appearances=1))
    assert card.keypoints == ("joint/shoulder", "body/pendulum")
    data = simulated_images(tmp_path, robot, None, card, replace(CONFIG, appearances=1), seed=1, workers=1)
    arm = data.keypoints[:, 1] - data.keypoints[:, 0]
    seen = np.arctan2(arm[:, 0], arm[:, 1])
    told = np.arctan2(data.state[:, 1], data.state[:, 0])
    assert np.abs((seen - told + np.pi) % (2.0 * np.pi) - np.pi).max() < 1e-3
    assert data.images.shape == (24, 1, 3, 48, 48) and data.maps is not None
    place = ((data.keypoints[:, 1] + 1.0) * 24.0).astype(int)
    inside = ((place >= 0) & (place < 48)).all(axis=1)
    on_disc = data.maps[np.flatnonzero(inside), 0, 0, place[inside, 1], place[inside, 0]]
    assert (on_disc == 255).all() and 0.005 < (data.maps[:, 0, 0] > 0).mean() < 0.2


def test_two_cameras_see_the_same_states_in_pairs(tmp_path: Path) -> None:
    robot = find_robot("so101")
    card, prior = vision_card(robot, CONFIG), randomization.load(shipped() / "dr" / "so101_appearance.yaml")
    assert card.cameras == ("wrist", "front") and "body_position/cube/z" in card.states
    counts: list[tuple[int, int]] = []
    data = simulated_images(
        tmp_path, robot, prior, card, CONFIG, seed=0, workers=1, report=lambda *done: counts.append(done)
    )
    assert data.images.shape == (24, 2, 3, 48, 48) and counts[-1] == (48, 48)
    assert data.keypoints.shape == (24, 2 * len(card.keypoints), 2)
    assert np.array_equal(data.state[::2], data.state[1::2]) and np.array_equal(data.group, np.arange(24) // 2)
    train, test = data.split(0.25, np.random.default_rng(0))
    assert not set(train.group) & set(test.group) and len(test) == 6
    limited = [i for i, name in enumerate(card.states) if name.startswith("joint_position/")]
    assert len(limited) == 6 and np.ptp(data.state[:, limited], axis=0).min() > 0.1


def test_what_stands_fast_or_lies_about_is_not_the_robot() -> None:
    model = Model(find_robot("so101"))
    from sim.synthesize import Job, Synthesizer

    job = Job(robot=model.robot, camera="front", n=1, width=32, height=32, renderer="ray")
    layout = Synthesizer(job).layout()
    own = own_geoms(layout, model)
    named = dict(zip(layout.geoms, own, strict=False))
    assert named["upper_arm"] and not named["table"] and not named["cube"] and not named["prop ball"] and not own[-1]
    assert list(free_bodies(model)) == ["cube"]


def test_the_stage_makes_an_encoder_of_the_hand_held_prior(tmp_path: Path) -> None:
    result = json.loads(cli.call("pretrain", [*WORDS, f"out={tmp_path}"]).read_text())
    encoder = VisionEncoder.load(Path(result["encoder"]))
    assert encoder.card.lineage["randomization"] == "simple_pendulum_handheld"
    assert set(result["probes"]) == {"state/joint_cos/shoulder", "state/joint_sin/shoulder"}
    assert not (tmp_path / "images").exists() and (tmp_path / "curve.jsonl").read_text().count("\n") == 10
    again = json.loads(cli.call("pretrain", [*WORDS, f"out={tmp_path / 'b'}", "resume=true"]).read_text())
    assert again["probes"] == result["probes"]


def test_an_encoder_of_no_kind_or_camera_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"no camera 'top'.*Known: side"):
        cli.call("pretrain", [*WORDS, "encoder.cameras=[top]", f"out={tmp_path}"])
    with pytest.raises(ConfigError, match=r"encoder.kind is 'visoin'.*vision"):
        cli.call("pretrain", [*WORDS, "encoder.kind=visoin", f"out={tmp_path}"])
    robot = find_robot("simple_pendulum")
    with pytest.raises(ConfigError, match="lists no camera"):
        vision_card(replace(robot, spec=replace(robot.spec, cameras=())), CONFIG)
