"""Votes: a made-up robot is told, more surely from longer windows; nothing from none; the exported file agrees."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnxruntime
import torch
from torch import Tensor

from policies.encoders.votes import Votes


def made_up(count: int, rows: int) -> tuple[Tensor, Tensor]:
    """(history, latent) of points that are pushed with noise: velocity changes by (1 + latent) x action."""
    rng = np.random.default_rng(0)
    latent = rng.uniform(-1.0, 1.0, count)
    action = rng.uniform(-1.0, 1.0, (count, rows))
    pushed = (1.0 + latent[:, None]) * action
    velocity = np.cumsum(pushed, axis=1) - pushed + rng.normal(0.0, 0.05, (count, rows))
    history = np.stack([np.cumsum(velocity, axis=1), velocity, action], axis=2)
    return torch.from_numpy(history.astype(np.float32)), torch.from_numpy(latent.astype(np.float32))


def trained(history: Tensor, latent: Tensor) -> Votes:
    torch.manual_seed(0)
    votes = Votes(("position/x", "velocity/x"), 1, span=2, latents=1, hidden=(32,), period_s=1.0)
    mask = torch.ones(history.shape[:2])
    votes.stretches.set_statistics(history, mask)
    optimizer = torch.optim.Adam(votes.parameters(), lr=1e-2)
    for _ in range(500):
        some = torch.randint(len(history), (128,))
        mean, variance = votes(history[some], mask[some])
        loss = ((mean[:, 0] - latent[some] * 3**0.5).square() / variance[:, 0] + variance[:, 0].log()).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return votes.eval()


def test_what_is_told_is_right_and_lost_rows_have_no_vote(tmp_path: Path) -> None:
    history, latent = made_up(800, 32)
    votes, mask = trained(history[:600], latent[:600]), torch.ones(800, 32)
    with torch.no_grad():
        mean, variance = votes(history, mask)
        short = votes(history, mask * (torch.arange(32) >= 24))
        none = votes(history, 0.0 * mask)
        lost = mask.clone()
        lost[:, 10] = 0.0
        spoiled = history.clone()
        spoiled[:, 10] = 1e6
        same = votes(history * lost.unsqueeze(-1), lost)[0] - votes(spoiled * lost.unsqueeze(-1), lost)[0]
    assert np.corrcoef(mean[600:, 0].numpy(), latent[600:].numpy())[0, 1] ** 2 > 0.9
    assert (short[1] > variance).all() and (none[0] == 0.0).all() and (none[1] == 1.0).all()
    assert (same == 0.0).all()
    torch.onnx.export(
        votes, (history[:4], mask[:4]), tmp_path / "v.onnx", input_names=["history", "mask"],
        dynamic_shapes=({0: torch.export.Dim("B")}, {0: torch.export.Dim("B")}), dynamo=True,
    )  # fmt: skip
    told = onnxruntime.InferenceSession(tmp_path / "v.onnx").run(
        None, {"history": history.numpy(), "mask": mask.numpy()}
    )
    assert np.abs(told[0] - mean.numpy()).max() < 1e-5
