"""The page of an identification: what was found, how well it is known, and which model foretells recordings best."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import plotly.graph_objects as go

from transfer.report.page import Section, document, embed, interval, table

Keys = Mapping[str, Any]

_LAYOUT: dict[str, Any] = {
    "template": "simple_white",
    "margin": {"l": 60, "r": 20, "t": 40, "b": 50},
    "font": {"size": 13},
}


def build(robot: str, keys: Keys) -> str:
    """The page's HTML; `keys` as result.json of `identify` has them."""
    sections = [_prediction(keys), *_selection(keys), *_residual(keys), _parameters(keys), *_delay(keys)]
    return document(f"Identification of {robot}", [*sections, _correlation(keys), *_episodes(keys)])


def _prediction(keys: Keys) -> Section:
    head = ("horizon [s]", "position RMSE [rad]", "median window [rad]", "velocity RMSE [rad/s]")
    rows = [
        (h, *(interval(v[k]) for k in ("position_rmse", "position_median", "velocity_rmse")))
        for h, v in keys["prediction"].items()
    ]
    each = list(keys.get("files", {}).items())
    files = [(name, *(interval(v["position_rmse"]) for v in figures.values())) for name, figures in each]
    horizons = [f"{h} s" for h in keys["prediction"]]
    text = f"<p>Open-loop prediction of {keys['prediction_on']}.</p>"
    return "Prediction", text + table(head, rows) + table(("recording", *horizons), files)


def _selection(keys: Keys) -> list[Section]:
    if not keys.get("selection"):
        return []
    horizons = list(keys["selection"][0]["held_out"])
    head = ("model", *(f"held out, {h} s [rad]" for h in horizons), "more than the chosen one", "")
    rows = []
    for row in keys["selection"]:
        cells = [interval(row["held_out"][h]["position_rmse"]) for h in horizons]
        more = interval(row["more_than_chosen"]) if row["more_than_chosen"] else ""
        rows.append((row["model"], *cells, more, "chosen" if row["chosen"] else ""))
    text = "<p>The simplest model that no later one beats with an interval that excludes zero.</p>"
    return [("Models", text + table(head, rows))]


def _residual(keys: Keys) -> list[Section]:
    told = keys.get("residual")
    if not told:
        return []
    rows = [(name, interval(gap)) for name, gap in told["held_out"].items()]
    head = ("recordings held out", "position RMSE with less that without [rad]")
    return [("Residual of the actuators", f"<p>{told['why']}</p>" + table(head, rows))]


def _parameters(keys: Keys) -> Section:
    head = ("parameter", "unit", "estimate", "95 % interval", "by bootstrap", "known from the logs", "identified")
    rows = []
    for name, p in keys["parameters"].items():
        drawn = keys["bootstrap"].get(name)
        share = f"{p['information']:.0%}" if "information" in p else ""
        rows.append((
            name, p["unit"], f"{p['estimate']:.4g}", _ends(p["ci95"]), _ends(drawn) if drawn else "", share,
            "yes" if p["identified"] else "no: it stays at its prior",
        ))  # fmt: skip
    late = f"<p>Delay in all: {interval(keys['delay_ms'])} ms.</p>"
    return "Parameters", late + table(head, rows)


def _ends(ends: Sequence[float]) -> str:
    return f"[{ends[0]:.4g}, {ends[1]:.4g}]"


def _delay(keys: Keys) -> list[Section]:
    return [("Profile of the delay", embed(figure_profile(keys["profile"])))] if keys.get("profile") else []


def figure_profile(profile: Keys) -> go.Figure:
    """Minus log-likelihood over the delay, with the level at which a 95 % interval ends."""
    figure = go.Figure()
    figure.add_scatter(x=[1e3 * v for v in profile["values"]], y=profile["costs"], mode="lines+markers")
    figure.add_hline(y=1.92, line_dash="dot", annotation_text="95 %")
    figure.update_layout(
        **_LAYOUT, height=320, xaxis_title=f"{profile['name']} [ms]", yaxis_title="minus log-likelihood, less its least"
    )
    return figure


def _correlation(keys: Keys) -> Section:
    text = "<p>Between coordinates: a pair near 1 or -1 is known better together than each by itself.</p>"
    return "Correlation", text + embed(figure_correlation(keys["correlation"]))


def figure_correlation(correlation: Keys) -> go.Figure:
    """The correlation matrix of the estimates."""
    names = correlation["names"]
    heat = go.Heatmap(z=correlation["matrix"], x=names, y=names, zmin=-1, zmax=1, colorscale="RdBu")
    figure = go.Figure(heat)
    layout = _LAYOUT | {"margin": {"l": 260, "r": 20, "t": 20, "b": 220}, "font": {"size": 10}}
    figure.update_layout(**layout, height=300 + 16 * len(names), yaxis_autorange="reversed")
    return figure


def _episodes(keys: Keys) -> list[Section]:
    zeros = keys["zeros"]
    if not zeros:
        return []
    joints = list(next(iter(zeros.values())))
    head = ("recording", *(f"zero of {j} [rad]" for j in joints), "set up")
    rows = []
    for name, values in zeros.items():
        found = keys["settings"].get(name) or {}
        kinds = sorted({f"{t.rsplit('/', 1)[1]} {v:.4g}" for t, v in found.items()})
        rows.append((name, *(f"{values[j]:+.4f}" for j in joints), ", ".join(kinds)))
    return [("Recordings", table(head, rows))]
