"""Pretraining by two processes: the losses of one, whatever the losses couple, and no step lost or done twice."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from policies.encoders import pretrain as physics
from policies.encoders import ranks, vision_pretrain
from policies.encoders.objectives import Batches, disagreement
from policies.encoders.physics import EncoderCard, EncoderConfig
from policies.encoders.ranks import Crew, Parted, Ranks
from policies.encoders.vision import VisionCard, VisionConfig
from policies.encoders.vision_data import ImageData
from policies.encoders.windows import WindowData
from robot.config import ConfigError

ROOT = Path(__file__).resolve().parents[2]
CARD = EncoderCard(
    robot="toy", fingerprint="", control_period_s=0.01, components=("position/a", "velocity/a"), actuators=("m",),
    history=12, context=4, span=2, hidden=(8,), predictor=(8,),
)  # fmt: skip
CONFIG = EncoderConfig(
    history=12, context=4, span=2, hidden=(8,), horizon=8, predictor=(8,), equations=False, base=False, grounding=40,
    updates=40, batch=15, learning_rate=3e-3, agreement_weight=0.2, lost=0.1, held_out=0.2, patience=1000,
)  # fmt: skip
"""An odd batch, so that the shares of two processes differ."""
VISION = VisionConfig(
    channels=(4, 8, 8), points=2, features=4, updates=20, processes=2, batch=6, shift=2, strong=True, appearances=2,
    held_out=0.2, map_weight=0.5,
)  # fmt: skip
SIGHT = VisionCard(
    robot="toy", fingerprint="", cameras=("side",), height=32, width=32, channels=VISION.channels, points=2, features=4,
    states=("joint_cos/a", "joint_sin/a"), keypoints=("a", "b"),
)  # fmt: skip
CUT = {"physics": 69, "vision": 7}
"""Updates at which the processes are stopped once."""


def windows() -> WindowData:
    """Of 16 robots that differ in how they answer to their action, brake and drift: with fewer unknowns than latents
    the sign of a latent would be left to rounding."""
    rng = np.random.default_rng(3)
    n, steps = 192, CARD.history + CONFIG.horizon
    group = np.repeat(np.arange(16), 12)
    parameters = rng.uniform((0.5, 0.2, -0.5), (1.5, 2.0, 0.5), (16, 3))[group]
    gain, damping, drift = parameters.T
    action = rng.uniform(-1.0, 1.0, (n, steps, 1)).astype(np.float32)
    state, velocity = np.zeros((n, steps + 1, 2)), rng.normal(size=n)
    for t in range(steps):
        velocity = velocity + 0.1 * (gain * action[:, t, 0] - damping * velocity + drift)
        state[:, t + 1] = np.stack([state[:, t, 0] + 0.1 * velocity, velocity], axis=1)
    seen = state.astype(np.float32)
    return WindowData(
        history=np.concatenate([seen[:, :-1], action], axis=2)[:, : CARD.history],
        mask=np.ones((n, CARD.history), dtype=np.float32),
        observation=seen[:, CARD.history],
        action=action[:, CARD.history :],
        future=seen[:, CARD.history + 1 :],
        group=group,
        parameters=parameters,
        names=("gain", "damping", "drift"),
        units=("", "", ""),
    )


def pictures() -> ImageData:
    rng = np.random.default_rng(4)
    state = rng.uniform(-1.0, 1.0, (40, 2)).astype(np.float32)
    return ImageData(
        images=rng.integers(0, 256, (40, 1, 3, 32, 32), dtype=np.uint8),
        state=state,
        keypoints=rng.uniform(-0.5, 0.5, (40, 2, 2)).astype(np.float32),
        group=np.arange(40) // 2,
        maps=rng.integers(0, 256, (40, 1, 2, 32, 32), dtype=np.uint8),
    )


def trained(kind: str, out: Path, resume: bool = False) -> Sequence[float]:
    """Pretrain, as one of the processes that take part; the loss of every update."""
    torch.set_num_threads(1)
    if kind == "physics":
        return physics.pretrain(windows(), CARD, CONFIG, out, seed=1, resume=resume).losses
    return vision_pretrain.pretrain_vision(pictures(), SIGHT, VISION, out, seed=1, resume=resume).losses


def stopped_on_the_way(kind: str, out: Path) -> Sequence[float]:
    """The same, with a stop at an update between two validations, after which it goes on."""

    class Stop(Exception):
        pass

    drawn, where = 0, physics.Batches if kind == "physics" else vision_pretrain.Batches
    draw = where.draw

    def until(*given: object) -> object:
        nonlocal drawn
        drawn += 1
        if drawn > CUT[kind]:
            raise Stop
        return draw(*given)  # type: ignore[arg-type]

    where.draw = until  # type: ignore[assignment, method-assign]
    try:
        trained(kind, out)
    except Stop:
        where.draw = draw  # type: ignore[method-assign]
        return trained(kind, out, resume=True)
    raise AssertionError("it was not stopped")


def one_of_two(out: Path) -> None:
    """What each of two processes does: prints its losses."""
    with ranks.joined() as team:
        told = {kind: list(stopped_on_the_way(kind, out / kind)) for kind in CUT}
    (out / f"losses-{team.rank}.json").write_text(json.dumps(told))


def test_two_processes_have_the_losses_of_one_though_they_are_stopped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    code = f"from pathlib import Path; from test_ranks import one_of_two; one_of_two(Path({str(tmp_path)!r}))"
    found = {"PYTHONPATH": f"{ROOT}{os.pathsep}{Path(__file__).parent}", "MASTER_ADDR": "127.0.0.1"}
    shared = {**os.environ, **found, "MASTER_PORT": str(port), "WORLD_SIZE": "2"}
    processes = [subprocess.Popen([sys.executable, "-c", code], env={**shared, "RANK": str(rank)}) for rank in range(2)]
    alone = {"physics": trained("physics", tmp_path / "alone")}
    monkeypatch.setattr(vision_pretrain, "here", lambda: Ranks(elastic=True))  # one process that works both parts
    alone["vision"] = trained("vision", tmp_path / "alone")
    assert [process.wait(120) for process in processes] == [0, 0]
    told = [json.loads((tmp_path / f"losses-{rank}.json").read_text()) for rank in range(2)]
    assert len(alone["physics"]) == 80 and len(alone["vision"]) == 20
    for rank in range(2):
        np.testing.assert_allclose(told[rank]["physics"], alone["physics"], atol=1e-4, rtol=0.0)
    np.testing.assert_allclose(told[0]["vision"], alone["vision"], atol=1e-4, rtol=0.0)
    written = {p.relative_to(tmp_path).as_posix() for p in tmp_path.rglob("encoder.safetensors")}
    assert written >= {"physics/encoder.safetensors", "vision/encoder.safetensors"}


def test_every_process_draws_the_same_batch_and_takes_its_own_rows() -> None:
    def batch(team: Ranks) -> list[torch.Tensor]:
        return Batches(windows(), 15, torch.Generator().manual_seed(2), 0.3, team).draw()

    whole, parts = batch(Ranks()), [batch(Ranks(rank, 4)) for rank in range(4)]
    assert [len(part[0]) for part in parts] == [4, 4, 4, 3]
    for i, tensor in enumerate(whole):
        for rank, part in enumerate(parts):
            assert torch.equal(part[i], tensor[rank::4])


def test_a_loss_that_couples_samples_has_the_gradient_of_the_whole_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    context = torch.randn(15, 4, generator=torch.Generator().manual_seed(1))
    whole = context.clone().requires_grad_()
    disagreement(whole).backward()
    total = 0.0
    for rank in range(3):
        team = Ranks(rank, 3)
        rows = context[team.own(15)].clone().requires_grad_()
        monkeypatch.setattr(ranks.dist, "all_reduce", lambda row: row.copy_(context))
        loss = team.once(disagreement(team.gathered(rows, 15)))
        loss.backward()
        total += float(loss.detach())
        assert torch.allclose(rows.grad, whole.grad[team.own(15)], atol=1e-6)
    assert total == pytest.approx(float(disagreement(context)), abs=1e-5)


def test_more_processes_than_parts_of_a_batch_are_refused() -> None:
    assert [list(Crew(Ranks(rank, 2), 3).parts_of(rank)) for rank in range(2)] == [[0, 2], [1]]
    with pytest.raises(ConfigError, match=r"4 processes train on batches of 2 parts: take encoder\.processes=4"):
        Crew(Ranks(0, 4), 2).parts_of(0)


def test_that_another_process_has_ended_is_told_in_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    def gone(row: torch.Tensor) -> None:
        raise RuntimeError("Connection closed by peer [10.0.0.2]:4711\nmore")

    monkeypatch.setattr(ranks.dist, "all_reduce", gone)
    with pytest.raises(Parted, match=r"ended \(Connection closed by peer .*4711\); torchrun .* resume=true\.$") as told:
        replace(Ranks(), count=2).total(torch.zeros(1))
    assert told.value.exit_code == 1
