"""Curricula: how a randomization changes with what the policy can already do.

Config part `curriculum` of a randomization's YAML. A Curriculum draws the parameters of the simulations that restart
and is told how their episodes ended; its state is a dictionary of arrays, saved with the training's checkpoints. To
add one: a frozen dataclass of its settings with a `kind`, a subclass of Curriculum, and its case in of().
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np
import numpy.typing as npt

from robot.config import ConfigError
from sim.laws import Categorical, LogUniform, Point, Uniform

if TYPE_CHECKING:
    from sim.model import Model
    from sim.randomization import Randomization, Term

Array = npt.NDArray[np.float64]
Ids = npt.NDArray[np.intp]
Flags = npt.NDArray[np.bool_]
Score = Literal["success", "return"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Adr:
    """Automatic domain randomization: a bound grows while performance at it is good, and shrinks while it is bad.

    Applies to the terms with uniform and log_uniform laws, whose ranges are the widest that bounds can reach; others
    are drawn as they stand. Source: OpenAI, Solving Rubik's Cube with a Robot Hand, 2019, algorithm 1.
    """

    kind: Literal["adr"] = "adr"
    score: Score = "success"
    """What an episode is judged by. Training episodes start anywhere and explore: where they hardly ever succeed to the
    letter, judge by their return, with `good` and `bad` in its units (train_return in the learning curve)."""
    good: float = 0.8
    """Mean score at a bound from which the bound grows."""
    bad: float = 0.4
    """Mean score at a bound up to which it shrinks."""
    start: float = 0.1
    """Share of the law's range on each side of the nominal that the first episodes see."""
    step: float = 0.05
    """What a bound moves by, as a share of the law's range."""
    episodes: int = 50
    """Episodes at a bound that make a verdict."""
    boundary: float = 0.5
    """Share of the episodes that are spent at a bound."""

    def __post_init__(self) -> None:
        if not self.bad < self.good:
            raise ConfigError(f"curriculum: bad is {self.bad} and good {self.good}; bad must be below good.")
        if not (0 < self.boundary <= 1 and 0 < self.step <= 1 and 0 <= self.start <= 1 and self.episodes > 0):
            raise ConfigError("curriculum: boundary, step and start are shares up to 1, and episodes is above 0.")


@dataclass(frozen=True, kw_only=True, slots=True)
class Adversarial:
    """Parameters near those of the worst recent episodes come again; the rest is drawn as the terms say."""

    kind: Literal["adversarial"] = "adversarial"
    score: Score = "return"
    """What an episode is judged by."""
    worst: float = 0.2
    """Share of the remembered episodes that come again."""
    share: float = 0.5
    """Share of the new episodes that are near one of them; the others stay as the terms say."""
    width: float = 0.1
    """How near: 0 is the same again, 1 as far as the law reaches."""
    memory: int = 500
    """Recent episodes that are remembered."""

    def __post_init__(self) -> None:
        if not (0 < self.worst <= 1 and 0 <= self.share < 1 and 0 <= self.width <= 1):
            raise ConfigError("curriculum: worst, share and width are shares; share stays below 1.")
        if self.memory * self.worst < 1:
            raise ConfigError(f"curriculum: of {self.memory} episodes remembered, a share of {self.worst} is none.")


@dataclass(frozen=True, kw_only=True, slots=True)
class Ramp:
    """From the nominal to what the terms say, in step with the training: delays, noise and forces that grow.

    A draw is moved towards the nominal, or towards the middle of a uniform law that does not hold it; of a categorical
    law it is kept with that probability instead, and a point law stays as it is.
    """

    kind: Literal["ramp"] = "ramp"
    start: float = 0.0
    """Share of the way from the nominal to the draw at the beginning."""
    end: float = 1.0
    """Share that is reached."""
    from_env_steps: int = 0
    """Control steps over all simulations before it begins: first a policy is to find a way at all."""
    over_env_steps: int
    """Control steps from there in which it is reached, linearly."""
    some: float = 1.0
    """Probability with which a term takes part in an episode: below 1 few things differ at once."""

    def __post_init__(self) -> None:
        if not (0.0 <= self.start <= 1.0 and 0.0 <= self.end <= 1.0):
            raise ConfigError(f"curriculum: start is {self.start} and end {self.end}; both are shares, 0 to 1.")
        if not 0.0 < self.some <= 1.0:
            raise ConfigError(f"curriculum: some is {self.some}; it is a probability above 0.")
        if self.over_env_steps < 1 or self.from_env_steps < 0:
            raise ConfigError(
                f"curriculum: over_env_steps is {self.over_env_steps} and from_env_steps {self.from_env_steps}; "
                "they must be at least 1 and 0."
            )


