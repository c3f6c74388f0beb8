"""Figure of an angle over the time of a video."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
import plotly.graph_objects as go

from robot import files
from transfer.report.figures import COLOURS
from transfer.report.page import document, embed

Array = npt.NDArray[np.float64]


def figure_angles(seconds: Array, angle: Array, truth: Array) -> go.Figure:
    """Estimated angle [deg] of each frame, with labels where they are known (NaN: not); both (N,) [rad]."""
    figure = go.Figure()
    known = np.isfinite(truth)
    if known.any():
        figure.add_scatter(
            x=seconds[known], y=np.degrees(truth[known]), mode="markers", name="label",
            marker={"color": "black", "size": 5},
        )  # fmt: skip
    figure.add_scatter(
        x=seconds, y=np.degrees(angle), mode="markers", name="encoder", marker={"color": COLOURS["after"], "size": 5}
    )
    figure.update_layout(
        template="simple_white", height=420, xaxis_title="time [s]",
        yaxis={"title": "angle in the picture [deg]", "range": [-190, 190], "dtick": 45},
    )  # fmt: skip
    return figure


def write_angles(path: Path, name: str, seconds: Array, angle: Array, truth: Array) -> Path:
    """The figure as a page that opens offline."""
    files.write_text(path, document(name, [("Angle", embed(figure_angles(seconds, angle, truth)))]))
    return path
