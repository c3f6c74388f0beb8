"""What can be linearly read from features, and what stands beside it: raw input, random network, supervised network.

A probe is a ridge regression fitted on training rows and judged on simulations that neither it nor the encoder has
seen. It tells how *accessible* a quantity is; a quantity that a window does not excite is not accessible from
anything, which is why each score stands beside the same probe on other features of the same rows:
    raw       the input itself (averaged over blocks of rows, or of pixels, where it is wide)
    random    a network of the same architecture that was never trained
    scratch   one of the same architecture, trained on the same rows to tell exactly these quantities
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from policies.encoders.novelty import auroc

Array = npt.NDArray[np.float64]
Ids = npt.NDArray[np.intp]
Network = TypeVar("Network", bound=nn.Module)

RIDGE = 1e-3
DRAWS = 200
"""Bootstrap draws behind an interval."""


@dataclass(frozen=True, slots=True)
class Targets:
    """Quantities to be read, of the same rows as the features."""

    names: tuple[str, ...]
    train: Array
    """(N, P)"""
    test: Array
    """(M, P)"""
    group: Ids
    """(M,) the simulation of each test row."""
    classes: frozenset[str] = frozenset()
    """Names of those that are yes or no (0 or 1): judged by the area under the ROC curve, not by R squared."""


def readout(
    features: Mapping[str, tuple[Array, Array]], targets: Targets, rng: np.random.Generator
) -> dict[str, dict[str, dict[str, Any]]]:
    """Target -> features' name -> {"mean", "ci95", "n"}: R squared, or the area under the ROC curve of classes.

    features: name -> (train (N, F), test (M, F)). Intervals are bootstraps over groups; n counts the groups. Targets
    that do not vary in the test rows are left out.
    """
    out: dict[str, dict[str, dict[str, Any]]] = {}
    for row, (train, test) in features.items():
        predicted = ridge(train, targets.train, test)
        for i, name in enumerate(targets.names):
            truth = targets.test[:, i]
            if truth.std() <= 1e-9:
                continue
            judge = area if name in targets.classes else _explained
            out.setdefault(name, {})[row] = judge(predicted[:, i], truth, targets.group, rng)
    return out


def ridge(train: Array, targets: Array, test: Array, strength: float = RIDGE) -> Array:
    """(M, P) predictions at `test` (M, F) of a ridge regression of `targets` (N, P) on `train` (N, F)."""
    mean, spread, middle = train.mean(axis=0), train.std(axis=0) + 1e-9, targets.mean(axis=0)
    a = (train - mean) / spread
    weights = np.linalg.solve(a.T @ a + strength * len(a) * np.eye(a.shape[1]), a.T @ (targets - middle))
    return np.asarray(middle + (test - mean) / spread @ weights)


def _explained(predicted: Array, truth: Array, group: Ids, rng: np.random.Generator) -> dict[str, Any]:
    """R squared with its interval; groups are drawn anew with everything that is theirs."""
    _, index = np.unique(group, return_inverse=True)
    count = np.bincount(index)
    residual = np.bincount(index, weights=np.square(truth - predicted))
    first, second = np.bincount(index, weights=truth), np.bincount(index, weights=np.square(truth))

    def r2(w: Array) -> Array:
        rows = w @ count
        total = w @ second - np.square(w @ first) / rows
        return np.asarray(1.0 - w @ residual / np.maximum(total, 1e-12))

    n = len(count)
    drawn = r2(rng.multinomial(n, np.full(n, 1.0 / n), DRAWS).astype(np.float64))
    return _interval(float(r2(np.ones(n))), drawn, n)


def area(predicted: Array, truth: Array, group: Ids, rng: np.random.Generator) -> dict[str, Any]:
    """Area under the ROC curve of scores (N,) for truths of 0 and 1 (N,), with its interval over groups (N,)."""
    inside, groups = truth < 0.5, np.unique(group)
    rows = {g: np.flatnonzero(group == g) for g in groups}
    drawn = []
    for _ in range(DRAWS // 4):
        chosen = np.concatenate([rows[g] for g in rng.choice(groups, len(groups))])
        yes = ~inside[chosen]
        if 0 < yes.sum() < len(yes):
            drawn.append(auroc(predicted[chosen][~yes], predicted[chosen][yes]))
    return _interval(auroc(predicted[inside], predicted[~inside]), np.array(drawn), len(groups))


def _interval(value: float, drawn: Array, n: int) -> dict[str, Any]:
    low, high = np.quantile(drawn, (0.025, 0.975)) if len(drawn) else (value, value)
    return {"mean": value, "ci95": [min(float(low), value), max(float(high), value)], "n": n}


def narrowed(rows: npt.NDArray[Any], widest: int = 1024) -> Array:
    """(N, T, K) -> (N, at most about `widest`): neighbours along T are averaged until it fits."""
    n, length, width = rows.shape
    block = max(-(-length * width // widest), 1)
    whole = length // block * block
    means = rows[:, length - whole :].reshape(n, whole // block, block, width).mean(axis=2, dtype=np.float64)
    return np.asarray(means.reshape(n, -1))


def untrained(make: Callable[[], Network], settle: Callable[[Network], None], seed: int) -> Network:
    """A network as `make` gives it, with the random weights of `seed`; `settle` then sets its input statistics.

    What scales an input is no knowledge, and without it a random network is a straw man.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        fresh = make()
    with torch.no_grad():
        settle(fresh)
    return fresh.eval()


