"""Which network reads physics from a window best in the same processor time: the two that ship, and the usual ones.

    python tests/benchmarks/physics_architectures.py OUT.json [robot=simple_pendulum] [seeds=0,1,2]

`evidence` and `votes` are pretrained as configs/encoder/physics.yaml says. A GRU, a causal TCN and a small transformer
get the same windows and as many seconds of one core as the evidence took, to tell the parameters with their
uncertainty. R squared of a ridge regression on what each makes of windows of robots that none was trained on, a mean
over the parameters that the best of them reads at all (above 0.1).
"""

from __future__ import annotations

import json
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from policies.encoders.physics import EncoderCard, EncoderConfig
from policies.encoders.pretrain import pretrain
from policies.encoders.probes import contexts
from policies.encoders.readout import ridge
from policies.encoders.windows import WindowData
from robot import config, files
from robot.observation import Observation
from robot.result import mean_ci
from sim.model import find_robot
from transfer.stages.export import default_prior
from transfer.stages.pretrain import task_of
from transfer.windows import simulated_windows

WIDTH = 64


class Recurrent(nn.Module):
    def __init__(self, row: int) -> None:
        super().__init__()
        self.net = nn.GRU(row, WIDTH, batch_first=True)

    def forward(self, x: Tensor) -> Tensor:
        return self.net(x)[0][:, -1]


class Convolutional(nn.Module):
    """Causal, dilated 1, 2, 4 ... 32: a window of 127 rows. Source: Bai et al., arXiv 1803.01271."""

    def __init__(self, row: int) -> None:
        super().__init__()
        widths = [row] + [WIDTH] * 6
        layers = [nn.Conv1d(i, o, 3, dilation=2**k) for k, (i, o) in enumerate(pairwise(widths))]
        self.layers = nn.ModuleList(layers)

    def forward(self, x: Tensor) -> Tensor:
        x = x.transpose(1, 2)
        for k, layer in enumerate(self.layers):
            made = torch.relu(layer(nn.functional.pad(x, (2 * 2**k, 0))))
            x = made + x if k else made
        return x[:, :, -1]


class Attentive(nn.Module):
    """Two layers over every fourth row and the three before it."""

    def __init__(self, row: int) -> None:
        super().__init__()
        self.enter = nn.Linear(4 * row, WIDTH)
        self.place = nn.Parameter(0.02 * torch.randn(64, WIDTH))
        layer = nn.TransformerEncoderLayer(WIDTH, 4, 2 * WIDTH, dropout=0.0, batch_first=True, norm_first=True)
        self.net = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)

    def forward(self, x: Tensor) -> Tensor:
        whole = x.shape[1] // 4 * 4
        rows = self.enter(x[:, x.shape[1] - whole :].unflatten(1, (-1, 4)).flatten(2))
        return self.net(rows + self.place[: rows.shape[1]]).mean(dim=1)


USUAL: dict[str, Callable[[int], nn.Module]] = {"GRU": Recurrent, "TCN": Convolutional, "transformer": Attentive}


def main(out: str, *words: str) -> None:
    torch.set_num_threads(1)
    options = dict(w.split("=", 1) for w in words)
    robot = find_robot(options.get("robot", "simple_pendulum"))
    task, prior = task_of(robot.spec.name), default_prior(robot)
    assert prior is not None, "the robot has no default prior"
    given = config.load(EncoderConfig, config.shipped() / "encoder" / "physics.yaml")
    scores: dict[str, list[dict[str, float]]] = {}
    for seed in map(int, options.get("seeds", "0,1,2").split(",")):
        data = simulated_windows(task, robot, prior, given, seed=seed)
        train, test = data.split(given.held_out, np.random.default_rng(seed))
        seconds = {}
        for name, changed in (("evidence", given), ("votes", replace(given, weighing="votes", hidden=(128, 64)))):
            observation = Observation(robot.spec, replace(task.observation, history=given.history), task.action)
            card, began = EncoderCard.of(observation, changed, task.control_period_s), time.process_time()
            with tempfile.TemporaryDirectory() as folder:
                encoder = pretrain(data, card, changed, Path(folder), seed=seed).encoder
            seconds[name] = time.process_time() - began
            scores.setdefault(name, []).append(read(contexts(encoder, train), contexts(encoder, test), train, test))
        for name, make in USUAL.items():
            torch.manual_seed(seed)
            features = taught(make(train.history.shape[2] + 1), train, test, seconds["evidence"])
            scores.setdefault(name, []).append(read(*features, train, test))
        print(seed, seconds, {n: {k: round(v, 2) for k, v in s[-1].items()} for n, s in scores.items()}, flush=True)
        files.write_text(Path(out), json.dumps(scores, indent=1))
    told = [p for p in data.names if max(np.mean([s[p] for s in rows]) for rows in scores.values()) > 0.1]
    for name, rows in scores.items():
        found = mean_ci(np.array([np.mean([s[p] for p in told]) for s in rows]))
        print(f"| {name} | {found['mean']:.2f} [{found['ci95'][0]:.2f}, {found['ci95'][1]:.2f}] |")


def taught(network: nn.Module, train: WindowData, test: WindowData, seconds: float) -> tuple[np.ndarray, np.ndarray]:
    """Features of both parts after so much processor time of training."""
    real = train.history[train.mask > 0]
    mean, deviation = torch.from_numpy(real.mean(axis=0)), torch.from_numpy(real.std(axis=0) + 1e-6)

    def rows(data: WindowData, which: Tensor) -> Tensor:
        mask = torch.from_numpy(data.mask)[which].unsqueeze(-1)
        return torch.cat([(torch.from_numpy(data.history)[which] - mean) / deviation * mask, mask], dim=2)

    wanted = train.parameters
    wanted = torch.from_numpy(((wanted - wanted.mean(axis=0)) / wanted.std(axis=0)).astype(np.float32))
    head = nn.Linear(WIDTH, 2 * wanted.shape[1])
    optimizer = torch.optim.Adam([*network.parameters(), *head.parameters()], lr=1e-3)
    began = time.process_time()
    while (spent := time.process_time() - began) < seconds:
        for group in optimizer.param_groups:
            group["lr"] = 2e-3 * (0.02 + 0.98 * 0.5 * (1.0 + np.cos(np.pi * spent / seconds)))
        some = torch.randint(len(wanted), (128,))
        told, uncertain = head(network(rows(train, some))).chunk(2, dim=1)
        loss = (uncertain + (told - wanted[some]).square() * torch.exp(-uncertain)).mean()
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimizer.step()
    network.eval()
    with torch.no_grad():
        made = [torch.cat([network(rows(d, i)) for i in torch.arange(len(d)).split(512)]) for d in (train, test)]
    return made[0].double().numpy(), made[1].double().numpy()


def read(fitted: np.ndarray, judged: np.ndarray, train: WindowData, test: WindowData) -> dict[str, float]:
    """Parameter -> R squared."""
    told = ridge(fitted, train.parameters, judged)
    left = np.square(told - test.parameters).mean(axis=0) / test.parameters.var(axis=0)
    return dict(zip(test.names, (1.0 - left).tolist(), strict=True))


if __name__ == "__main__":
    main(*sys.argv[1:])
