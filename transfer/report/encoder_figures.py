"""Figures of an encoder's card: what card.json holds in, figure out; encoder_card.py places them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import plotly.graph_objects as go

from policies.encoders.calibration import CURVE
from transfer.report.page import interval

BESIDE = {
    "encoder": ("this encoder", "#2c6fb3", "circle"),
    "scratch": ("same network, shortly trained for this alone", "#d98c21", "diamond"),
    "random": ("same network, untrained", "#7a7a7a", "square"),
    "raw": ("raw input", "#b3452c", "x"),
}
"""Features that are probed -> what the figure calls them, colour, symbol."""
_COLOURS = ("#2c6fb3", "#d98c21", "#3d8f5b", "#8a4fa3", "#b3452c", "#4aa5a5", "#7a6a2c", "#c06090")
_LAYOUT: dict[str, Any] = {
    "template": "simple_white",
    "margin": {"l": 280, "r": 20, "t": 40, "b": 50},
    "font": {"size": 13},
    "legend": {"orientation": "h", "y": 1.0, "yanchor": "bottom", "x": 0.0},
}
_ROW = 30


def figure_readout(read: Mapping[str, Mapping[str, Any]], label: str) -> go.Figure:
    """Probe scores with 95 % intervals, a row a target, best on top; below -0.25 a score is drawn at -0.25."""
    names = in_order(read)[::-1]
    figure = go.Figure()
    for i, (key, (title, colour, symbol)) in enumerate(BESIDE.items()):
        values = [read[n][key] for n in names]
        shown = [max(v["mean"], _LEAST) for v in values]
        figure.add_scatter(
            x=shown,
            y=[j + 0.15 * (1.5 - i) for j in range(len(names))],
            mode="markers",
            name=title,
            marker={"color": colour, "symbol": symbol, "size": 9},
            error_x=_bars(values, shown),
            hovertext=[f"{n}: {interval(v)}" for n, v in zip(names, values, strict=True)],
            hoverinfo="text",
        )
    figure.add_vline(x=0.0, line_dash="dot", line_color="#999")
    figure.update_layout(
        **_LAYOUT,
        height=120 + _ROW * max(len(names), 3),
        xaxis={"title": label, "range": [_LEAST - 0.03, 1.05]},
        yaxis={"tickvals": list(range(len(names))), "ticktext": names, "range": [-0.6, len(names) - 0.4]},
    )
    return figure


_LEAST = -0.25


def in_order(read: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Names of probed quantities, the best read first; what is no parameter of the robot comes after those that are."""
    return sorted(read, key=lambda n: (n.startswith("state/"), -read[n]["encoder"]["mean"]))


def figure_reliability(calibrated: Mapping[str, Mapping[str, Any]]) -> go.Figure:
    """Share of truths inside the central interval of each level, against the level; on the diagonal is right.

    Of many quantities those with the sharpest estimates are drawn, whose uncertainty matters most.
    """
    sharpest = sorted(calibrated, key=lambda n: calibrated[n]["sharpness"])[: len(_COLOURS)]
    calibrated = {n: calibrated[n] for n in sharpest}
    figure = go.Figure()
    figure.add_scatter(
        x=[0, 1], y=[0, 1], mode="lines", line={"color": "#999", "dash": "dot"}, name="right", hoverinfo="skip"
    )
    for (name, found), colour in zip(calibrated.items(), _cycle(len(calibrated)), strict=True):
        figure.add_scatter(x=list(CURVE), y=found["curve"], mode="lines", name=name, line={"color": colour})
    figure.add_annotation(x=0.04, y=0.96, text="too cautious", showarrow=False, font={"color": "#777"}, xanchor="left")
    figure.add_annotation(x=0.96, y=0.04, text="too sure", showarrow=False, font={"color": "#777"}, xanchor="right")
    layout = _LAYOUT | {
        "margin": {"l": 60, "r": 20, "t": 20, "b": 50},
        "legend": {"x": 1.02, "y": 1.0, "font": {"size": 11}},
    }
    figure.update_layout(
        **layout,
        height=430,
        xaxis={"title": "level of the interval that the encoder states", "range": [0, 1], "tickformat": ".0%"},
        yaxis={"title": "truths inside of it", "range": [0, 1], "tickformat": ".0%"},
    )
    return figure


