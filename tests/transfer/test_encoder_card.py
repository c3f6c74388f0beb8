"""Cards of encoders: measured on a small encoder of each kind, written, and read as a person would."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from policies.encoders import signatures
from policies.encoders.heads import Heads
from policies.encoders.physics import EncoderCard, EncoderConfig, PhysicsEncoder
from policies.encoders.pretrain import pretrain
from policies.encoders.vision import VisionConfig, VisionEncoder
from policies.encoders.vision_data import ImageData
from policies.encoders.windows import WindowData
from robot.log import EpisodeLog, LogError
from robot.observation import Observation
from sim.model import RobotConfig
from sim.randomization import NOMINAL, Randomization, Term, Uniform
from sim.tasks import Task, load_task
from transfer import examine_novelty, examine_physics, examine_vision, novelty
from transfer.images import simulated_images, vision_card
from transfer.report import encoder_card
from transfer.windows import simulated_windows

Simulate = Callable[..., EpisodeLog]
WIDE = Randomization(
    name="wide",
    terms=(
        Term(targets=("body/pendulum/com",), how="scale", law=Uniform(low=0.4, high=1.6)),
        Term(targets=("actuator/shoulder/gain",), law=Uniform(low=0.5, high=1.5)),
    ),
)
LOOKS = Randomization(
    name="looks",
    terms=(
        Term(targets=("camera/side/exposure",), law=Uniform(low=-0.3, high=0.3)),
        Term(targets=("geom/rod/red", "geom/rod/green"), law=Uniform(low=0.2, high=1.0)),
    ),
)


@dataclass
class Examined:
    """An encoder's folder with its card, and what it was made of."""

    folder: Path
    card: dict[str, Any]
    page: str
    """Without its scripts."""
    data: Any


def made(folder: Path, measured: dict[str, Any], data: Any) -> Examined:
    page = encoder_card.write(folder, measured)
    body = re.sub(r"<script[^>]*>.*?</script>", "", page.read_text(), flags=re.DOTALL)
    return Examined(folder, json.loads((folder / encoder_card.JSON).read_text()), body, data)


@pytest.fixture(scope="module")
def task() -> Task:
    return load_task("pendulum_swingup")


@pytest.fixture(scope="module")
def size() -> EncoderConfig:
    return replace(
        EncoderConfig(), history=48, horizon=16, hidden=(32, 32), predictor=(32,), simulations=96, seconds=1.5,
        windows=16, grounding=80, updates=80, batch=128, learning_rate=3e-3,
    )  # fmt: skip


def examined_physics(folder: Path, pendulum: RobotConfig, task: Task, size: EncoderConfig, data: WindowData) -> Any:
    subject = examine_physics.Subject(task, pendulum, WIDE)
    return examine_physics.examine(
        folder, data, subject, held_out=size.held_out, seed=0, budget="quick"
    )  # fmt: skip


@pytest.fixture(scope="module")
def physics(
    pendulum: RobotConfig, task: Task, size: EncoderConfig, tmp_path_factory: pytest.TempPathFactory
) -> Examined:
    torch.set_num_threads(1)
    folder = tmp_path_factory.mktemp("physics")
    data = simulated_windows(task, pendulum, WIDE, size, seed=1, nthread=1)
    layout = Observation(pendulum.spec, replace(task.observation, history=size.history), task.action)
    pretrain(data, EncoderCard.of(layout, size, task.control_period_s), size, folder, seed=0)
    return made(folder, examined_physics(folder, pendulum, task, size, data), data)


@pytest.fixture(scope="module")
def vision(pendulum: RobotConfig, tmp_path_factory: pytest.TempPathFactory) -> Examined:
    torch.set_num_threads(1)
    folder, config = tmp_path_factory.mktemp("vision"), replace(VisionConfig(), images=160, samples=1, held_out=0.25)
    card = vision_card(pendulum, config)
    data = simulated_images(folder / "images", pendulum, LOOKS, card, config, seed=1, workers=1)
    torch.manual_seed(0)
    VisionEncoder(card).save(folder)  # untrained: what is tested is the measuring
    subject = examine_vision.Subject(pendulum, LOOKS, config)
    return made(folder, examine_vision.examine(folder, data, subject, seed=0, budget="quick"), data)


