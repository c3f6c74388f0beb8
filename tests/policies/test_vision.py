"""The vision encoder: geometry of its outputs, what it learns, what it refuses, and that it goes on where it was."""

from __future__ import annotations

import threading
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch

from policies import tensors
from policies.encoders import vision_pretrain
from policies.encoders.augment import random_shift, strong
from policies.encoders.eye import agreed, directions
from policies.encoders.together import Team
from policies.encoders.vision import (
    Seen,
    VisionCard,
    VisionConfig,
    VisionEncoder,
    image_angle,
    joint_angles,
    state_names,
)
from policies.encoders.vision_data import ImageData
from policies.encoders.vision_pretrain import CHECKPOINT, VisionResult, disagreement, pretrain_vision
from policies.encoders.vision_probes import errors
from policies.progress import Progress
from robot import config
from robot.config import ConfigError
from robot.spec import JointSpec
from sim.model import RobotConfig

SIDE = 32
CONFIG = VisionConfig(
    channels=(8, 16, 32), points=4, features=16, images=768, updates=160, processes=1, batch=32, shift=2, held_out=0.15
)


def drawn(n: int, seed: int = 0, pairs: bool = False) -> ImageData:
    """Pendulums of two dots on a line, light on dark or dark on light, at random places."""
    rng = np.random.default_rng(seed)
    angle = rng.uniform(-np.pi, np.pi, n)
    if pairs:
        angle[1::2] = angle[::2]
    hub = rng.uniform(-0.15, 0.15, (n, 2))
    disc = hub + 0.6 * np.stack([np.sin(angle), np.cos(angle)], axis=1)
    y, x = (2.0 * np.mgrid[:SIDE, :SIDE] + 1.0) / SIDE - 1.0
    shares = np.linspace(0.0, 1.0, 12)[None, :, None] * (disc - hub)[:, None] + hub[:, None]
    places = np.concatenate([shares, np.repeat(disc[:, None], 1, axis=1)], axis=1)
    size = np.array([*[0.05] * 12, 0.14])
    away = np.hypot(x[None, None] - places[..., 0, None, None], y[None, None] - places[..., 1, None, None])
    mask = (1.0 / (1.0 + np.exp((away - size[:, None, None]) * 40.0))).max(axis=1)
    tone, behind = rng.uniform(0.7, 1.0, (n, 3)), rng.uniform(0.0, 0.3, (n, 3))
    images = mask[:, None] * tone[..., None, None] + (1.0 - mask[:, None]) * behind[..., None, None]
    return ImageData(
        images=(255.0 * images).astype(np.uint8)[:, None],
        state=np.stack([np.cos(angle), np.sin(angle)], axis=1).astype(np.float32),
        keypoints=np.stack([hub, disc], axis=1).astype(np.float32),
        group=np.arange(n) // (2 if pairs else 1),
        maps=(255.0 * np.stack([mask, mask], axis=1)).astype(np.uint8)[:, None],
    )


@pytest.fixture(scope="module")
def card(robot: RobotConfig) -> VisionCard:
    return replace(VisionCard.of(robot.spec, CONFIG, ("joint/shoulder", "body/pendulum")), height=SIDE, width=SIDE)


@pytest.fixture(scope="module")
def data() -> ImageData:
    return replace(drawn(CONFIG.images), maps=None)


@pytest.fixture(scope="module")
def trained(
    data: ImageData, card: VisionCard, tmp_path_factory: pytest.TempPathFactory
) -> tuple[VisionResult, Path, list[Progress]]:
    torch.set_num_threads(1)
    out, reports = tmp_path_factory.mktemp("vision"), list[Progress]()
    return pretrain_vision(data, card, CONFIG, out, seed=0, report=reports.append), out, reports


def test_angles_in_the_picture_begin_below_and_run_counter_clockwise() -> None:
    ends = torch.tensor([[0.0, 0.5], [0.5, 0.0], [0.0, -0.5], [-0.5, 0.0]])
    keypoints = torch.stack([torch.zeros(4, 2), ends], dim=1) + 0.1
    degrees = torch.rad2deg(image_angle(keypoints))
    assert degrees[:2].tolist() == pytest.approx([0.0, 90.0], abs=1e-3)
    assert abs(float(degrees[2])) == pytest.approx(180.0) and float(degrees[3]) == pytest.approx(-90.0)
    wide = image_angle(keypoints[:1] + torch.tensor([[0.0, 0.0], [0.25, 0.0]]), aspect=2.0)
    assert float(torch.rad2deg(wide)) == pytest.approx(45.0, abs=1e-3)


def test_states_are_circular_where_a_joint_turns_all_around() -> None:
    joints = (
        JointSpec(name="wheel", velocity_limit=1.0),
        JointSpec(name="elbow", velocity_limit=1.0, position_limits=(-1.0, 1.0)),
        JointSpec(name="rail", unit="m", velocity_limit=1.0),
    )
    names = state_names(joints, ("cube",))
    assert names == (
        "joint_cos/wheel", "joint_sin/wheel", "joint_position/elbow", "joint_position/rail",
        "body_position/cube/x", "body_position/cube/y", "body_position/cube/z",
    )  # fmt: skip


