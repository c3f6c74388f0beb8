"""The physics encoder: what it learns, what it refuses, what it costs."""

from __future__ import annotations

import copy
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from policies import tensors
from policies.encoders import checkpoint
from policies.encoders.adapt import AdaptConfig, adapt
from policies.encoders.guards import GuardConfig
from policies.encoders.heads import Heads
from policies.encoders.physics import EncoderCard, EncoderConfig, PhysicsEncoder
from policies.encoders.pretrain import PretrainResult, pretrain
from policies.encoders.probes import linear_r2, prediction_errors
from policies.encoders.windows import WindowData
from policies.progress import Progress
from robot.config import ConfigError
from robot.observation import Observation
from sim.model import RobotConfig
from sim.randomization import Point, Randomization, Term
from sim.tasks import Task
from transfer.windows import simulated_windows


@pytest.fixture(scope="module")
def trained(
    windows: WindowData, encoder_card: EncoderCard, small: EncoderConfig, tmp_path_factory: pytest.TempPathFactory
) -> tuple[PretrainResult, Path, list[Progress]]:
    torch.set_num_threads(1)
    out, reports = tmp_path_factory.mktemp("encoder"), list[Progress]()
    return pretrain(windows, encoder_card, small, out, seed=0, report=reports.append), out, reports


def test_the_context_tells_robots_apart(trained: tuple[PretrainResult, Path, list[Progress]]) -> None:
    probes = trained[0].probes
    com = probes["parameter/body/pendulum/com"]
    assert com["score"] > 0.6 and com["score"] > com["baseline"] + 0.3
    # 0 is the simulator's own prediction, which knows nothing of this robot
    assert probes["next_state"]["score"] > max(probes["next_state"]["baseline"], 0.0) + 0.1


def test_training_reports_rate_and_time_left(trained: tuple[PretrainResult, Path, list[Progress]]) -> None:
    last = trained[2][-1]
    assert last.done == last.total and last.per_second > 0 and last.eta_s == 0.0
    assert trained[2][0].eta_s > 0.0 and "left" in str(last)


def test_a_saved_encoder_comes_back_with_its_scores(
    trained: tuple[PretrainResult, Path, list[Progress]], windows: WindowData
) -> None:
    result, out, _ = trained
    again = PhysicsEncoder.load(out)
    inputs = torch.from_numpy(windows.history[:64]), torch.from_numpy(windows.mask[:64])
    assert torch.equal(again(*inputs), result.encoder(*inputs))
    assert again.card.scores == result.probes and again.card == result.encoder.card
    heads = Heads.load(out, again.card)
    assert all(torch.equal(v, result.heads.state_dict()[k]) for k, v in heads.state_dict().items())


def test_the_same_seed_gives_the_same_encoder(
    windows: WindowData, encoder_card: EncoderCard, small: EncoderConfig, tmp_path: Path
) -> None:
    few = replace(small, grounding=10, updates=10)
    one, two = (pretrain(windows, encoder_card, few, tmp_path / name, seed=4) for name in "ab")
    assert one.probes == two.probes
    assert pretrain(windows, encoder_card, few, tmp_path / "c", seed=5).probes != one.probes


def test_the_context_does_not_depend_on_how_sums_are_rounded(
    trained: tuple[PretrainResult, Path, list[Progress]], windows: WindowData
) -> None:
    """A regression amplifies rounding, and an exported file that must agree to 1e-5 rounds in another order."""
    encoder = trained[0].encoder
    history, mask = torch.from_numpy(windows.history[:500]), torch.from_numpy(windows.mask[:500])
    with torch.no_grad():
        whole = encoder(history, mask)
        single = torch.cat([encoder(h, m) for h, m in zip(history.split(1), mask.split(1), strict=True)])
        exact = copy.deepcopy(encoder).double()(history.double(), mask.double())
    assert (whole - single).abs().max() < 5e-6
    assert (whole - exact).abs().max() < 1e-4