def same_buffers(encoder: nn.Module) -> Callable[[nn.Module], None]:
    """To `settle` networks whose buffers are statistics of the data alone: they are those of `encoder`."""
    statistics = dict(encoder.named_buffers())

    def settle(fresh: nn.Module) -> None:
        for name, buffer in fresh.named_buffers():
            buffer.copy_(statistics[name])

    return settle


def measured_norms(inputs: Sequence[Tensor]) -> Callable[[nn.Module], None]:
    """To `settle` networks that normalize batches: statistics as they are of some `inputs`."""

    def settle(fresh: nn.Module) -> None:
        norms = [m for m in fresh.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]
        usual = [m.momentum for m in norms]
        for norm in norms:
            norm.reset_running_stats()
            norm.momentum = None
        fresh.train()
        fresh(*inputs)
        for norm, momentum in zip(norms, usual, strict=True):
            norm.momentum = momentum

    return settle


def supervised(
    network: Network,
    forward: Callable[[Network, Sequence[Tensor]], Tensor],
    width: int,
    inputs: Sequence[Tensor],
    targets: Array,
    *,
    updates: int,
    batch: int,
    seed: int,
    learning_rate: float = 1e-3,
) -> Network:
    """A copy of `network`, trained for `updates` to tell the standardized `targets` (N, P) through a linear head.

    `forward(network, inputs)` gives the features (B, width) that the head reads.
    """
    network = copy.deepcopy(network).train()
    generator = torch.Generator().manual_seed(seed)
    head = nn.Linear(width, targets.shape[1])
    nn.init.zeros_(head.weight), nn.init.zeros_(head.bias)
    wanted = torch.from_numpy(((targets - targets.mean(axis=0)) / (targets.std(axis=0) + 1e-9)).astype(np.float32))
    weights = [*network.parameters(), *head.parameters()]
    optimizer = torch.optim.Adam(weights, lr=learning_rate)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, updates, learning_rate * 0.02)
    for _ in range(updates):
        rows = torch.randint(len(wanted), (min(batch, len(wanted)),), generator=generator)
        error = head(forward(network, [x[rows] for x in inputs])) - wanted[rows]
        optimizer.zero_grad()
        error.square().mean().backward()
        torch.nn.utils.clip_grad_norm_(weights, 1.0)
        optimizer.step()
        schedule.step()
    return network.eval()