def figure_robustness(found: Mapping[str, Any], label: str, most: int = 16) -> go.Figure:
    """Error with each term at its low and its high end, the most harmful on top; lines: nominal and whole prior.

    Terms beyond the first `most` stand in the table alone.
    """
    rows = found["terms"][:most][::-1]
    figure = go.Figure()
    for row in rows:
        ends = [row["low"]["mean"], row["high"]["mean"]]
        line = {"color": "#bbb", "width": 3}
        figure.add_scatter(x=ends, y=[row["term"]] * 2, mode="lines", line=line, showlegend=False, hoverinfo="skip")
    for side, colour in (("low", "#4aa5a5"), ("high", "#b3452c")):
        values = [row[side] for row in rows]
        figure.add_scatter(
            x=[v["mean"] for v in values],
            y=[row["term"] for row in rows],
            mode="markers",
            name=f"{side} end of the law",
            marker={"color": colour, "size": 9},
            error_x=_bars(values),
        )
    for x, text, dash in (
        (found["nominal"]["mean"], "nominal", "dot"),
        (found["prior"]["mean"], "whole prior", "dash"),
    ):
        figure.add_scatter(
            x=[x, x], y=[rows[0]["term"], rows[-1]["term"]] if rows else [], mode="lines", name=text,
            line={"color": "#555", "dash": dash, "width": 1.5},
        )  # fmt: skip
    figure.update_layout(
        **_LAYOUT,
        height=130 + _ROW * max(len(rows), 3),
        xaxis={"title": label, "rangemode": "tozero"},
    )
    return figure


def figure_novelty(table: Mapping[str, Mapping[str, Any]], most: int = 20) -> go.Figure:
    """How well each shift is told from data of the prior; 0.5 is chance, 1 always. Each judge is a series.

    Faults come first; shifts after the first `most` stand in the table alone.
    """
    names = sorted(table, key=lambda n: not n.startswith("fault"))[:most][::-1]
    judges = [key for key in ("recordings", "windows", "frames") if names and key in table[names[0]]]
    figure = go.Figure()
    for judge, colour in zip(judges, ("#2c6fb3", "#d98c21"), strict=False):
        values = [table[n][judge] for n in names]
        figure.add_scatter(
            x=[v["mean"] for v in values],
            y=names,
            mode="markers",
            name={"windows": "one window", "recordings": "a recording", "frames": "one frame"}[judge],
            marker={"color": colour, "size": 10},
            error_x=_bars(values),
        )
    figure.add_vline(x=0.5, line_dash="dot", line_color="#999", annotation_text="chance", annotation_position="top")
    figure.update_layout(
        **_LAYOUT,
        height=140 + _ROW * max(len(names), 3),
        xaxis={"title": "area under the ROC curve", "range": [0.2, 1.03]},
    )
    return figure


def figure_channels(attribution: Mapping[str, Any]) -> go.Figure:
    """Share of each channel of the history in an estimate; a row a parameter."""
    shares = np.asarray(attribution["by_channel"])
    order = np.argsort(-shares.sum(axis=0))[:24]
    figure = go.Figure()
    figure.add_heatmap(
        z=shares[:, order],
        x=[attribution["channels"][i] for i in order],
        y=list(attribution["parameters"]),
        colorscale="Blues",
        zmin=0.0,
        zmax=max(float(shares.max()), 0.1),
        colorbar={"title": "share", "tickformat": ".0%"},
        text=[[f"{v:.0%}" for v in row] for row in shares[:, order]],
        texttemplate="%{text}" if len(order) <= 14 else None,
    )
    layout = _LAYOUT | {"margin": {"l": 280, "r": 20, "t": 20, "b": 130}}
    figure.update_layout(**layout, height=190 + 34 * len(shares), xaxis={"tickangle": 35})
    figure.update_yaxes(autorange="reversed")
    return figure


def figure_age(attribution: Mapping[str, Any]) -> go.Figure:
    """How far back an encoder looks: the share of an estimate that comes from the last t seconds."""
    figure = go.Figure()
    period = attribution["control_period_s"]
    for name, ages, colour in zip(attribution["parameters"], attribution["by_age"], _COLOURS, strict=False):
        share = np.cumsum(ages)
        figure.add_scatter(
            x=period * np.arange(1, len(share) + 1), y=share, mode="lines", name=name, line={"color": colour}
        )
    span = period * len(attribution["by_age"][0])
    figure.add_scatter(
        x=[0, span], y=[0, 1], mode="lines", name="all rows alike", line={"color": "#999", "dash": "dot"}
    )
    layout = _LAYOUT | {"margin": {"l": 60, "r": 20, "t": 20, "b": 50}, "legend": {"x": 1.02, "y": 1.0}}
    figure.update_layout(
        **layout,
        height=340,
        xaxis={"title": "last t seconds of the window [s]", "range": [0, span]},
        yaxis={"title": "share of the estimate", "range": [0, 1.02], "tickformat": ".0%"},
    )
    return figure


def _cycle(count: int) -> list[str]:
    return [_COLOURS[i % len(_COLOURS)] for i in range(count)]


def _bars(values: Sequence[Mapping[str, Any]], shown: Sequence[float] | None = None) -> dict[str, Any]:
    at = shown if shown is not None else [v["mean"] for v in values]
    return {
        "type": "data",
        "symmetric": False,
        "thickness": 1.2,
        "width": 3,
        "array": [max(v["ci95"][1] - x, 0.0) for v, x in zip(values, at, strict=True)],
        "arrayminus": [max(x - max(v["ci95"][0], -1.0), 0.0) for v, x in zip(values, at, strict=True)],
    }
