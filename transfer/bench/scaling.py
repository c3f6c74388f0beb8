"""How the rate grows with the number of simulations and of threads: ours and the bare Batch side by side."""

from __future__ import annotations

from typing import Any

import plotly.graph_objects as go

from transfer.bench.measure import Effort, in_turns, spread, warm_up
from transfer.bench.ours import Arena, Bare, Ours

SIZES, QUICK_SIZES = (1, 4, 16, 64, 256, 1024), (1, 4)
FULL, QUICK = Effort(rounds=5, seconds=0.2, warm_up_steps=60), Effort(rounds=5, seconds=0.01, warm_up_steps=2)


def measure(arena: Arena, cores: int, seed: int, quick: bool) -> list[dict[str, Any]]:
    """A point for each size and number of threads: `simulations`, `threads`, and spreads of ours, bare, ratio."""
    points = []
    for threads in thread_counts(cores):
        for simulations in QUICK_SIZES if quick else SIZES:
            effort = QUICK if quick else FULL
            ours = Ours(arena, simulations, threads, seed)
            warm_up(ours, effort)
            bare = Bare(ours)
            rates = in_turns({"ours": ours, "bare": bare}, effort, before_round=bare.follow)
            points.append(
                {
                    "simulations": simulations,
                    "threads": threads,
                    **{name: spread(values) for name, values in rates.items()},
                    "ratio": spread(rates["ours"] / rates["bare"]),
                }
            )
    return points


def thread_counts(cores: int) -> list[int]:
    """1, 2, 4, ... and all cores."""
    counts = [1]
    while counts[-1] * 2 < cores:
        counts.append(counts[-1] * 2)
    return [*counts, cores] if cores > 1 else counts


def figure(points: list[dict[str, Any]], title: str) -> go.Figure:
    """Rate against simulations, a line for each number of threads; the bare Batch dashed."""
    drawn = go.Figure()
    for threads in dict.fromkeys(p["threads"] for p in points):
        some = [p for p in points if p["threads"] == threads]
        for name, dash in (("ours", "solid"), ("bare", "dot")):
            drawn.add_scatter(
                x=[p["simulations"] for p in some],
                y=[p[name]["median"] for p in some],
                error_y={
                    "type": "data",
                    "array": [p[name]["max"] - p[name]["median"] for p in some],
                    "arrayminus": [p[name]["median"] - p[name]["min"] for p in some],
                },
                mode="lines+markers",
                line={"dash": dash},
                name=f"{name}, {threads} threads",
            )
    drawn.update_layout(
        template="simple_white",
        title=title,
        xaxis={"title": "simulations", "type": "log"},
        yaxis={"title": "control steps a second", "type": "log"},
    )
    return drawn
