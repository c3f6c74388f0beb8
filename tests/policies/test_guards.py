"""Guards against forgetting, on a network small enough to know what it should do."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from policies.encoders.guards import GUARDS, GuardConfig, Method, TuneConfig, Tuned, tune
from robot.config import ConfigError

CONFIG = TuneConfig(updates=150, batch=64, learning_rate=1e-2)
METHODS: tuple[Method, ...] = ("replay", "l2sp", "ewc", "lora", "none")


class Net(nn.Module):
    """A recurrent network, a convolution and a linear layer, as encoders have them."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv1d(4, 16, 3, padding=1)
        self.recurrent = nn.GRU(16, 16, batch_first=True)
        self.out = nn.Linear(16, 1)

    def forward(self, x: Tensor) -> Tensor:
        """x (B, T, 4)"""
        rows = torch.tanh(self.conv(x.transpose(1, 2))).transpose(1, 2)
        return self.out(self.recurrent(rows)[0][:, -1])[:, 0]


class Domain:
    """Samples of one law, y = w x: channels of `x` have a size of their own in each domain."""

    def __init__(self, size: list[float], law: list[float], seed: int) -> None:
        self.size, self.law = torch.tensor(size), torch.tensor(law)
        self.generator = torch.Generator().manual_seed(seed)

    def draw(self, count: int) -> tuple[Tensor, Tensor]:
        x = torch.randn(count, 5, 4, generator=self.generator) * self.size
        return x, x[:, -1] @ self.law

    def loss(self, net: nn.Module) -> Callable[[int], Tensor]:
        def mean(count: int) -> Tensor:
            x, y = self.draw(count)
            return (net(x) - y).square().mean()

        return mean


def simulation(seed: int = 0) -> Domain:
    return Domain([1.0, 1.0, 0.3, 0.3], [1.0, -1.0, 0.0, 0.0], seed)


def reality(seed: int = 0) -> Domain:
    return Domain([0.3, 0.3, 1.0, 1.0], [1.0, -1.0, 0.7, 0.0], seed)


@pytest.fixture(scope="module")
def pretrained() -> nn.Module:
    torch.set_num_threads(1)
    torch.manual_seed(0)
    net = Net()
    loss = simulation().loss(net)
    optimizer = torch.optim.Adam(net.parameters(), lr=1e-2)
    for _ in range(300):
        optimizer.zero_grad()
        loss(64).backward()
        optimizer.step()
    return net.eval()


def adapted(pretrained: nn.Module, config: TuneConfig, seed: int = 0) -> tuple[nn.Module, Tuned]:
    net = copy.deepcopy(pretrained)
    real, test = reality(1), reality(2).draw(500)

    def validate() -> float:
        with torch.no_grad():
            return float((net(test[0]) - test[1]).square().mean())

    tuned = tune(net, lambda: real.loss(net)(config.batch), simulation(3).loss(net), config, validate, seed=seed)
    return net, tuned


def error(net: nn.Module, domain: Domain) -> float:
    with torch.no_grad():
        return float(domain.loss(net)(2000))


@pytest.fixture(scope="module")
def nets(pretrained: nn.Module) -> dict[str, nn.Module]:
    return {m: adapted(pretrained, replace(CONFIG, guard=GuardConfig(method=m)))[0] for m in METHODS}


def test_every_guard_lets_the_network_learn(pretrained: nn.Module, nets: dict[str, nn.Module]) -> None:
    before = error(pretrained, reality(9))
    assert all(error(net, reality(9)) < 0.7 * before for net in nets.values())


def test_replay_forgets_least_and_the_springs_less_than_nothing(nets: dict[str, nn.Module]) -> None:
    lost = {method: error(net, simulation(9)) for method, net in nets.items()}
    assert lost["replay"] == min(lost.values())
    assert max(lost["replay"], lost["l2sp"], lost["ewc"]) < lost["none"]


def test_the_artefact_keeps_its_layout_and_stays_trainable(pretrained: nn.Module, nets: dict[str, nn.Module]) -> None:
    shapes = {name: t.shape for name, t in pretrained.state_dict().items()}
    for net in nets.values():
        assert {name: t.shape for name, t in net.state_dict().items()} == shapes
        assert all(p.requires_grad for p in net.parameters()) and not net.training
        Net().load_state_dict(net.state_dict())


def test_lora_changes_matrices_by_its_rank_and_nothing_else(pretrained: nn.Module) -> None:
    net, _ = adapted(pretrained, replace(CONFIG, guard=GuardConfig(method="lora", rank=2)))
    start = pretrained.state_dict()
    for name, now in net.state_dict().items():
        change = (now - start[name]).flatten(1) if now.ndim > 1 else (now - start[name])[:, None]
        ranks = torch.linalg.matrix_rank(change, tol=1e-4)
        assert ranks <= 2 if now.ndim > 1 else ranks == 0
    assert not torch.equal(net.state_dict()["recurrent.weight_hh_l0"], start["recurrent.weight_hh_l0"])


def test_a_stiffer_spring_moves_less(pretrained: nn.Module) -> None:
    def moved(method: Method, weight: float) -> float:
        net, _ = adapted(pretrained, replace(CONFIG, guard=GuardConfig(method=method, weight=weight)))
        pairs = zip(net.parameters(), pretrained.parameters(), strict=True)
        return sum(float((a - b).detach().square().sum()) for a, b in pairs) ** 0.5

    for method in ("l2sp", "ewc"):
        assert moved(method, 30.0) < moved(method, 0.03)


def test_training_stops_early_and_the_best_weights_are_kept(pretrained: nn.Module) -> None:
    wild = replace(CONFIG, learning_rate=3.0, patience=2)
    net, tuned = adapted(pretrained, wild)
    assert tuned.best == 0 and tuned.updates < wild.updates
    assert all(torch.equal(a, b) for a, b in zip(net.parameters(), pretrained.parameters(), strict=True))
    _, good = adapted(pretrained, CONFIG)
    errors = {row["update"]: row["held_out"] for row in good.curve}
    assert errors[good.best] == min(errors.values()) < errors[0.0]


def test_equal_seeds_give_equal_weights(pretrained: nn.Module) -> None:
    few = replace(CONFIG, updates=5, guard=GuardConfig(method="lora"))
    one, two, other = (adapted(pretrained, few, seed)[0].state_dict() for seed in (0, 0, 1))
    assert all(torch.equal(one[name], two[name]) for name in one)
    assert not all(torch.equal(one[name], other[name]) for name in one)


def test_mistakes_in_a_config_are_told_in_one_sentence() -> None:
    with pytest.raises(ConfigError, match=r"guard\.method is 'prayer'; there are replay, l2sp"):
        GuardConfig(method="prayer")  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match=r"guard\.weight is -1"):
        GuardConfig(weight=-1.0)
    with pytest.raises(ConfigError, match=r"guard\.rank is 0"):
        GuardConfig(rank=0)
    with pytest.raises(ConfigError, match=r"adapt\.updates is 0"):
        TuneConfig(updates=0)
    assert set(GUARDS) == set(METHODS)
