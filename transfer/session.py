"""What a session had set up in its servos, as the start of each window tells it.

The acceleration of a goal's profile is a register in RAM (transfer/settings.py): a posterior knows only how often a
session has which value. But how the arm came to where a window starts tells more. Under each value the commands before
the window lead a simulated arm to another place and another speed; the one at which the arm was read is the likelier.
So what is expected of a window is the mean of what each value leads to, weighted by Bayes' rule with its start alone:
no row after the start's own velocity fit, and no other window, is looked at. Where nothing moved before, the start
tells nothing and the law of the sessions stands.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from sim.model import Model
from sim.randomization import Categorical, Randomization
from transfer.playback import BEFORE_S, Playback
from transfer.shots import Shots

Array = npt.NDArray[np.float64]
Values = Mapping[str, Array]

STEP_S = 0.004
"""Physics step of the way to a window's start; a servo's loop needs no finer one."""
POSITION_SD_RAD, VELOCITY_SD = 0.02, 0.2
"""How far a simulated servo of identified parameters is from a real one after BEFORE_S of commands [rad, rad/s].

On fast recordings of an SO-101 6 to 22 mrad and 0.1 to 0.2 rad/s; half or double of it makes errors at most 6 % larger.
"""


def possible(parameters: Randomization, values: Values, windows: int) -> list[tuple[float, Values]]:
    """Probability, and parameters (windows,), of each thing that a session may have set up; one where there is none.

    `values` are the middle of `parameters`, of which a categorical law has none.
    """
    law: Categorical | None = None
    targets: tuple[str, ...] = ()
    for term in parameters.terms:
        if isinstance(term.law, Categorical) and term.tie:
            law, targets = term.law, term.targets
            break
    if law is None:
        return [(1.0, values)]
    weights = law.weights or (1.0,) * len(law.values)
    return [
        (weight / sum(weights), {**values, **{t: np.full(windows, value) for t in targets}})
        for value, weight in zip(law.values, weights, strict=True)
    ]


def told_by_start(
    shots: Shots, model: Model, choices: Sequence[tuple[float, Values]], zeros: Array, shift: int = 0, nthread: int = 0
) -> Array:
    """(K, W) probability of each choice in each window, given where and how fast the window starts.

    zeros (W, J): joint zeros [rad] beside the parameters' own. The way to the start begins BEFORE_S earlier, at rest
    on the goal of then.
    """
    servos = _servos(model)
    prior = np.tile([[weight] for weight, _ in choices], (1, len(shots)))
    if len(choices) < 2 or not len(servos):
        return prior
    approach, odds = Playback(model, _approach(shots, servos), STEP_S, nthread), np.empty_like(prior)
    for k, (_, values) in enumerate(choices):
        position, velocity = approach([values], zeros[None], shift=shift)
        off = (position[0] - shots.position)[:, servos] / POSITION_SD_RAD
        faster = (velocity[0] - shots.velocity)[:, servos] / VELOCITY_SD
        odds[k] = -0.5 * np.sum(off**2 + faster**2, axis=1)
    odds[prior <= 0.0] = -np.inf
    likely = prior * np.exp(odds - odds.max(axis=0))
    return np.asarray(likely / likely.sum(axis=0))


def _servos(model: Model) -> npt.NDArray[np.intp]:
    """Joints that position servos drive."""
    return np.asarray(model.spec.driven[[a.kind == "position_pd" for a in model.spec.actuators]])


def _approach(shots: Shots, servos: npt.NDArray[np.intp]) -> Shots:
    """Windows that end where those of `shots` start, with that one row each."""
    width = len(shots)
    start, position = shots.start - BEFORE_S, shots.position.copy()
    for i, series in enumerate(shots.series):
        mine = np.flatnonzero(shots.episode == i)
        position[np.ix_(mine, servos)] = series.command.held(start[mine])[:, servos]
    return replace(
        shots,
        start=start,
        position=position,
        velocity=np.zeros_like(position),
        window=np.arange(width),
        since=np.full(width, BEFORE_S),
        row_position=shots.position,
        row_velocity=shots.velocity,
        seconds=BEFORE_S,
    )