def test_rows_before_the_episode_do_not_matter(encoder: PhysicsEncoder) -> None:
    history = torch.randn(5, encoder.card.history, encoder.card.row)
    mask = torch.ones(5, encoder.card.history)
    mask[:, :20] = 0.0
    other = history.clone()
    other[:, :20] = 99.0
    assert torch.equal(encoder(history, mask), encoder(other, mask))
    empty = encoder(history, torch.zeros_like(mask))
    assert torch.equal(empty, empty[:1].expand_as(empty)) and torch.isfinite(empty).all()


def test_lost_rows_make_the_context_less_certain_and_not_wild(
    trained: tuple[PretrainResult, Path, list[Progress]], windows: WindowData
) -> None:
    encoder, rng = trained[0].encoder, np.random.default_rng(0)
    full = windows.take(windows.mask.all(axis=1)).take(np.arange(400))
    history, whole = torch.from_numpy(full.history), torch.from_numpy(full.mask)
    lost = whole * torch.from_numpy(rng.random(whole.shape) > 0.05)
    garbage = torch.where(lost[..., None] > 0, history, torch.full_like(history, 1e4))
    with torch.no_grad():
        seen, less, none = encoder(history, whole), encoder(garbage, lost), encoder(history, 0 * whole)
    half = encoder.card.context // 2
    assert (less[:, half:] <= seen[:, half:] + 1e-6).all() and (none == 0.0).all()
    own = (less[:, :half] - seen[:, :half]).square().mean()
    assert own < 0.5 * seen[:, :half].square().mean()  # nearer to what it was than to nothing


def test_a_run_that_was_killed_goes_on_to_the_same_encoder(
    windows: WindowData, encoder_card: EncoderCard, small: EncoderConfig, tmp_path: Path
) -> None:
    few = replace(small, grounding=40, updates=40)
    whole = pretrain(windows, encoder_card, few, tmp_path / "whole", seed=4)

    class Killed(Exception):
        pass

    def kill_at(update: int) -> Callable[[Progress], None]:
        def report(progress: Progress) -> None:
            if progress.done >= update:
                raise Killed

        return report

    for update in (26, 66):  # in each of the two stages
        with pytest.raises(Killed):
            pretrain(windows, encoder_card, few, tmp_path / "cut", seed=4, resume=True, report=kill_at(update))
    again = pretrain(windows, encoder_card, few, tmp_path / "cut", seed=4, resume=True)
    assert again.probes == whole.probes and again.curve == whole.curve
    names = ("encoder.safetensors", "heads.safetensors", "encoder.yaml")
    assert all((tmp_path / "cut" / n).read_bytes() == (tmp_path / "whole" / n).read_bytes() for n in names)
    assert {p.name for p in (tmp_path / "cut").iterdir()} == set(names)


def test_a_checkpoint_of_another_encoder_is_refused(
    windows: WindowData, encoder_card: EncoderCard, small: EncoderConfig, tmp_path: Path
) -> None:
    def stop(progress: Progress) -> None:
        raise KeyboardInterrupt

    few = replace(small, grounding=20, updates=20)
    with pytest.raises(KeyboardInterrupt):
        pretrain(windows, encoder_card, few, tmp_path, seed=4, report=stop)
    other = replace(few, hidden=(8,))
    with pytest.raises(ConfigError, match="of another encoder"):
        pretrain(windows, replace(encoder_card, hidden=(8,)), other, tmp_path, seed=4, resume=True)
    kept = tensors.load(tmp_path / checkpoint.FILE)
    tensors.save(tmp_path / checkpoint.FILE, {name: t for name, t in kept.items() if name != "losses"})
    with pytest.raises(ConfigError, match="an earlier version"):
        pretrain(windows, encoder_card, few, tmp_path, seed=4, resume=True)