Settings = Adr | Adversarial | Ramp


class Curriculum:
    """Draws parameters for nsim simulations; this one as the terms say, whatever the policy does."""

    judges = False
    """Whether it goes by how episodes end."""

    def __init__(self, randomization: Randomization, nsim: int) -> None:
        self.randomization = randomization
        self._n = nsim

    def draw(self, model: Model, rng: np.random.Generator, ids: Ids) -> dict[str, Array]:
        """Parameters of new episodes in some simulations: target -> (len(ids),)."""
        return self.randomization.combine(model, self.draw_laws(model, rng, ids))

    def draw_laws(self, model: Model, rng: np.random.Generator, ids: Ids) -> list[Array]:
        """What each term's law gives, (len(ids), k) each."""
        return self.randomization.draw_laws(rng, len(ids))

    def advance(self, steps: int) -> None:
        """So many more control steps were taken, over all simulations."""

    def report(self, ids: Ids, episode_return: Array, success: Flags) -> None:
        """Episodes that ended in some simulations, before their next parameters are drawn; (len(ids),) each."""

    def state(self) -> dict[str, Array]:
        """What restore() needs; episodes under way are not part of it."""
        return {}

    def restore(self, state: Mapping[str, Array]) -> None:
        """Go on from a state(); ConfigError when it is of another randomization."""

    def summary(self) -> dict[str, float]:
        """What a learning curve should show."""
        return {}

    def _check(self, state: Mapping[str, Array], shapes: Mapping[str, tuple[int, ...]]) -> None:
        found = {name: np.shape(state.get(name, 0.0)) for name in shapes}
        if found != dict(shapes):
            name = self.randomization.name
            raise ConfigError(f"curriculum of randomization '{name}': the saved state is of another randomization.")


