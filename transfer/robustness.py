"""Robustness per randomization term: each term alone at its extremes, all others at the robot's nominal.

All cases are simulated together, in one batch. What is simulated (windows, pictures) and how it is scored is the
caller's. The cases `beyond` leave the prior on purpose, one term at a time: what a novelty score should notice.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from sim.arranged import Arranged
from sim.model import Model
from sim.randomization import Randomization, Term
from sim.targets import TARGETS, split

Array = npt.NDArray[np.float64]
Ids = npt.NDArray[np.intp]

DRAWS = 400
TAIL = 0.01
"""A law without bounds ends, here, where this share of its draws is left."""
PRIORS = 4
"""Draws of the whole prior for one of every other case: everything is compared with it."""
SIDES = ("low", "high")
BEYOND = "beyond"


@dataclass(frozen=True, slots=True)
class Case:
    """One setting of the randomized targets."""

    term: str
    """What of the prior it is about; NOMINAL and PRIOR stand for the prior as a whole."""
    side: str
    """low, high, beyond, or empty."""


NOMINAL, PRIOR = Case("nominal", ""), Case("whole prior", "")


@dataclass(frozen=True, slots=True)
class Cases:
    """Simulations to run, and which case each is."""

    randomization: Arranged
    cases: tuple[Case, ...]
    of: Ids
    """(n,) case of each simulation."""

    def rows(self, case: Case, group: Ids) -> npt.NDArray[np.bool_]:
        """(N,) which rows are of a case; group (N,) is the simulation of each."""
        alike = [i for i, other in enumerate(self.cases) if other == case]
        return np.isin(self.of[group], alike)

    def mixed(self) -> Cases:
        """The same simulations in another order: one of each case, then the next of each case."""
        order = np.arange(len(self.of)).reshape(len(self.cases), -1).T.ravel()
        rows = {t: r[order, 0] for t, r in zip(self.randomization.targets, self.randomization.rows, strict=True)}
        return Cases(Arranged.of(self.randomization.name, rows), self.cases, self.of[order])


def arrange(prior: Randomization, model: Model, each: int, rng: np.random.Generator) -> Cases:
    """`each` simulations a case: the nominal; the whole prior (PRIORS times); every term low, high, and beyond.

    Terms that do not vary have no cases. Beyond is one width of the law above its high end, or below its low end
    where the target's valid range allows no more; then the other terms are drawn, as they are in the whole prior.
    """
    nominal = {t: np.full(each, model.nominal(t)) for t in prior.targets}
    wholes = [prior.draw(model, rng, each) for _ in range(PRIORS)]
    found = [(NOMINAL, nominal), *((PRIOR, whole) for whole in wholes)]
    for term in prior.terms:
        if term.law.kind == "point":
            continue
        alone = Randomization(name=prior.name, robot=prior.robot, terms=(term,))
        drawn = alone.draw(model, rng, DRAWS)
        ends = {t: (float(np.quantile(v, TAIL)), float(np.quantile(v, 1.0 - TAIL))) for t, v in drawn.items()}
        for i, side in enumerate(SIDES):
            found.append((Case(label(term), side), nominal | {t: np.full(each, e[i]) for t, e in ends.items()}))
        outside = {t: _beyond(t, *e) for t, e in ends.items()}
        if None not in outside.values():
            values = {t: np.full(each, v) for t, v in outside.items() if v is not None}
            found.append((Case(label(term), BEYOND), wholes[0] | values))
    rows = {t: np.concatenate([values[t] for _, values in found]) for t in prior.targets}
    cases = tuple(case for case, _ in found)
    return Cases(Arranged.of(f"{prior.name}, term by term", rows), cases, np.repeat(np.arange(len(cases)), each))


def _beyond(target: str, low: float, high: float) -> float | None:
    row, width = TARGETS[split(target)[0]], high - low
    return next((v for v in (high + width, low - width) if row.low <= v <= row.high), None)


def label(term: Term) -> str:
    """A short name of a term: its first target, and how many there are besides."""
    kind, obj, quantity = term.targets[0].split("/")
    alike = [t for t in term.targets if t.split("/")[::2] == [kind, quantity]]
    others = len(term.targets) - len(alike)
    same = f"{obj}..{alike[-1].split('/')[1]}" if len(alike) > 1 else obj
    return f"{kind}/{same}/{quantity}" + (f" and {others} more" if others else "")


def ranking(errors: Mapping[Case, dict[str, Any]], among: Sequence[Case]) -> list[dict[str, Any]]:
    """Rows {term, low, high} of errors, each {"mean", "ci95", "n"}, the most harmful term first."""
    terms = dict.fromkeys(case.term for case in among if case.side in SIDES)
    rows = [{"term": term} | {side: errors[Case(term, side)] for side in SIDES} for term in terms]
    return sorted(rows, key=lambda row: -max(row[side]["mean"] for side in SIDES))