def test_the_physics_card_tells_what_is_known_beside_its_baselines(physics: Examined) -> None:
    com = physics.card["readout"]["body/pendulum/com"]
    assert set(com) == {"encoder", "raw", "random", "scratch"}
    assert com["encoder"]["mean"] > com["raw"]["mean"] + 0.2
    low, high = com["encoder"]["ci95"]
    assert low < com["encoder"]["mean"] < high and com["encoder"]["n"] == 14
    assert {"state/cos/shoulder", "state/velocity/shoulder"} <= set(physics.card["readout"])
    assert not any("previous_action" in name for name in physics.card["readout"])
    coverage = physics.card["calibration"]["body/pendulum/com"]["coverage"]
    assert set(coverage) == {"0.5", "0.8", "0.95"} and coverage["0.5"]["mean"] <= coverage["0.95"]["mean"]


def test_the_most_harmful_term_is_the_one_that_moves_most(physics: Examined) -> None:
    found = physics.card["robustness"]["without_context"]
    assert found["terms"][0]["term"] == "body/pendulum/com"
    assert found["terms"][0]["low"]["mean"] > found["nominal"]["mean"]


def test_integrated_gradients_are_complete_and_cover_the_window(physics: Examined) -> None:
    found = physics.card["attribution"]
    assert found["channels"][-1] == "action/shoulder" and max(found["gap"]) < 0.1
    assert np.sum(found["by_channel"], axis=1) == pytest.approx(1.0) == pytest.approx(np.sum(found["by_age"], axis=1))
    assert np.shape(found["by_age"])[1] == 48 and 0.0 < max(found["half_within_s"]) <= 0.48


def test_a_noisy_robot_is_strange_and_a_simulated_one_is_not(
    physics: Examined, pendulum: RobotConfig, task: Task, size: EncoderConfig
) -> None:
    """As a user asks: windows of a robot in, a verdict out."""
    encoder = PhysicsEncoder.load(physics.folder)
    heads = Heads.load(physics.folder, encoder.card)
    fresh = simulated_windows(task, pendulum, WIDE, replace(size, simulations=24), seed=7, nthread=1)
    usual = signatures.judge_windows(physics.folder, encoder, heads, fresh)
    assert usual["windows"]["strange_share"] < 0.1
    noisy = examine_novelty.faults(fresh, len(encoder.card.components), np.random.default_rng(0))
    found = signatures.judge_windows(physics.folder, encoder, heads, noisy["noise of 20 % on every sensor"])
    assert found["windows"]["strange_share"] > 0.4 and not found["recordings"]["verdict"].startswith("inside")


def test_recordings_are_judged_as_they_come(
    physics: Examined, pendulum: RobotConfig, task: Task, simulate: Simulate
) -> None:
    def recorded(seed: int, seconds: float) -> EpisodeLog:
        log = simulate(pendulum, {}, seed, seconds=seconds)
        position = log["joint.position"]
        speed = replace(
            position, name="joint.velocity", unit="rad/s", values=np.gradient(position.values, 0.01, axis=0)
        )
        return replace(log, channels={**log.channels, "joint.velocity": speed})

    logs = [recorded(seed, 3.0) for seed in (1, 2)]
    found = novelty.of_logs(physics.folder, logs, task, pendulum)
    assert found["windows"]["n"] == 2 * novelty.WINDOWS and 0.0 <= found["windows"]["strange_share"] <= 1.0
    assert found["recordings"]["n"] == 2 * novelty.WINDOWS // signatures.RECORDING
    with pytest.raises(LogError, match="none of 1 recordings is long enough"):
        novelty.of_logs(physics.folder, [recorded(1, 0.1)], task, pendulum)


def test_an_encoder_of_one_robot_only_has_a_card_too(
    pendulum: RobotConfig, task: Task, size: EncoderConfig, tmp_path: Path
) -> None:
    """Without a prior there is nothing to read, to calibrate or to be robust against."""
    few = replace(size, simulations=24, grounding=0, updates=2)
    data = simulated_windows(task, pendulum, NOMINAL, few, seed=1, nthread=1)
    layout = Observation(pendulum.spec, replace(task.observation, history=size.history), task.action)
    pretrain(data, EncoderCard.of(layout, few, task.control_period_s), few, tmp_path, seed=0)
    subject = examine_physics.Subject(task, pendulum, NOMINAL)
    measured = examine_physics.examine(tmp_path, data, subject, held_out=0.3, seed=0, budget="quick")
    found = made(tmp_path, measured, data)
    assert (
        found.card["calibration"] == {} == found.card["attribution"] and "state/cos/shoulder" in found.card["readout"]
    )
    assert "Robustness" not in found.page and "Does it notice" in found.page