def test_another_robot_or_layout_is_refused_by_name(robot: RobotConfig, task: Task, encoder_card: EncoderCard) -> None:
    observation = replace(task.observation, history=encoder_card.history)
    encoder_card.check(Observation(robot.spec, observation, task.action), task.control_period_s)
    other = replace(robot.spec, name="long_pendulum")
    with pytest.raises(ConfigError, match=r"pretrained for robot 'simple_pendulum'.*'long_pendulum'.*pretrain"):
        encoder_card.check(Observation(other, observation, task.action), task.control_period_s)
    changed = replace(robot.spec, watchdog_s=0.2)
    with pytest.raises(ConfigError, match="another version of robot 'simple_pendulum'"):
        encoder_card.check(Observation(changed, observation, task.action), task.control_period_s)
    fewer = replace(observation, features=("joint_cos", "joint_sin"))
    with pytest.raises(ConfigError, match="velocity/shoulder"):
        encoder_card.check(Observation(robot.spec, fewer, task.action), task.control_period_s)
    with pytest.raises(ConfigError, match=r"control period of 0\.01 s"):
        encoder_card.check(Observation(robot.spec, observation, task.action), 0.02)


def test_damaged_files_are_refused_in_one_sentence(encoder: PhysicsEncoder, tmp_path: Path) -> None:
    encoder.save(tmp_path)
    weights = tmp_path / "encoder.safetensors"
    whole = weights.read_bytes()
    weights.write_bytes(whole[:-10])
    with pytest.raises(ConfigError, match=r"encoder\.safetensors: not a whole safetensors file"):
        PhysicsEncoder.load(tmp_path)
    PhysicsEncoder(replace(encoder.card, context=encoder.card.context + 2)).save(tmp_path / "other")
    (tmp_path / "other" / "encoder.safetensors").write_bytes(whole)
    with pytest.raises(ConfigError, match="does not fit the network"):
        PhysicsEncoder.load(tmp_path / "other")


def test_adaptation_lowers_the_error_on_another_robot_and_replay_limits_the_loss(
    trained: tuple[PretrainResult, Path, list[Progress]],
    robot: RobotConfig,
    task: Task,
    windows: WindowData,
    small: EncoderConfig,
) -> None:
    heavy = Randomization(
        name="heavy",
        terms=(Term(targets=("body/pendulum/com", "joint/shoulder/damping"), law=Point(values=(0.85, 0.4))),),
    )
    few = replace(small, simulations=6)
    real, held_out = (simulated_windows(task, robot, heavy, few, seed=s, nthread=1) for s in (1, 2))
    encoder, heads = trained[0].encoder, trained[0].heads
    settings = AdaptConfig(updates=150, batch=64)
    result = adapt(encoder, heads, real, held_out, windows, settings, seed=0)
    assert result.after.mean() < result.before.mean()
    assert np.median(result.after) < 0.95 * np.median(result.before)  # impacts and wraps weigh on the mean
    assert result.encoder is not encoder and len(result.group) == len(held_out)
    bare = replace(settings, guard=GuardConfig(method="none"))
    careless = adapt(encoder, heads, real, held_out, windows, bare, seed=0)
    source = windows.take(np.arange(0, len(windows), 8))
    kept, forgot = (prediction_errors(r.encoder, r.heads.predictor, source).mean() for r in (result, careless))
    assert kept < 0.95 * forgot


def test_the_encoder_is_fast_enough_for_a_batch_of_environments(encoder_card: EncoderCard) -> None:
    """5 ms for 128 robots on an idle core, in double precision: twice a product of matrices, which is slowed alike."""
    encoder = PhysicsEncoder(replace(encoder_card, history=EncoderConfig().history)).eval()
    history, mask = (
        torch.zeros(128, EncoderConfig().history, encoder.card.row),
        torch.ones(128, EncoderConfig().history),
    )
    square = torch.ones(512, 512, dtype=torch.float64)
    with torch.no_grad():
        times = []
        for _ in range(30):
            start = time.process_time()
            encoder(history, mask)
            middle = time.process_time()
            square @ square
            times.append((middle - start, time.process_time() - middle))
    ours, theirs = np.median(times, axis=0)
    assert ours < 6.0 * theirs


def test_a_linear_probe_finds_what_is_linear() -> None:
    rng = np.random.default_rng(0)
    x = rng.normal(size=(400, 3))
    y = np.stack([x @ [1.0, -2.0, 0.5], rng.normal(size=400)], axis=1)
    known, noise = linear_r2((x[:300], y[:300]), (x[300:], y[300:]))
    assert known > 0.99 and abs(noise) < 0.1