def test_a_shift_moves_picture_and_keypoints_alike() -> None:
    image = torch.zeros(40, 1, SIDE, SIDE, dtype=torch.uint8)
    image[:, :, 20, 11] = 255
    points = torch.tensor([[[2.0 * 11.5 / SIDE - 1.0, 2.0 * 20.5 / SIDE - 1.0]]]).expand(40, 1, 2)
    moved, places = random_shift(image, points, torch.Generator().manual_seed(0), 5)
    spots = moved[:, 0].nonzero()
    seen = (2.0 * spots[:, [2, 1]] + 1.0) / SIDE - 1.0
    assert len(spots) == 40 and torch.allclose(seen, places[:, 0], atol=1e-6)
    assert len({tuple(s) for s in spots[:, 1:].tolist()}) > 20


def test_the_votes_of_a_minority_do_not_pull() -> None:
    """Two places are likely: what is told lies at the likelier one, and not between them."""
    votes = torch.tensor([[[-0.5, -0.52, 0.6], [0.1, 0.12, 0.1]]])[:, None]
    found = agreed(torch.tensor([[[0.35, 0.25, 0.4]]]), votes)
    assert found[0, 0].tolist() == pytest.approx([0.6, 0.1], abs=1e-3)
    found = agreed(torch.tensor([[[0.4, 0.25, 0.35]]]), votes)
    assert found[0, 0].tolist() == pytest.approx([-0.508, 0.108], abs=2e-3)


def test_directions_are_of_length_one_and_finite_for_equal_points() -> None:
    points = torch.tensor([[[0.0, 0.0], [0.3, 0.4], [0.3, 0.4]]])
    assert torch.allclose(directions(points), torch.tensor([[[0.6, 0.8], [0.0, 0.0]]]), atol=1e-3)


def test_strong_changes_looks_and_follows_its_generator() -> None:
    images = torch.from_numpy(drawn(16).images[:, 0])
    first, again, other = (strong(images, torch.Generator().manual_seed(s)) for s in (1, 1, 2))
    assert torch.equal(first, again) and not torch.equal(first, other)
    assert first.dtype == torch.uint8 and (first.float() - images.float()).abs().mean() > 5.0


def test_it_learns_where_things_are_and_the_angle(
    trained: tuple[VisionResult, Path, list[Progress]], data: ImageData
) -> None:
    result = trained[0]
    fresh = drawn(200, seed=5)
    before, after = errors(VisionEncoder(result.encoder.card), fresh), errors(result.encoder, fresh)
    assert after["keypoint_error"] < 0.02 < 0.1 < before["keypoint_error"]
    assert after["joint_error"] < 0.2 * before["joint_error"]
    for probe in result.probes.values():
        assert probe["score"] > 0.9 and probe["score"] > probe["baseline"]
    with torch.no_grad():
        seen = result.encoder(torch.from_numpy(fresh.images[:, 0]))
    wanted = torch.atan2(*torch.from_numpy(fresh.state).T.flip(0))
    for told in (joint_angles(seen, result.encoder.card)[:, 0], image_angle(seen.keypoints)):
        off = torch.remainder(told - wanted + torch.pi, 2.0 * torch.pi) - torch.pi
        assert float(off.abs().median()) < 0.15
    assert float(seen.spread.median()) < 0.3


def test_training_reports_rate_and_time_left(trained: tuple[VisionResult, Path, list[Progress]]) -> None:
    reports = trained[2]
    assert reports[-1].done == reports[-1].total == CONFIG.updates and reports[0].eta_s > 0.0
    assert not (trained[1] / CHECKPOINT).exists()


def test_processes_train_on_the_mean_of_their_gradients() -> None:
    weights = [torch.zeros(3, requires_grad=True), torch.zeros(2, 2, requires_grad=True)]
    team, threads = Team(2, weights), []
    own = [[torch.zeros_like(w).requires_grad_() for w in weights] for _ in range(2)]
    for rank, mine in enumerate(own):
        for w in mine:
            w.grad = torch.full_like(w, 1.0 + 2.0 * rank)
        threads.append(threading.Thread(target=team.average, args=(rank, mine)))
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all((w.grad == 2.0).all() for mine in own for w in mine)
    team.give_up()
    with pytest.raises(ConfigError, match=r"a process of the training has ended.*resume=true"):
        team.average(0, own[0])


class Killed(Exception):
    pass


@pytest.mark.parametrize(("pairs", "processes"), [(False, 1), (True, 2)])
def test_a_killed_training_goes_on_to_the_same_encoder(
    pairs: bool, processes: int, card: VisionCard, tmp_path: Path
) -> None:
    data = drawn(64, pairs=pairs)
    settings = replace(CONFIG, updates=20, batch=8, map_weight=0.5, processes=processes)

    def kill(progress: Progress) -> None:
        if progress.done >= 12:
            raise Killed

    whole = pretrain_vision(data, card, settings, tmp_path / "whole", seed=3)
    with pytest.raises(Killed):
        pretrain_vision(data, card, settings, tmp_path / "killed", seed=3, report=kill)
    rest = list[Progress]()
    again = pretrain_vision(data, card, settings, tmp_path / "killed", seed=3, resume=True, report=rest.append)
    assert rest[0].done > 12 and again.curve == whole.curve
    for name, value in whole.encoder.state_dict().items():
        assert torch.equal(value, again.encoder.state_dict()[name]), name
    assert (tmp_path / "killed" / "heads.safetensors").is_file()


