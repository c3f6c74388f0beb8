"""The page of a stress run: scores, the heat map, and the worst case with its trajectory."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from sim.arena import Trace
from transfer.report.page import Section, document, embed, robustness, table
from transfer.report.stress_figures import figure_trace
from transfer.worst_case import WorstCase


def page(
    title: str, result: Mapping[str, Any] | None, worst: WorstCase | None, trace: Trace | None, channels: Sequence[str],
    joints: Sequence[str],
) -> str:  # fmt: skip
    """HTML that opens without a network."""
    sections = [] if result is None else robustness(result)
    if worst is not None and trace is not None:
        sections.append(worst_section(worst, trace, joints, channels))
    return document(title, sections)


def worst_section(worst: WorstCase, trace: Trace, joints: Sequence[str], channels: Sequence[str]) -> Section:
    """What the most harmful perturbation is, and what it does."""
    told = "fails" if not worst.success else "still succeeds"
    text = f"<p>The controller {told} under it; its size is {worst.size:.3f}, where 1 is everything at its end.</p>"
    values = [(name, f"{value:.5g}") for name, value in worst.perturbation.values.items()]
    pulses = [(p.channel, f"{p.time_s:.2f}", f"{p.width_s:.3f}", f"{p.size:.3g}") for p in worst.perturbation.pulses]
    content = text + embed(figure_trace(trace, joints, channels)) + table(("quantity", "value"), values)
    return "The most harmful perturbation found", content + table(("push on", "at [s]", "width [s]", "size"), pulses)