class AdrCurriculum(Curriculum):
    """Bounds that move; see Adr. A bound is a share of the law's range: 0 its low end, 1 its high end."""

    judges = True

    def __init__(self, randomization: Randomization, settings: Adr, nsim: int) -> None:
        super().__init__(randomization, nsim)
        self.settings = settings
        self._columns = [
            (t, c)
            for t, term in enumerate(randomization.terms)
            if isinstance(term.law, (Uniform, LogUniform))
            for c in range(term.size)
        ]
        if not self._columns:
            raise ConfigError(
                f"randomization '{randomization.name}': curriculum adr moves the bounds of uniform and log_uniform "
                "laws, and there are none."
            )
        count = len(self._columns)
        self._bounds = np.full((count, 2), np.nan)
        self._sum, self._count = np.zeros((count, 2)), np.zeros((count, 2))
        self._at = np.full(nsim, -1)
        """(nsim,) the bound that the episode under way is at: 2 x column + (1 for the high one); -1 for none."""

    def draw_laws(self, model: Model, rng: np.random.Generator, ids: Ids) -> list[Array]:
        if np.isnan(self._bounds).any():
            self._begin(model)
        drawn = super().draw_laws(model, rng, ids)
        chosen = rng.integers(0, 2 * len(self._columns), len(ids))
        self._at[ids] = np.where(rng.random(len(ids)) < self.settings.boundary, chosen, -1)
        for i, (t, c) in enumerate(self._columns):
            law = self.randomization.terms[t].law
            assert isinstance(law, (Uniform, LogUniform))
            low, high = self._bounds[i]
            share = low + (high - low) * law.share(drawn[t][:, c])
            share = np.where(self._at[ids] == 2 * i, low, np.where(self._at[ids] == 2 * i + 1, high, share))
            drawn[t][:, c] = law.at(share)
        return drawn

    def _begin(self, model: Model) -> None:
        """Bounds close around the nominal, or around the middle of a law that does not hold it."""
        for i, (t, c) in enumerate(self._columns):
            term = self.randomization.terms[t]
            assert isinstance(term.law, (Uniform, LogUniform))
            middle = float(term.law.share(_held(_neutral(model, term), term)[c]))
            self._bounds[i] = np.clip([middle - self.settings.start, middle + self.settings.start], 0.0, 1.0)

    def report(self, ids: Ids, episode_return: Array, success: Flags) -> None:
        score = success.astype(np.float64) if self.settings.score == "success" else episode_return
        at = self._at[ids]
        np.add.at(self._sum.reshape(-1), at[at >= 0], score[at >= 0])
        np.add.at(self._count.reshape(-1), at[at >= 0], 1.0)
        self._at[ids] = -1
        for i, side in np.argwhere(self._count >= self.settings.episodes):
            self._judge(i, side)

    def _judge(self, i: int, side: int) -> None:
        mean = self._sum[i, side] / self._count[i, side]
        self._sum[i, side] = self._count[i, side] = 0.0
        grows = 1.0 if mean >= self.settings.good else -1.0 if mean <= self.settings.bad else 0.0
        moved = self._bounds[i, side] + (grows if side else -grows) * self.settings.step
        low, high = (self._bounds[i, 0], 1.0) if side else (0.0, self._bounds[i, 1])
        self._bounds[i, side] = min(max(moved, low), high)

    def state(self) -> dict[str, Array]:
        return {"bounds": self._bounds.copy(), "sum": self._sum.copy(), "count": self._count.copy()}

    def restore(self, state: Mapping[str, Array]) -> None:
        self._check(state, dict.fromkeys(("bounds", "sum", "count"), (len(self._columns), 2)))
        self._bounds, self._sum, self._count = (np.array(state[name]) for name in ("bounds", "sum", "count"))
        self._at[:] = -1

    def summary(self) -> dict[str, float]:
        """Mean width of the ranges in use, and each one, as shares of the laws' ranges."""
        width = np.nan_to_num(self._bounds[:, 1] - self._bounds[:, 0])
        targets = [self.randomization.terms[t].targets[c] for t, c in self._columns]
        return {"width": float(width.mean())} | {f"width/{t}": float(w) for t, w in zip(targets, width, strict=True)}


class AdversarialCurriculum(Curriculum):
    """The worst comes again; see Adversarial."""

    judges = True

    def __init__(self, randomization: Randomization, settings: Adversarial, nsim: int) -> None:
        super().__init__(randomization, nsim)
        self.settings = settings
        if randomization.fixed:
            raise ConfigError(f"randomization '{randomization.name}': curriculum adversarial needs a law that varies.")
        self._sizes = [term.size for term in randomization.terms]
        self._now = np.full((nsim, sum(self._sizes)), np.nan)
        self._past, self._score = np.zeros((settings.memory, sum(self._sizes))), np.zeros(settings.memory)
        self._seen = np.zeros(1, dtype=np.int64)

    def draw_laws(self, model: Model, rng: np.random.Generator, ids: Ids) -> list[Array]:
        drawn = super().draw_laws(model, rng, ids)
        worst = self._worst()
        again = rng.random(len(ids)) < self.settings.share
        if worst.size and again.any():
            records = self._split(self._past[rng.choice(worst, len(ids))])
            for t, term in enumerate(self.randomization.terms):
                close = term.law.near(records[t], rng, self.settings.width)
                drawn[t] = np.where(again[:, None], close, drawn[t])
        self._now[ids] = np.concatenate(drawn, axis=1)
        return drawn

    def _split(self, rows: Array) -> list[Array]:
        return np.split(rows, np.cumsum(self._sizes)[:-1], axis=1)

    def _worst(self) -> npt.NDArray[np.intp]:
        """Remembered episodes with the lowest scores; none before the memory is full once."""
        if self._seen[0] < self.settings.memory:
            return np.zeros(0, dtype=np.intp)
        return np.argsort(self._score, kind="stable")[: int(self.settings.memory * self.settings.worst)]

    def report(self, ids: Ids, episode_return: Array, success: Flags) -> None:
        score = success.astype(np.float64) if self.settings.score == "success" else episode_return
        known = ~np.isnan(self._now[ids]).any(axis=1)
        rows = (self._seen[0] + np.arange(known.sum())) % self.settings.memory
        self._past[rows], self._score[rows] = self._now[ids[known]], score[known]
        self._now[ids] = np.nan
        self._seen += known.sum()

    def state(self) -> dict[str, Array]:
        return {"past": self._past.copy(), "score": self._score.copy(), "seen": self._seen.astype(np.float64)}

    def restore(self, state: Mapping[str, Array]) -> None:
        self._check(state, {"past": self._past.shape, "score": self._score.shape, "seen": (1,)})
        self._past, self._score = np.array(state["past"]), np.array(state["score"])
        self._seen = np.array(state["seen"]).astype(np.int64)
        self._now[:] = np.nan

    def summary(self) -> dict[str, float]:
        """Mean score of the remembered episodes, and of the worst among them."""
        full = self._seen[0] >= self.settings.memory
        known = self._score if full else self._score[: self._seen[0]]
        worst = self._score[self._worst()]
        return {
            "score": float(known.mean()) if known.size else 0.0,
            "worst": float(worst.mean()) if worst.size else 0.0,
        }


