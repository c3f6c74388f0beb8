"""How long networks take, beside one another in one run: what else the machine does falls on all of them alike.

A batch of one on one thread, as onboard, the inputs written beforehand. The networks take turns, round by round, so
that the ratio of two has an interval of its own, which a clock that changes its speed does not widen.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from robot.network import Network, open_session
from robot.result import mean_ci

Array = npt.NDArray[np.float64]
Inputs = Mapping[str, npt.NDArray[Any]]
Figures = tuple[float, float, float]

ROUNDS, REPEATS, WARM = 20, 200, 100
SECONDS, FEWEST = 2.0, 25
"""About how long percentiles() measures, and fewest runs of a round: a network with a vision encoder takes milliseconds
for each of them."""
PERCENTILES = (50.0, 99.0, 99.9)


def interleaved(
    graphs: Mapping[str, bytes],
    recorded: Inputs,
    rounds: int = ROUNDS,
    repeats: int = REPEATS,
    seconds: float = np.inf,
) -> dict[str, Array]:
    """Name of a network -> (rounds, repeats) times of one run [µs]; `recorded` (n, ...) holds the inputs of all.

    With `seconds` it has fewer repeats, so that it takes about as long, but never less than FEWEST.
    """
    networks = {name: Network(open_session(graph)) for name, graph in graphs.items()}
    once = 0.0  # [µs]
    for network in networks.values():
        for name, array in network.inputs.items():
            array[...] = recorded[name][:1]
        once += float(np.median(_timed(network, WARM)))
    repeats = int(np.clip(1e6 * seconds / (rounds * once), min(FEWEST, repeats), repeats))
    times = {name: np.empty((rounds, repeats)) for name in networks}
    for i in range(rounds):
        for name, network in networks.items():
            times[name][i] = _timed(network, repeats)
    return times


def percentiles(graphs: Mapping[str, bytes], recorded: Inputs) -> dict[str, Figures]:
    """Name of a network -> p50, p99 and p99.9 of one run [µs], in some seconds."""
    return {name: figures(times) for name, times in interleaved(graphs, recorded, seconds=SECONDS).items()}


def figures(times: Array) -> Figures:
    """p50, p99 and p99.9 over all rounds [µs]."""
    p50, p99, p999 = (float(np.percentile(times, p)) for p in PERCENTILES)
    return p50, p99, p999


def ratio(times: Array, base: Array) -> dict[str, Any]:
    """How many times as long a run takes as one of `base`: the mean over rounds of the ratio of medians, and its
    interval."""
    return mean_ci(np.median(times, axis=1) / np.median(base, axis=1))


def _timed(network: Network, repeats: int) -> Array:
    spent = np.empty(repeats)
    for i in range(repeats):
        begin = time.perf_counter_ns()
        network.run()
        spent[i] = (time.perf_counter_ns() - begin) * 1e-3
    return spent
