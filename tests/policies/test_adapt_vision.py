"""A vision encoder meets pictures unlike simulated ones: few labels, sensors' labels, or what a clip tells itself."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import numpy.typing as npt
import pytest
import torch

from policies.encoders import consensus, synchrony
from policies.encoders.adapt_vision import Footage, VisionAdaptConfig, adapt, replay_loss, split
from policies.encoders.guards import GuardConfig, TuneConfig
from policies.encoders.vision import VisionCard, VisionEncoder, image_angle
from policies.encoders.vision_data import ImageData
from policies.encoders.warp import Motion, pixels, reduced, relit
from robot.config import ConfigError
from robot.log import EpisodeLog
from sim.model import RobotConfig
from sim.surrogate import record_episode

SIZE, LENGTH = 32, 0.7
BRACKET = np.array([[0.3, -0.18]])
Array = npt.NDArray[np.float64]
CARD = VisionCard(
    robot="simple_pendulum", fingerprint="x", cameras=("side",), height=SIZE, width=SIZE, channels=(8, 16, 16),
    points=2, features=8, states=("joint_cos/shoulder", "joint_sin/shoulder"),
    keypoints=("joint/shoulder", "body/pendulum"),
)  # fmt: skip


def draw(
    angles: Array, side: int, rng: np.random.Generator, real: bool = False, faded: bool = False
) -> npt.NDArray[np.uint8]:
    """(N, 3, side, side): a blue pivot, a red end; real ones are darker and have a bracket, the end may be faded."""
    grid = (np.arange(side) + 0.5) / side * 2.0 - 1.0
    places = np.concatenate([ends(angles), np.tile(BRACKET, (len(angles), 1, 1))], axis=1)
    out = np.empty((len(angles), 3, side, side), np.uint8)
    for i, (pivot, end, bracket) in enumerate(places):
        canvas = np.full((side, side, 3), 90.0) + rng.normal(0.0, 4.0, (side, side, 3))
        parts = ((pivot, (30, 60, 220)), (end, (150, 50, 130) if faded else (220, 50, 40)), (bracket, (30, 110, 230)))
        for place, colour in parts if real else parts[:2]:
            canvas[np.hypot(grid[None] - place[0], grid[:, None] - place[1]) < 0.16] = colour
        out[i] = np.clip((0.8 if real else 1.0) * canvas, 0, 255).transpose(2, 0, 1)
    return out


def ends(angles: Array) -> Array:
    """(N, 2, 2) pivot and end in [-1, 1]."""
    end = LENGTH * np.stack([np.sin(angles), np.cos(angles)], axis=1)
    return np.stack([np.zeros_like(end), end], axis=1)


@pytest.fixture(scope="module")
def simulated() -> ImageData:
    rng = np.random.default_rng(0)
    angles = rng.uniform(-np.pi, np.pi, 600)
    return ImageData(
        images=draw(angles, SIZE, rng)[:, None],
        state=np.stack([np.cos(angles), np.sin(angles)], axis=1).astype(np.float32),
        keypoints=ends(angles).astype(np.float32),
        group=np.arange(600),
    )


def trained(simulated: ImageData, seed: int) -> VisionEncoder:
    """An encoder that has seen simulated pictures for a few seconds."""
    torch.set_num_threads(1)
    torch.manual_seed(seed)
    encoder, generator = VisionEncoder(CARD).train(), torch.Generator().manual_seed(seed)
    optimizer = torch.optim.Adam(encoder.parameters(), lr=5e-3)
    for _ in range(120):
        loss = replay_loss(encoder, simulated, 32, generator)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return encoder.eval()


@pytest.fixture(scope="module")
def pretrained(simulated: ImageData) -> VisionEncoder:
    return trained(simulated, 1)


@pytest.fixture(scope="module")
def mistaken(simulated: ImageData, fresh_clip: tuple[npt.NDArray[np.uint8], Array]) -> VisionEncoder:
    """One that is far off in some pictures of the clip: which seed's is, another processor's rounding decides."""
    encoders = (trained(simulated, seed) for seed in (5, 7, 8, 1, 2, 3, 4, 6, 9, 10))
    return next(encoder for encoder in encoders if errors(encoder, fresh_clip).max() > 20.0)


@pytest.fixture(scope="module")
def clip() -> tuple[npt.NDArray[np.uint8], Array]:
    """A swing from hanging to upright, with a bracket that simulation never showed, and its true angles."""
    angles = np.linspace(-0.6, 3.1, 60)
    return draw(angles, 2 * SIZE, np.random.default_rng(3), real=True, faded=True), angles


@pytest.fixture(scope="module")
def fresh_clip(clip: tuple[npt.NDArray[np.uint8], Array]) -> tuple[npt.NDArray[np.uint8], Array]:
    """The same without the fading: what an encoder mostly gets right, it can put right by itself."""
    return draw(clip[1], 2 * SIZE, np.random.default_rng(3), real=True), clip[1]


def footage(clip: tuple[npt.NDArray[np.uint8], Array], told: npt.NDArray[np.intp]) -> Footage:
    images, angles = clip
    known = np.full(len(angles), np.nan)
    known[told] = angles[told]
    return Footage(
        images=images,
        seconds=np.arange(len(angles)) / 30.0,
        fresh=np.ones(len(angles), dtype=bool),
        angle=known,
        state=np.full((len(angles), 2), np.nan),
        group=np.arange(len(angles)),
    )


def errors(encoder: VisionEncoder, clip: tuple[npt.NDArray[np.uint8], Array]) -> Array:
    """(N,) [deg]"""
    with torch.no_grad():
        seen = encoder(pixels(reduced(torch.from_numpy(clip[0]), SIZE, SIZE)))
    off = image_angle(seen.keypoints).numpy() - clip[1]
    return np.abs(np.degrees(np.angle(np.exp(1j * off))))


def config(updates: int = 120, method: str = "replay", rate: float = 1e-3, **settings: object) -> VisionAdaptConfig:
    tune = TuneConfig(
        guard=GuardConfig(method=method), updates=updates, batch=16, learning_rate=rate, validations=4  # type: ignore[arg-type]
    )  # fmt: skip
    return VisionAdaptConfig(tune=tune, **settings)  # type: ignore[arg-type]


def test_few_labels_of_some_poses_correct_the_others(
    pretrained: VisionEncoder, simulated: ImageData, clip: tuple[npt.NDArray[np.uint8], Array]
) -> None:
    before, weights = errors(pretrained, clip), pretrained.state_dict()["compress.weight"].clone()
    told = np.arange(0, 24, 2)
    result = adapt(pretrained, footage(clip, told), simulated, config(), seed=0)
    after = errors(result.encoder, clip)
    assert result.accepted and result.after < result.before
    assert after.mean() < 0.7 * before.mean() and after[30:].mean() < before[30:].mean()
    assert torch.equal(pretrained.state_dict()["compress.weight"], weights), "the given encoder stays as it was"
    every, generator = simulated.take(np.arange(600)), torch.Generator()
    with torch.no_grad():
        kept = [float(replay_loss(e, every, 512, generator.manual_seed(0))) for e in (pretrained, result.encoder)]
    assert kept[1] < 1.5 * kept[0] + 0.005, "simulated pictures are still told"
    again = adapt(pretrained, footage(clip, told), simulated, config(updates=8), seed=4)
    assert again.curve == adapt(pretrained, footage(clip, told), simulated, config(updates=8), seed=4).curve


def test_a_clip_without_labels_corrects_itself(
    mistaken: VisionEncoder, simulated: ImageData, fresh_clip: tuple[npt.NDArray[np.uint8], Array]
) -> None:
    """Large errors go; small ones may stay: pictures agree about those as well."""
    before = errors(mistaken, fresh_clip)
    result = adapt(mistaken, footage(fresh_clip, np.zeros(0, np.intp)), simulated, config(), seed=0)
    after = errors(result.encoder, fresh_clip)
    assert result.accepted and after.max() < 0.6 * before.max()
    assert np.percentile(after, 90) < np.percentile(before, 90)
    assert np.square(after).mean() < np.square(before).mean()


def test_an_encoder_that_gets_worse_is_given_up(
    pretrained: VisionEncoder, simulated: ImageData, clip: tuple[npt.NDArray[np.uint8], Array]
) -> None:
    settings = config(updates=8, method="none", rate=3.0, rounds=0)
    result = adapt(pretrained, footage(clip, np.arange(0, 24, 2)), simulated, settings, seed=0)
    assert not result.accepted and result.encoder is pretrained and result.after == result.before
    assert "did not fall" in result.why


def test_states_by_sensors_are_learned_without_turning_the_picture(
    pretrained: VisionEncoder, simulated: ImageData, clip: tuple[npt.NDArray[np.uint8], Array]
) -> None:
    given = footage(clip, np.zeros(0, np.intp))
    state = np.stack([np.cos(clip[1]), np.sin(clip[1])], axis=1)
    told = replace(given, state=state, group=np.arange(60) // 6)
    assert not told.by_angle
    result = adapt(pretrained, told, simulated, config(updates=80), seed=0)
    assert result.accepted and result.after < 0.75 * result.before


def test_held_out_pictures_span_the_motion_and_are_not_trained_on(clip: tuple[npt.NDArray[np.uint8], Array]) -> None:
    told = np.arange(10, 30)
    train, held, untold = split(footage(clip, told), 0.2, np.random.default_rng(0))
    assert not (train & held).any() and (train | held)[told].all() and held.sum() == 4
    assert np.ptp(np.flatnonzero(held)) >= 12 and not untold[told].any()
    none, nothing, kept = split(footage(clip, np.zeros(0, np.intp)), 0.2, np.random.default_rng(0))
    assert not (none | nothing).any()
    assert 10 <= kept.sum() <= 15 and (np.flatnonzero(kept) % 5 == np.arange(kept.sum()) % 5).all()


@pytest.mark.parametrize("told", [[], [5]])
def test_too_little_to_adapt_to_is_said(
    pretrained: VisionEncoder, simulated: ImageData, clip: tuple[npt.NDArray[np.uint8], Array], told: list[int]
) -> None:
    given = footage((clip[0][:10], clip[1][:10]), np.array(told, dtype=np.intp))
    with pytest.raises(ConfigError, match=f"{len(told)} labels on 10 pictures are too few"):
        adapt(pretrained, given, simulated, config(), seed=0)


def test_a_moved_picture_and_its_points_agree() -> None:
    generator = torch.Generator().manual_seed(0)
    images = torch.zeros(6, 3, 40, 80, dtype=torch.uint8)
    images[:, :, 10:12, 50:52] = 255
    point = torch.tensor([[51 / 80 * 2 - 1, 11 / 40 * 2 - 1]]).expand(6, 1, 2)
    motion = Motion.draw(6, generator, turn=math.pi, shift=0.05, aspect=2.0)
    moved, places = motion.images(images, 20, 40), motion.points(point)
    grid = torch.stack(torch.meshgrid(*((torch.arange(n) + 0.5) / n * 2 - 1 for n in (20, 40)), indexing="ij")[::-1])
    light = moved[:, 0].flatten(1)
    seen = (light[:, None] * grid.flatten(1)).sum(dim=2) / light.sum(dim=1, keepdim=True)
    inside = (places[:, 0].abs() < 0.9).all(dim=1)
    assert inside.sum() >= 3
    torch.testing.assert_close(seen[inside], places[inside, 0], atol=0.03, rtol=0.0)
    torch.testing.assert_close(motion.back(places), point, atol=1e-5, rtol=0.0)


def test_a_turn_adds_to_the_angle() -> None:
    motion = Motion(torch.tensor([0.7]), torch.tensor([[0.1, -0.2]]), 1.5)
    points = torch.tensor([[[0.1, 0.0], [0.4, 0.6]]])
    grown = image_angle(motion.points(points), 1.5) - image_angle(points, 1.5)
    assert float(grown) == pytest.approx(0.7, abs=1e-5)


def test_other_light_is_other_pixels_of_the_same_picture() -> None:
    images = torch.full((8, 3, 16, 16), 100.0)
    lit = relit(images, torch.Generator().manual_seed(0))
    assert lit.shape == images.shape and float(lit.std()) > 5.0
    torch.testing.assert_close(lit, relit(images, torch.Generator().manual_seed(0)))
    assert pixels(lit).dtype == torch.uint8


def test_the_circle_of_the_end_tells_the_pivot(clip: tuple[npt.NDArray[np.uint8], Array]) -> None:
    """Answers with a pivot beside the true one, a copy that is upside down, and one frame where all copies differ."""
    rng, angles = np.random.default_rng(0), clip[1]
    answers = np.repeat(ends(angles)[None], 8, axis=0) + rng.normal(0.0, 0.01, (8, len(angles), 2, 2))
    answers[:, :, 0] += (0.08, -0.05)
    answers[3] *= -1.0
    answers[:, 20, 1] = rng.uniform(-1.0, 1.0, (8, 2))
    found = consensus.agree(
        answers, np.arange(len(angles)) / 30.0, np.ones(len(angles), dtype=bool), np.full(len(angles), np.nan)
    )
    off = np.abs(np.degrees(np.angle(np.exp(1j * (found.angle - angles)))))
    plain = answers[0, :, 1] - answers[0, :, 0]
    beside = np.abs(np.degrees(np.arctan2(plain[:, 0], plain[:, 1]) - angles))
    assert np.median(beside) > 3.0 and np.median(off) < 0.6 and off.max() < 4.0
    assert found.weight[20] < 0.3 * np.median(found.weight)
    np.testing.assert_allclose(np.hypot(*np.diff(found.keypoints, axis=1)[:, 0].T), LENGTH, atol=0.03)


def test_without_motion_the_pivot_stays_where_it_is_seen() -> None:
    still = ends(np.full(40, 0.3))[None].repeat(4, axis=0) + np.random.default_rng(0).normal(0.0, 0.005, (4, 40, 2, 2))
    found = consensus.agree(still, np.arange(40) / 30.0, np.ones(40, dtype=bool), np.full(40, np.nan))
    assert np.abs(found.angle - 0.3).max() < math.radians(2.0)


def test_a_repeated_picture_is_noticed() -> None:
    images = np.random.default_rng(0).integers(0, 255, (12, 3, 8, 8), dtype=np.uint8)
    images[5] = images[4]
    assert np.flatnonzero(consensus.repeats(images)).tolist() == [5]
    assert not consensus.repeats(np.zeros((12, 3, 8, 8), np.uint8)).any(), "a still scene tells nothing"


@pytest.fixture(scope="module")
def log(robot: RobotConfig) -> EpisodeLog:
    return record_episode(robot, "chirp", 4.0, truth=1, seed=1, cameras=("side",))


def seen_by_colour(log: EpisodeLog) -> Array:
    """(N, 1) rough angle of what is bright below the motor: all that a latency needs."""
    images = log["camera.side"].values.max(axis=3).astype(np.float64)
    side = images.shape[1]
    y, x = np.mgrid[:side, :side] - (side - 1) / 2
    bright = (images > 25.0) * (np.hypot(x, y) > 12.0)
    return np.arctan2((bright * x).sum(axis=(1, 2)), (bright * y).sum(axis=(1, 2)))[:, None]


@pytest.mark.parametrize("late_ms", [-20.0, 0.0, 35.0])
def test_the_cameras_latency_is_found_within_a_few_milliseconds(log: EpisodeLog, late_ms: float) -> None:
    """Pictures of a surrogate are stamped at their exposure; stamped late, they are out of step with the joints."""
    pictures = log["camera.side"]
    late = replace(pictures, t_ns=pictures.t_ns + round((100.0 + late_ms) * 1e6))
    joints = replace(log["joint.position"], t_ns=log["joint.position"].t_ns + 100_000_000)
    given = replace(log, channels={**log.channels, "camera.side": late, "joint.position": joints})
    sight = synchrony.sight_of(given, "side", ("shoulder",), seen_by_colour(log))
    found = synchrony.latency([sight], np.array([True]), np.random.default_rng(0))
    assert found.identified and found.frames > 100
    assert 1e3 * found.seconds == pytest.approx(late_ms, abs=4.0)
    assert found.ci95[0] - 0.004 <= late_ms * 1e-3 <= found.ci95[1] + 0.004
    states = synchrony.states_at(CARD, sight, found)
    true = np.interp(pictures.t_ns, log["joint.position"].t_ns, log["joint.position"].values[:, 0])
    inner = slice(10, -10)
    assert np.abs(np.arctan2(states[inner, 1], states[inner, 0]) - true[inner]).max() < 0.05


def test_a_log_without_motion_tells_no_latency() -> None:
    rng, stamps = np.random.default_rng(0), np.arange(200) * 0.02
    sight = synchrony.Sight(stamps, rng.normal(0.0, 0.02, (200, 1)), stamps, np.zeros((200, 1)))
    found = synchrony.latency([sight], np.array([True]), rng)
    assert not found.identified and found.seconds == 0.0
    short = synchrony.Sight(stamps[:5], np.zeros((5, 1)), stamps[:5], np.zeros((5, 1)))
    with pytest.raises(ConfigError, match="record longer episodes"):
        synchrony.latency([short], np.array([True]), rng)
