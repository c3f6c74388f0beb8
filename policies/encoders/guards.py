"""Guards against forgetting: fine-tuning a network on real data without losing what simulation taught it.

Generic over nn.Module: the caller gives two losses as functions, of the real data and of simulated samples, and one
that validates; tune() trains the module in place, stops early, and leaves the best weights in it, under the names and
shapes that they had. To add a guard: a name in Method, a subclass of Guard, and a row in GUARDS.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from policies.progress import Meter, Report, silent
from robot.config import ConfigError

Method = Literal["replay", "l2sp", "ewc", "lora", "none"]
SourceLoss = Callable[[int], Tensor]
"""count -> mean loss of that many simulated samples, newly drawn."""

FISHER_SAMPLES = 256
"""Simulated samples over which EWC averages."""


@dataclass(frozen=True, kw_only=True, slots=True)
class GuardConfig:
    """Which guard, and how strong."""

    method: Method = "replay"
    """`replay`: simulated samples in every batch. `l2sp`, `ewc`: a spring from every weight to where it was, equally
    stiff or by how much the simulation depends on it. `lora`: matrices may change by a low rank only. `none`: naive."""
    weight: float | None = None
    """Of the guard's term beside the real loss; default: WEIGHTS. `lora` and `none` have none."""
    rank: int = 4
    """Of lora's changes."""

    def __post_init__(self) -> None:
        if self.method not in GUARDS:
            raise ConfigError(f"guard.method is '{self.method}'; there are {', '.join(GUARDS)}.")
        if self.weight is not None and self.weight < 0.0:
            raise ConfigError(f"guard.weight is {self.weight}; it must be at least 0.")
        if self.rank < 1:
            raise ConfigError(f"guard.rank is {self.rank}; it must be at least 1.")


@dataclass(frozen=True, kw_only=True, slots=True)
class TuneConfig:
    """How a pretrained network is fine-tuned; a field `guard.method` of it says what keeps it from forgetting."""

    guard: GuardConfig = field(default_factory=GuardConfig)
    updates: int = 400
    """Most gradient steps."""
    batch: int = 128
    """Real samples in a batch; replay adds as many simulated ones."""
    learning_rate: float = 3e-4
    validations: int = 16
    """How often the held-out loss is looked at in all."""
    patience: int = 5
    """Validations without progress after which training stops."""

    def __post_init__(self) -> None:
        for name in ("updates", "batch", "validations", "patience"):
            if getattr(self, name) < 1:
                raise ConfigError(f"adapt.{name} is {getattr(self, name)}; it must be at least 1.")


class Guard:
    """No guard: all weights are free. Base of the others."""

    def __init__(self, module: nn.Module, source_loss: SourceLoss, config: TuneConfig, seed: int) -> None:
        self.module, self.source_loss, self.config = module, source_loss, config
        given = config.guard.weight
        self.weight = WEIGHTS.get(config.guard.method, 0.0) if given is None else given

    def trained(self) -> list[nn.Parameter]:
        """What the optimizer moves."""
        return [p for p in self.module.parameters() if p.requires_grad]

    def term(self) -> Tensor:
        """What is added to the real loss in each update."""
        return torch.zeros(())

    def close(self) -> None:
        """Leave the module as a plain one, with the weights that it has now."""


class Replay(Guard):
    """Simulated samples are trained on beside the real ones."""

    def term(self) -> Tensor:
        return self.weight * self.source_loss(self.config.batch)


class L2SP(Guard):
    """A penalty on the squared distance from the starting point.

    Source: Li, Grandvalet, Davoine: Explicit Inductive Bias for Transfer Learning with Convolutional Networks,
    ICML 2018 (L2-SP).
    """

    def __init__(self, module: nn.Module, source_loss: SourceLoss, config: TuneConfig, seed: int) -> None:
        super().__init__(module, source_loss, config, seed)
        self.held = self.trained()
        self.start = [p.detach().clone() for p in self.held]

    def stiffness(self) -> Iterable[Tensor | float]:
        """Of each of trained()."""
        return [1.0] * len(self.start)

    def term(self) -> Tensor:
        parts = zip(self.held, self.start, self.stiffness(), strict=True)
        return 0.5 * self.weight * torch.stack([(k * (p - p0).square()).sum() for p, p0, k in parts]).sum()


class EWC(L2SP):
    """The same with stiffness by the Fisher information of the simulated samples: elastic weight consolidation.

    The diagonal of the empirical Fisher information is the mean of squared gradients, one sample at a time; it is
    brought to a mean of 1 over the weights, so that `weight` means the same as in L2-SP (that scaling is ours).
    Source: Kirkpatrick et al., Overcoming catastrophic forgetting in neural networks, PNAS 114(13), 2017.
    """

    def __init__(self, module: nn.Module, source_loss: SourceLoss, config: TuneConfig, seed: int) -> None:
        super().__init__(module, source_loss, config, seed)
        weights = self.trained()
        self.fisher = [torch.zeros_like(p) for p in weights]
        for _ in range(FISHER_SAMPLES):
            gradients = torch.autograd.grad(source_loss(1), weights, allow_unused=True)
            for total, gradient in zip(self.fisher, gradients, strict=True):
                if gradient is not None:
                    total += gradient.square()
        mean = sum(float(f.sum()) for f in self.fisher) / sum(f.numel() for f in self.fisher)
        for total in self.fisher:
            total /= max(mean, 1e-30)

    def stiffness(self) -> Iterable[Tensor | float]:
        return self.fisher


