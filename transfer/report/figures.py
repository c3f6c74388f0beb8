"""Figures of the report: data in, figure out; the caller places them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import plotly.graph_objects as go

COLOURS = {"before": "#b3452c", "after": "#2c6fb3", "other": "#7a7a7a"}
FAR = 20.0
"""An estimate this many times its nominal would squeeze the others into one point."""
_LAYOUT: dict[str, Any] = {
    "template": "simple_white",
    "height": 340,
    "margin": {"l": 60, "r": 20, "t": 40, "b": 50},
    "font": {"size": 13},
    "legend": {"orientation": "h", "x": 0.0, "y": 1.0, "yanchor": "bottom"},
}


def figure_gap(before: Mapping[str, Any], after: Mapping[str, Any]) -> go.Figure:
    """Prediction error [rad] against horizon [s], before and after identification, with 95 % intervals.

    before, after: the `prediction` key of two `evaluate` results on the same logs.
    """
    figure = go.Figure()
    for name, label, data in (("before", "before: nominal", before), ("after", "after: identified", after)):
        horizons = sorted(data, key=float)
        errors = [data[h]["position_rmse"] for h in horizons]
        figure.add_scatter(
            x=[float(h) for h in horizons],
            y=[e["mean"] for e in errors],
            error_y=_bars(errors),
            mode="lines+markers",
            name=label,
            line={"color": COLOURS[name]},
        )
    figure.update_layout(
        **_LAYOUT, xaxis_title="horizon [s]", yaxis_title="position error, RMS [rad]", yaxis_type="log"
    )
    return figure


def figure_budget(steps: Sequence[Mapping[str, Any]], horizon: str) -> go.Figure:
    """Prediction error [rad] at one horizon after each step of the gap budget, with 95 % intervals."""
    errors = [step["prediction"][horizon]["position_rmse"] for step in steps]
    figure = go.Figure()
    figure.add_bar(
        x=[step["step"] for step in steps],
        y=[e["mean"] for e in errors],
        error_y=_bars(errors),
        marker_color=[COLOURS["before"], *[COLOURS["after"]] * (len(steps) - 1)],
    )
    figure.update_layout(**_LAYOUT, yaxis_title=f"position error at {horizon} s, RMS [rad]")
    return figure


def figure_success(rates: Mapping[str, Mapping[str, Any]]) -> go.Figure:
    """Success rates with 95 % Wilson intervals; name -> {"mean", "ci95", "n"}."""
    figure = go.Figure()
    figure.add_bar(
        x=list(rates),
        y=[r["mean"] for r in rates.values()],
        error_y=_bars(list(rates.values())),
        marker_color=[COLOURS["after"] if "fine" in name else COLOURS["other"] for name in rates],
        text=[f"{r['mean']:.0%} of {r['n']}" for r in rates.values()],
        textposition="inside",
        textangle=0,
        insidetextanchor="start",  # at the foot of the bar, clear of the interval at its head
    )
    figure.update_layout(**_LAYOUT, yaxis={"title": "success on the robot", "range": [0, 1.05], "tickformat": ".0%"})
    return figure


def figure_curves(curves: Mapping[str, Sequence[Mapping[str, float]]], key: str, label: str) -> go.Figure:
    """Learning curves: name -> rows with `env_steps` and `key`."""
    figure = go.Figure()
    for name, rows in curves.items():
        kept = [r for r in rows if r.get(key) is not None]
        figure.add_scatter(x=[r["env_steps"] for r in kept], y=[r[key] for r in kept], mode="lines+markers", name=name)
    figure.update_layout(**_LAYOUT, xaxis_title="environment steps", yaxis_title=label, showlegend=True)
    return figure


def figure_parameters(parameters: Mapping[str, Mapping[str, Any]], nominal: Mapping[str, float]) -> go.Figure:
    """Estimates over their nominal with 95 % intervals; those that the logs do not identify are grey.

    Parameters whose nominal is 0, or next to it (a point mass has no inertia of its own), stand in the table alone.
    """
    names = [n for n in parameters if nominal.get(n) and parameters[n]["estimate"] / nominal[n] < FAR]
    figure = go.Figure()
    for identified, colour, label in (
        (True, COLOURS["after"], "identified"),
        (False, COLOURS["other"], "not identified"),
    ):
        chosen = [n for n in names if bool(parameters[n]["identified"]) == identified]
        if not chosen:
            continue
        ratios = [parameters[n]["estimate"] / nominal[n] for n in chosen]
        figure.add_scatter(
            x=ratios,
            y=chosen,
            mode="markers",
            name=label,
            marker={"color": colour, "size": 9},
            error_x={
                "type": "data",
                "symmetric": False,
                "array": [parameters[n]["ci95"][1] / nominal[n] - r for n, r in zip(chosen, ratios, strict=True)],
                "arrayminus": [r - parameters[n]["ci95"][0] / nominal[n] for n, r in zip(chosen, ratios, strict=True)],
            },
        )
    figure.add_vline(x=1.0, line_dash="dot", annotation_text="nominal", annotation_position="bottom right")
    layout = _LAYOUT | {"height": 120 + 34 * max(len(names), 3), "margin": _LAYOUT["margin"] | {"l": 230}}
    figure.update_layout(**layout, xaxis_title="estimate / nominal")
    return figure


def figure_traces(traces: Mapping[str, tuple[Sequence[float], Sequence[float]]], joint: str) -> go.Figure:
    """One joint over time: name -> (seconds, radians); `robot` is drawn black."""
    figure = go.Figure()
    for name, (seconds, radians) in traces.items():
        colour = "black" if name == "robot" else COLOURS["before" if "nominal" in name else "after"]
        figure.add_scatter(
            x=list(seconds), y=list(radians), mode="lines", name=name, line={"color": colour, "width": 1.5}
        )
    figure.update_layout(**_LAYOUT, xaxis_title="time [s]", yaxis_title=f"{joint} [rad]")
    return figure


def _bars(values: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    return {
        "type": "data",
        "symmetric": False,
        "array": [v["ci95"][1] - v["mean"] if v["ci95"] else 0.0 for v in values],
        "arrayminus": [v["mean"] - v["ci95"][0] if v["ci95"] else 0.0 for v in values],
    }
