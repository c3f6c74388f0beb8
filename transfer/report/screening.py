"""screening.html: what was found in each recording, with a figure for each finding, and the rules; opens offline."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING

import plotly.graph_objects as go

from robot import files
from transfer.dataset import Episode
from transfer.report.page import Section, document, embed, table
from transfer.screen import KINDS
from transfer.screening.config import ScreenConfig
from transfer.screening.signals import Evidence, Noticed

if TYPE_CHECKING:
    from transfer.ingest import Judged

COLOURS = ("#2c6fb3", "#b3452c", "#3d8f5b", "#8a4fa3")


def write(path: Path, judged: Sequence[Judged], episodes: Sequence[Episode], config: ScreenConfig) -> Path:
    """Write the page; episodes as they stand in the index, in the order of what was judged."""
    files.write_text(path, document("Screening", list(_sections(judged, episodes, config))))
    return path


def _sections(judged: Sequence[Judged], episodes: Sequence[Episode], config: ScreenConfig) -> Iterator[Section]:
    yield "Recordings", _summary(episodes)
    left = config.figures
    for one, episode in zip(judged, episodes, strict=True):
        if not one.noticed:
            continue
        rows = [
            (n.kind, "blocks" if f.blocking else "", n.channel, n.where, n.detail)
            for n, f in zip(one.noticed, episode.findings, strict=True)
        ]
        figures, left = _figures(one.noticed, left)
        content = table(("finding", "", "channel", "where", "what"), rows) + figures
        yield f"{Path(episode.source).name}: {'accepted' if episode.accepted else 'not accepted'}", content
    yield "What the findings mean", _meanings(episodes)
    thresholds = [(f.name, f"{getattr(config, f.name):g}") for f in fields(config)]
    yield "Thresholds", "<p>screen.NAME=VALUE on the command line.</p>" + table(("name", "value"), thresholds)


def _summary(episodes: Sequence[Episode]) -> str:
    rows = [
        (Path(e.source).name, f"{e.seconds:.1f}", "yes" if e.accepted else "no", e.label,
         ", ".join(dict.fromkeys(f.kind for f in e.findings)) or "none")
        for e in episodes
    ]  # fmt: skip
    accepted = [e for e in episodes if e.accepted]
    words = f"<p>{len(accepted)} of {len(episodes)} recordings accepted, {sum(e.seconds for e in accepted):.1f} s.</p>"
    return words + table(("recording", "seconds", "accepted", "label", "findings"), rows)


def _figures(noticed: Sequence[Noticed], left: int) -> tuple[str, int]:
    """Figures of the findings that have one, at most `left`; says how many were left out."""
    shown = [n for n in noticed if n.evidence is not None]
    out = [embed(figure(f"{n.kind}: {n.channel or 'file'}, {n.where}", n.evidence)) for n in shown[:left] if n.evidence]
    if len(shown) > left:
        out.append(f"<p>{len(shown) - left} more figure(s) left out: raise screen.figures to see them.</p>")
    return "".join(out), max(0, left - len(shown))


def figure(title: str, evidence: Evidence) -> go.Figure:
    """The evidence of one finding: its traces, and the stretch that it is about."""
    drawn = go.Figure()
    for (name, (t, values)), colour in zip(evidence.traces.items(), COLOURS, strict=False):
        drawn.add_scatter(
            x=t.tolist(), y=values.tolist(), name=name, mode="lines+markers", line={"color": colour, "width": 1},
            marker={"size": 3},
        )  # fmt: skip
    if evidence.mark is not None:
        start, end = evidence.mark
        if end > start:
            drawn.add_vrect(x0=start, x1=end, fillcolor="#d98c21", opacity=0.25, line_width=0)
        else:
            drawn.add_vline(x=start, line_color="#d98c21")
    drawn.update_layout(
        template="simple_white",
        height=240,
        margin={"l": 60, "r": 20, "t": 34, "b": 40},
        font={"size": 12},
        title={"text": title, "font": {"size": 13}},
        xaxis_title=evidence.across,
        yaxis_title=evidence.label,
    )
    return drawn


def _meanings(episodes: Sequence[Episode]) -> str:
    seen = {f.kind for e in episodes for f in e.findings}
    rows = [(kind, "yes" if blocks else "no", means) for kind, (blocks, means) in KINDS.items() if kind in seen]
    return table(("finding", "blocks", "it means"), rows) if rows else "<p>Nothing was found.</p>"