class LowRank(nn.Module):
    """weight -> weight + up @ down, the first dimension against all others; zero at first."""

    def __init__(self, weight: Tensor, rank: int, generator: torch.Generator) -> None:
        super().__init__()
        rows, columns = weight.shape[0], weight[0].numel()
        rank = min(rank, rows, columns)
        self.down = nn.Parameter(torch.randn(rank, columns, generator=generator) / columns**0.5)
        self.up = nn.Parameter(torch.zeros(rows, rank))

    def forward(self, weight: Tensor) -> Tensor:
        return weight + (self.up @ self.down).view_as(weight)


class LoRA(Guard):
    """Every weight of two or more dimensions gets a change of low rank; everything else is frozen until close().

    Source: Hu et al., LoRA: Low-Rank Adaptation of Large Language Models, ICLR 2022. The change is merged into the
    plain weights by close().
    """

    def __init__(self, module: nn.Module, source_loss: SourceLoss, config: TuneConfig, seed: int) -> None:
        super().__init__(module, source_loss, config, seed)
        self.names = [name for name, weight in module.named_parameters() if weight.requires_grad]
        generator = torch.Generator().manual_seed(seed)
        self.places = [
            (part, name)
            for part in module.modules()
            for name, weight in part.named_parameters(recurse=False)
            if weight.ndim >= 2 and weight.requires_grad
        ]
        for weight in super().trained():
            weight.requires_grad_(False)
        self.added: list[nn.Parameter] = []
        for part, name in self.places:
            change = LowRank(getattr(part, name), config.guard.rank, generator)
            parametrize.register_parametrization(part, name, change)
            self.added += change.parameters()

    def trained(self) -> list[nn.Parameter]:
        return self.added

    def close(self) -> None:
        for part, name in self.places:
            parametrize.remove_parametrizations(part, name, leave_parametrized=True)
        for name in self.names:
            self.module.get_parameter(name).requires_grad_(True)


GUARDS: dict[str, type[Guard]] = {"replay": Replay, "l2sp": L2SP, "ewc": EWC, "lora": LoRA, "none": Guard}
WEIGHTS = {"replay": 1.0, "l2sp": 1.0, "ewc": 1.0}
"""Of the guards' terms, where a config gives none."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Tuned:
    """How a fine-tuning went."""

    updates: int
    """Gradient steps that were made ..."""
    best: int
    """... and after how many of them the weights were kept; 0: the module is as it was."""
    curve: tuple[dict[str, float], ...]
    """One row a validation: update, real_loss, held_out."""


def tune(
    module: nn.Module,
    real_loss: Callable[[], Tensor],
    source_loss: SourceLoss,
    config: TuneConfig,
    validate: Callable[[], float] | None = None,
    *,
    seed: int,
    report: Report = silent,
) -> Tuned:
    """Train `module` in place on `real_loss` under the guard, and leave the weights that validate best in it.

    `real_loss` draws a batch of config.batch real samples and gives its loss; `validate` gives the error on real data
    that are not trained on, called with the module in eval mode. Without it (one recording cannot be split) all
    updates are made, and the last weights kept. The module ends in eval mode. `seed` is for what a guard draws itself.
    """
    guard = GUARDS[config.guard.method](module, source_loss, config, seed)
    weights = guard.trained()
    optimizer = torch.optim.Adam(weights, lr=config.learning_rate)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, config.updates, 0.02 * config.learning_rate)
    meter = Meter(f"adapt ({config.guard.method})", config.updates, "updates", report)
    best = _Best(module, validate)
    curve: list[dict[str, float]] = [{"update": 0.0, "held_out": best.error}] if validate else []
    every, update = max(config.updates // config.validations, 1), 0
    module.train()
    for update in range(1, config.updates + 1):
        loss = real_loss()
        optimizer.zero_grad()
        (loss + guard.term()).backward()
        torch.nn.utils.clip_grad_norm_(weights, 1.0)
        optimizer.step()
        schedule.step()
        if update % every and update != config.updates:
            continue
        told = {"real_loss": float(loss.detach())}
        if validate is not None:
            told["held_out"] = best.look(update)
        curve.append({"update": float(update), **told})
        meter(update, **told)
        if best.since >= config.patience:
            break
    best.restore()
    guard.close()
    module.eval()
    return Tuned(updates=update, best=best.update if validate else update, curve=tuple(curve))


class _Best:
    """Remembers the weights that validated best; a NaN never does."""

    def __init__(self, module: nn.Module, validate: Callable[[], float] | None) -> None:
        self.module, self.validate = module, validate
        self.update, self.since, self.error = 0, 0, float("inf")
        self.state: dict[str, Tensor] | None = None
        if validate is not None:
            self.look(0)

    def look(self, update: int) -> float:
        """The error now."""
        assert self.validate is not None
        self.module.eval()
        error = self.validate()
        self.module.train()
        if error < self.error:
            self.update, self.since, self.error = update, 0, error
            self.state = copy.deepcopy(self.module.state_dict())
        else:
            self.since += 1
        return error

    def restore(self) -> None:
        if self.state is not None:
            self.module.load_state_dict(self.state)