def test_faults_change_what_they_say_and_leave_padding_alone(physics: Examined) -> None:
    data: WindowData = physics.data
    width = data.observation.shape[1]
    found = examine_novelty.faults(data, width, np.random.default_rng(0))
    for name, broken in found.items():
        padding = data.mask == 0.0
        assert np.abs(broken.history[padding]).max(initial=0.0) == 0.0, name
        assert not np.array_equal(broken.history, data.history), name
    reversed_ = found["actuators reversed"]
    assert np.array_equal(reversed_.history[..., width:], -data.history[..., width:])
    assert np.array_equal(reversed_.history[..., :width], data.history[..., :width])


def test_the_same_encoder_gives_the_same_card(
    physics: Examined, pendulum: RobotConfig, task: Task, size: EncoderConfig
) -> None:
    again = made(physics.folder, examined_physics(physics.folder, pendulum, task, size, physics.data), physics.data)
    assert again.card == physics.card and again.page == physics.page


@pytest.mark.parametrize("kind", ["physics", "vision"])
def test_the_page_opens_offline_and_shows_what_was_measured(kind: str, request: pytest.FixtureRequest) -> None:
    found: Examined = request.getfixturevalue(kind)
    assert not re.findall(r"(?:src|href)=['\"](?!data:)", found.page)
    headings = re.findall(r"<h2>(.*?)</h2>", found.page)
    assert headings[:5] == [
        "In short", "What can be linearly read", "Does it know how sure it is?", "Robustness, term by term",
        "Does it notice what it has not seen?",
    ]  # fmt: skip
    for name in (
        *found.card["readout"],
        *(row["term"] for row in found.card["robustness"]["keypoint" if kind == "vision" else "prediction"]["terms"]),
    ):
        assert f"<td>{name}</td>" in found.page
    assert f"The {kind} encoder of simple_pendulum" in found.page and "nan" not in re.findall(
        r"<td>(.*?)</td>", found.page
    )


def test_a_vision_card_shows_pictures(vision: Examined) -> None:
    assert [p["file"] for p in vision.card["pictures"]] == ["occlusion.png", "neighbours.png"]
    assert vision.page.count("<img alt='") == 2
    assert set(vision.card["readout"]) == {"joint_cos/shoulder", "joint_sin/shoulder"}
    assert vision.card["readout"]["joint_cos/shoulder"]["raw"]["mean"] < 1.0
    assert {row["term"] for row in vision.card["robustness"]["joint"]["terms"]} == {
        "camera/side/exposure", "geom/rod/red and 1 more",
    }  # fmt: skip
    assert any(name == "fault: static" for name in vision.card["novelty"]["auroc"])


def test_static_is_no_picture_of_a_robot(vision: Examined) -> None:
    encoder, data = VisionEncoder.load(vision.folder), vision.data
    usual = signatures.judge_images(vision.folder, encoder, data.images[:60])
    assert usual["strange_share"] < 0.3
    static = np.random.default_rng(0).integers(0, 256, (20, *data.images.shape[1:]), dtype=np.uint8)
    found = novelty.of_pictures(vision.folder, static[:, 0])
    assert found == signatures.judge_images(vision.folder, encoder, static)
    assert found["strange_share"] == 1.0 and found["verdict"].startswith("outside")


def test_a_pictures_nearest_neighbour_is_itself(vision: Examined) -> None:
    data: ImageData = vision.data
    near = examine_vision.nearest(VisionEncoder.load(vision.folder), data, data.images[3:8], count=3)
    assert near.shape == (5, 3) and near[:, 0].tolist() == [3, 4, 5, 6, 7]


def test_regions_that_matter_have_the_pictures_size(vision: Examined) -> None:
    maps = examine_vision.region_maps(VisionEncoder.load(vision.folder), vision.data.images[:2])
    assert maps.shape == (2, 1, *vision.data.images.shape[-2:]) and maps.min() >= 0.0 and maps.max() == 1.0
