"""Figures of the stress suite: what result.json holds in, figure out; the heat map as a PNG, too."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import plotly.graph_objects as go

from robot import files
from sim.arena import Trace

UNITS = {
    "nominal": " x nominal",
    "sensor": " x sensor",
    "torque_limit": " x torque limit",
    "control_period": " x period",
}
"""What a row's range is relative to -> how its values are told."""
SCALE = ((0.0, "#b3452c"), (0.5, "#f0d9a8"), (1.0, "#2c6fb3"))
"""From no run that succeeds to all."""
_LAYOUT: dict[str, Any] = {"template": "simple_white", "font": {"size": 13}}


def title_of(row: Mapping[str, Any]) -> str:
    """`I1, 0.75 to 1.25 x nominal`"""
    low, high = row["values"][0], row["values"][-1]
    of = "strength of pushes" if row["criterion"] == "pushes" else row["of"]
    return f"{of}, {low:.3g} to {high:.3g}{UNITS.get(row['relative_to'], '')}"


def figure_heat(rows: Sequence[Mapping[str, Any]]) -> go.Figure:
    """Share of runs that succeed: a row a quantity, its range from left to right; of pushes, from weak to strong."""
    figure = go.Figure()
    for i, row in enumerate(rows):
        figure.add_heatmap(
            z=[row["success"]],
            x=np.linspace(0.0, 1.0, len(row["success"]) + 1),  # edges
            y=[i - 0.5, i + 0.5],
            zmin=0.0,
            zmax=1.0,
            colorscale=[list(stop) for stop in SCALE],
            showscale=i == 0,
            colorbar={"title": "success", "tickformat": ".0%"},
            xgap=1,
            ygap=2,
            text=[[f"{row['of']} = {v:.4g}: {s:.0%}" for v, s in zip(row["values"], row["success"], strict=True)]],
            hoverinfo="text",
        )
    figure.update_layout(
        **_LAYOUT,
        height=110 + 26 * max(len(rows), 3),
        margin={"l": 300, "r": 20, "t": 20, "b": 50},
        xaxis={"title": "from the low to the high end of each range", "showticklabels": False, "range": [0, 1]},
        yaxis={"tickvals": list(range(len(rows))), "ticktext": [_label(r) for r in rows], "autorange": "reversed"},
    )
    return figure


def _label(row: Mapping[str, Any]) -> str:
    return f"{row['criterion']}: {title_of(row)}" if row["criterion"] == "model" else title_of(row)


def figure_trace(trace: Trace, joints: Sequence[str], channels: Sequence[str]) -> go.Figure:
    """The first run of a trace: joint angles, commands and pushes over time, each on an axis of its own."""
    figure = go.Figure()
    drawn = (
        ("y", joints, trace.position[:, 0], "solid", "angle"),
        ("y2", joints, trace.command[:, 0], "solid", "command"),
        ("y2", channels, trace.push[:, 0], "dot", "push"),
    )
    for axis, names, values, dash, what in drawn:
        for name, column in zip(names, values.T, strict=True):
            if what != "angle" and not np.any(column):
                continue
            figure.add_scatter(
                x=trace.time_s,
                y=column,
                yaxis=axis,
                mode="lines",
                name=f"{what}: {name}",
                line={"dash": dash, "width": 1.3},
            )
    figure.update_layout(
        **_LAYOUT,
        height=520,
        margin={"l": 70, "r": 20, "t": 20, "b": 50},
        xaxis={"title": "time [s]", "anchor": "y2"},
        yaxis={"title": "angle [rad]", "domain": [0.48, 1.0]},
        yaxis2={"title": "command, push", "domain": [0.0, 0.42]},
    )
    return figure


def save_heat(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """The heat map as a PNG, for READMEs and chats."""
    import cv2

    height, left, width = 24, 420, 640
    sheet = np.full((height * (len(rows) + 2), left + width + 70, 3), 255, np.uint8)
    for i, row in enumerate(rows):
        top, edges = height * (i + 1), np.linspace(left, left + width, len(row["success"]) + 1).round().astype(int)
        for share, a, b in zip(row["success"], edges[:-1], edges[1:], strict=True):
            sheet[top + 2 : top + height - 1, a + 1 : b] = _colour(share)
        _write(sheet, _label(row), 6, top + 16)
        _write(sheet, f"{row['mean']:.0%}", left + width + 8, top + 16)
    _write(sheet, "share of runs that succeed; each range from its low end (left) to its high end", 6, 16)
    files.write_bytes(path, cv2.imencode(".png", cv2.cvtColor(sheet, cv2.COLOR_RGB2BGR))[1].tobytes())


def _colour(share: float) -> tuple[int, ...]:
    """RGB between the stops of SCALE."""
    stops = [s for s, _ in SCALE]
    parts = [[int(colour[i : i + 2], 16) for _, colour in SCALE] for i in (1, 3, 5)]
    return tuple(round(float(np.interp(share, stops, part))) for part in parts)


def _write(sheet: np.ndarray[Any, Any], text: str, x: int, y: int) -> None:
    import cv2

    plain = text.encode("ascii", "replace").decode()
    cv2.putText(sheet, plain, (x, y), cv2.FONT_HERSHEY_SIMPLEX, 0.42, (30, 30, 30), 1, cv2.LINE_AA)
