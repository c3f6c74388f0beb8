"""Labels for recorded pictures from the joints' own sensors, once it is known by how much the camera's stamps are late.

A log has pictures and joint positions on clocks that agree only up to the camera's latency. An encoder that is roughly
right already gives the joints' positions in each picture; the latency is where the logged positions agree with those
best. A constant difference of each joint (its zero, a tilted camera) is left out of the comparison, so it cannot be
mistaken for time.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from policies.encoders.vision import COSINE, POSITION, SINE, VisionCard
from robot.config import ConfigError
from robot.log import EpisodeLog

Array = npt.NDArray[np.float64]

REACH_S = 0.25
"""Latencies are looked for from minus to plus this [s]."""
STEP_S = 1e-3
SLACK = 0.05
"""Errors of the encoder [rad or m] far above this count by their size, not by their square."""
BLOCK_S = 0.5
"""Blocks of time that are resampled for the interval [s]: neighbouring pictures are alike."""
DRAWS = 400
WIDEST_S = 0.04
"""An interval wider than this says that the recordings do not tell the latency: too little moves in them."""


@dataclass(frozen=True, slots=True)
class Sight:
    """One recording: what an encoder saw in its pictures, and what the joints' sensors said meanwhile."""

    seconds: Array
    """(N,) stamps of the pictures [s]."""
    seen: Array
    """(N, J) positions of the joints by the encoder [rad or m]."""
    log_seconds: Array
    """(M,) stamps of the joints, on the same clock."""
    positions: Array
    """(M, J) positions of the joints by their sensors."""


@dataclass(frozen=True, slots=True)
class Latency:
    """By how much pictures are stamped late."""

    seconds: float
    """The logged position at `stamp - seconds` belongs to a picture [s]; 0 where the recordings do not tell."""
    ci95: tuple[float, float]
    """Percentile interval over blocks of time [s]."""
    identified: bool
    """Whether the recordings tell it."""
    frames: int


def latency(sights: Sequence[Sight], turning: npt.NDArray[np.bool_], rng: np.random.Generator) -> Latency:
    """The latency that all recordings have in common, between two grid steps by a parabola.

    `turning` (J,) says which joints are angles. ConfigError when no picture lies well inside its recording.
    """
    grid = np.arange(-REACH_S, REACH_S + STEP_S / 2, STEP_S)
    costs, blocks = [], []
    for k, sight in enumerate(sights):
        begin, end = sight.log_seconds[[0, -1]] + (REACH_S, -REACH_S)
        inside = (sight.seconds >= begin) & (sight.seconds <= end)
        if inside.any():
            costs.append(_costs(sight, inside, grid, turning))
            blocks.append(1e6 * k + np.floor(sight.seconds[inside] / BLOCK_S))
    if not costs:
        raise ConfigError(f"logs: no picture lies {REACH_S} s inside the joints' stamps; record longer episodes.")
    table, block = np.concatenate(costs, axis=1), np.concatenate(blocks)
    sums = np.stack([table[:, block == b].sum(axis=1) for b in np.unique(block)], axis=1)
    draws = [_lowest(grid, sums[:, rng.integers(sums.shape[1], size=sums.shape[1])].sum(axis=1)) for _ in range(DRAWS)]
    low, high = np.percentile(draws, [2.5, 97.5])
    best = _lowest(grid, sums.sum(axis=1))
    at_end = abs(best) > REACH_S - 2 * STEP_S
    known = bool(high - low <= WIDEST_S and sums.shape[1] > 1 and not at_end)
    return Latency(best if known else 0.0, (float(low), float(high)), known, table.shape[1])


def _costs(sight: Sight, inside: npt.NDArray[np.bool_], grid: Array, turning: npt.NDArray[np.bool_]) -> Array:
    """(grid, frames) disagreement at each latency; grows like the square of small differences, like large ones."""
    cost = np.zeros((len(grid), int(inside.sum())))
    for joint, turns in enumerate(turning):
        seen = sight.seen[inside, joint]
        for i, late in enumerate(grid):
            apart = seen - positions_at(sight.seconds[inside] - late, sight.log_seconds, sight.positions)[:, joint]
            if turns:
                apart = np.angle(np.exp(1j * apart))
                apart = np.angle(np.exp(1j * (apart - np.angle(np.exp(1j * apart).mean()))))
            cost[i] += np.sqrt(np.square(apart - np.median(apart)) + SLACK**2)
    return cost


def _lowest(grid: Array, cost: Array) -> float:
    """Where the parabola through the least value and its neighbours is lowest."""
    i = int(np.clip(cost.argmin(), 1, len(grid) - 2))
    left, middle, right = cost[i - 1 : i + 2]
    bend = left - 2.0 * middle + right
    return float(grid[i] + (0.5 * (left - right) / bend * STEP_S if bend > 0.0 else 0.0))


def positions_at(seconds: Array, log_seconds: Array, positions: Array) -> Array:
    """(N, J) the logged positions (M, J) between their stamps (M,), linearly; the ends are held beyond them."""
    return np.stack([np.interp(seconds, log_seconds, column) for column in positions.T], axis=1)


def sight_of(log: EpisodeLog, camera: str, joints: tuple[str, ...], seen: Array) -> Sight:
    """The Sight of a log; `seen` (N, J) are the encoder's positions in the pictures of `camera`.

    LogError when the log lacks a channel.
    """
    pictures, positions = log[f"camera.{camera}"], log["joint.position"]
    start = min(pictures.t_ns[0], positions.t_ns[0])
    return Sight(
        seconds=(pictures.t_ns - start) * 1e-9,
        seen=seen,
        log_seconds=(positions.t_ns - start) * 1e-9,
        positions=np.asarray(positions.ordered(joints), dtype=np.float64),
    )


def joints_of(card: VisionCard) -> tuple[str, ...]:
    """Joints of which an encoder tells the position, in its order; see policies.encoders.vision.joint_angles."""
    return tuple(
        name.removeprefix(kind) for name in card.states for kind in (COSINE, POSITION) if name.startswith(kind)
    )


def turning(card: VisionCard) -> npt.NDArray[np.bool_]:
    """(J,) which of joints_of() are told by cosine and sine."""
    return np.array([COSINE + joint in card.states for joint in joints_of(card)])


def states_at(card: VisionCard, sight: Sight, late: Latency) -> Array:
    """(N, S) the card's states in each picture by the joints' sensors; NaN for what no joint tells, a free body say."""
    positions = positions_at(sight.seconds - late.seconds, sight.log_seconds, sight.positions)
    known: dict[str, Array] = {}
    for joint, angle in zip(joints_of(card), positions.T, strict=True):
        known |= {POSITION + joint: angle, COSINE + joint: np.cos(angle), SINE + joint: np.sin(angle)}
    unknown = np.full(len(sight.seconds), np.nan)
    return np.stack([known.get(name, unknown) for name in card.states], axis=1)