def test_a_saved_encoder_comes_back(trained: tuple[VisionResult, Path, list[Progress]], data: ImageData) -> None:
    result, out, _ = trained
    again, images = VisionEncoder.load(out), torch.from_numpy(data.images[:8, 0])
    for a, b in zip(again(images), result.encoder(images), strict=True):
        assert torch.equal(a, b)
    assert again.card == result.encoder.card and again.card.scores == result.probes


def test_the_exported_file_sees_the_same(
    trained: tuple[VisionResult, Path, list[Progress]], data: ImageData, tmp_path: Path
) -> None:
    encoder, images = trained[0].encoder, torch.from_numpy(data.images[:5, 0])
    batch = ({0: torch.export.Dim("B")},)
    torch.onnx.export(
        encoder, (images,), tmp_path / "e.onnx", input_names=["image_side"], output_names=list(Seen._fields),
        dynamic_shapes=(batch,), dynamo=True, verbose=False,
    )  # fmt: skip
    session = onnxruntime.InferenceSession(tmp_path / "e.onnx")
    for rows in (slice(0, 5), slice(2, 3)):
        told = session.run(None, {"image_side": images[rows].numpy()})
        for name, mine, theirs in zip(Seen._fields, encoder(images[rows]), told, strict=True):
            np.testing.assert_allclose(theirs, mine.detach().numpy(), rtol=1e-4, atol=1e-5, err_msg=name)


def test_pictures_of_another_size_or_number_are_refused(card: VisionCard) -> None:
    encoder = VisionEncoder(card)
    with pytest.raises(ConfigError, match=r"camera 'side': got uint8 of shape \(1, 3, 48, 48\).*32, 32.*resize"):
        encoder(torch.zeros(1, 3, 48, 48, dtype=torch.uint8))
    with pytest.raises(ConfigError, match="got float32"):
        encoder(torch.zeros(1, 3, SIDE, SIDE))
    with pytest.raises(ConfigError, match=r"\['side'\], and got 2"):
        encoder(*[torch.zeros(1, 3, SIDE, SIDE, dtype=torch.uint8)] * 2)


def test_cards_name_what_differs(card: VisionCard, robot: RobotConfig, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"takes 32 x 32 pixels of camera 'side'.*side 64 x 64"):
        card.check(robot.spec)
    with pytest.raises(ConfigError, match="pretrained for robot 'simple_pendulum', and this is robot 'other'"):
        card.check(replace(robot.spec, name="other"))
    with pytest.raises(ConfigError, match=r"no camera 'sid'.*Did you mean 'side'"):
        VisionCard.of(robot.spec, replace(CONFIG, cameras=("sid",)), ())
    with pytest.raises(ConfigError, match="16 x 64 pixels"):
        replace(card, width=16, height=64)
    config.save(tmp_path / "encoder.yaml", config.to_plain(card) | {"version": 0})
    with pytest.raises(ConfigError, match=r"version is 0.*pretrain it again"):
        VisionEncoder.load(tmp_path)


def test_two_cameras_are_put_together(card: VisionCard) -> None:
    both = VisionEncoder(replace(card, cameras=("left", "right"))).eval()
    images = torch.from_numpy(drawn(4).images[:, 0])
    seen = both(images, images.flip(3))
    assert seen.keypoints.shape == (4, 4, 2) and seen.spread.shape == (4, 4) and seen.state.shape == (4, 2)
    assert not torch.allclose(seen.features, both(images, images).features)


def test_a_backbone_gives_its_weights_or_is_refused(card: VisionCard, tmp_path: Path) -> None:
    donor, taker = VisionEncoder(card), VisionEncoder(card)
    eye = {n.removeprefix("eyes.0."): t for n, t in donor.state_dict().items() if n.startswith("eyes.0.down")}
    tensors.save(tmp_path / "b.safetensors", eye)
    vision_pretrain.start_from(taker, tmp_path / "b.safetensors")
    for name, value in taker.state_dict().items():
        assert torch.equal(value, donor.state_dict()[name]) or "eyes.0.down" not in name
    tensors.save(tmp_path / "c.safetensors", {"conv1.weight": torch.zeros(64, 3, 7, 7)})
    with pytest.raises(ConfigError, match="none of its 1 tensors fits"):
        vision_pretrain.start_from(taker, tmp_path / "c.safetensors")


def test_agreement_is_of_pairs() -> None:
    features = torch.randn(8, 3).repeat_interleave(2, dim=0)
    assert float(disagreement(features)) == 0.0 < float(disagreement(torch.randn(16, 3)))