class RampCurriculum(Curriculum):
    """A share of the way that grows with the steps taken; see Ramp."""

    def __init__(self, randomization: Randomization, settings: Ramp, nsim: int) -> None:
        super().__init__(randomization, nsim)
        self.settings, self._steps = settings, np.zeros(1)

    @property
    def share(self) -> float:
        since = float(self._steps[0]) - self.settings.from_env_steps
        done = min(max(since / self.settings.over_env_steps, 0.0), 1.0)
        return self.settings.start + (self.settings.end - self.settings.start) * done

    def advance(self, steps: int) -> None:
        self._steps += steps

    def draw_laws(self, model: Model, rng: np.random.Generator, ids: Ids) -> list[Array]:
        drawn, share = super().draw_laws(model, rng, ids), self.share
        for t, term in enumerate(self.randomization.terms):
            neutral = _held(_neutral(model, term), term)
            if isinstance(term.law, Categorical):
                drawn[t] = np.where(rng.random(drawn[t].shape) < share, drawn[t], neutral)
            elif not isinstance(term.law, Point):
                drawn[t] = neutral + share * (drawn[t] - neutral)
            if self.settings.some < 1.0 and not isinstance(term.law, Point):
                drawn[t] = np.where(rng.random((len(ids), 1)) < self.settings.some, drawn[t], neutral)
        return drawn

    def state(self) -> dict[str, Array]:
        return {"steps": self._steps.copy()}

    def restore(self, state: Mapping[str, Array]) -> None:
        self._check(state, {"steps": (1,)})
        self._steps = np.array(state["steps"])

    def summary(self) -> dict[str, float]:
        """How far it has come."""
        return {"share": self.share}


def _neutral(model: Model, term: Term) -> Array:
    """(k,) the numbers drawn by a term with which its targets stay at their nominals."""
    fixed = {"scale": 1.0, "offset": 0.0}
    if term.how in fixed:
        return np.full(term.size, fixed[term.how])
    return np.array([model.nominal(target) for target in term.targets[: term.size]])


def _held(neutral: Array, term: Term) -> Array:
    """(k,) these, or the middle of a uniform or log_uniform law where it does not hold them."""
    law = term.law
    if not isinstance(law, (Uniform, LogUniform)):
        return neutral
    return np.where((law.low <= neutral) & (neutral <= law.high), neutral, law.at(0.5))


def of(randomization: Randomization, nsim: int, training: bool = True) -> Curriculum:
    """The curriculum that a randomization asks for; an evaluation has none."""
    settings = randomization.curriculum if training else None
    if isinstance(settings, Adr):
        return AdrCurriculum(randomization, settings, nsim)
    if isinstance(settings, Adversarial):
        return AdversarialCurriculum(randomization, settings, nsim)
    if isinstance(settings, Ramp):
        return RampCurriculum(randomization, settings, nsim)
    return Curriculum(randomization, nsim)
