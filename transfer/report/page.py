"""One offline HTML page of a run: did the transfer work, by how much, and from what was it made."""

from __future__ import annotations

import hashlib
import html
from collections.abc import Iterable, Mapping, Sequence
from importlib import resources
from pathlib import Path
from string import Template
from typing import Any

import plotly.graph_objects as go
from plotly.offline import get_plotlyjs

from transfer.energy import Assumptions
from transfer.report import figures, lineage_table
from transfer.report.collect import StageResult
from transfer.report.stress_figures import figure_heat, title_of
from transfer.stress import CRITERIA

Nominal = Mapping[str, float]


def build_page(title: str, stages: Sequence[StageResult], nominal: Nominal, assumed: Assumptions) -> str:
    """The page's HTML, with the plotting code inside, so that it opens without a network.

    `nominal`: nominal values of the identified targets, for the parameter figure. `assumed`: for the energy.
    """
    sections = [
        *_verdict(stages),
        *_gap(stages),
        *_budget(stages),
        *_curves(stages),
        *_parameters(stages, nominal),
        *_candidates(stages),
        *_probes(stages),
        *(section for s in _of(stages, "stress") if "rows" in s.result for section in robustness(s.result)),
        *_deployment(stages),
        *_variants(stages),
        *_screening(stages),
        *_lineage(stages, assumed),
    ]
    return document(title, sections)


Section = tuple[str, str]
"""A heading, and HTML below it."""


def document(title: str, sections: Iterable[Section]) -> str:
    """Sections as one HTML page that needs no network."""
    body = "\n".join(f"<section><h2>{html.escape(name)}</h2>{content}</section>" for name, content in sections)
    template = (resources.files("transfer.report") / "template.html").read_text(encoding="utf-8")
    return Template(template).substitute(title=html.escape(title), plotly=get_plotlyjs(), body=body)


def _of(stages: Sequence[StageResult], stage: str) -> list[StageResult]:
    return [s for s in stages if s.stage == stage]


def embed(figure: go.Figure) -> str:
    """A figure as HTML for document(); the same figure gives the same text, so that pages can be compared by hash."""
    name = "figure-" + hashlib.sha256(str(figure.to_json()).encode()).hexdigest()[:16]
    options = {"displayModeBar": False}
    drawn = figure.to_html(full_html=False, include_plotlyjs=False, config=options, div_id=name)
    names = (figure.layout.margin.l or 0) > 100  # which leave little of a narrow window beside them
    return f"<div class='wide'><div class='labelled'>{drawn}</div></div>" if names else str(drawn)


def table(head: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    """An HTML table; cells are escaped."""
    cells = "".join(f"<th>{html.escape(h)}</th>" for h in head)
    lines = ("<tr>" + "".join(f"<td>{html.escape(str(c))}</td>" for c in row) + "</tr>" for row in rows)
    return f"<div class='wide'><table><thead><tr>{cells}</tr></thead><tbody>{''.join(lines)}</tbody></table></div>"


def interval(value: Mapping[str, Any] | None, digits: int = 3) -> str:
    """`0.061 [0.055, 0.068]`, or why there is no figure."""
    if value is None or value["mean"] is None:
        return "not measured" if value is None else value.get("note", "not measured")
    low, high = value["ci95"]
    return f"{value['mean']:.{digits}g} [{low:.{digits}g}, {high:.{digits}g}]"


def percent(value: Mapping[str, Any]) -> str:
    """`94 % [88, 97], n = 100`"""
    low, high = value["ci95"]
    return f"{value['mean']:.0%} [{low:.0%}, {high:.0%}], n = {value['n']}"


def _verdict(stages: Sequence[StageResult]) -> list[Section]:
    demo = next(iter(_of(stages, "demo")), None)
    trials, compared = {}, ""
    for s in _of(stages, "trials"):
        name = s.name.rsplit("/", 1)[-1].removeprefix("trials_")
        trials[name] = s.result["success"]
        if "against" in s.result:
            trials[f"{name}: against"] = s.result["against"]["success"]
            if (found := s.result["difference"]) is not None:
                compared += (
                    f"<p>{html.escape(name)}: difference {interval(found)}, {html.escape(found['verdict'])}.</p>"
                )
    if demo is not None:
        summary = demo.result["summary"]
        names = {
            "zero_shot_success": "zero-shot",
            "finetuned_success": "fine-tuned",
            "from_scratch_success": "from scratch",
            "pixels_zero_shot_success": "camera only",
            "pixels_adapted_success": "camera, adapted",
        }
        trials = {label: summary[name] for name, label in names.items() if name in summary}
    if not trials:
        return []
    rows = [(name, percent(rate)) for name, rate in trials.items()]
    text = f"<p>Episodes of the deployed controller on the robot; intervals are Wilson's, 95 %.</p>{compared}"
    return [
        ("Did the transfer work?", text + embed(figures.figure_success(trials)) + table(("policy", "success"), rows))
    ]


def _gap(stages: Sequence[StageResult]) -> list[Section]:
    evaluated = [s for s in _of(stages, "evaluate") if "prediction" in s.result]
    before = next((s for s in evaluated if s.result.get("model") == "nominal"), None)
    after = next((s for s in evaluated if s.result.get("model") != "nominal"), None)
    shown = [s for s in (before, after) if s is not None]
    if not shown:
        return []
    head = ("model", "horizon [s]", "position RMS [rad]", "velocity RMS [rad/s]", "windows")
    rows = [
        (
            Path(s.result["model"]).name,
            h,
            interval(p["position_rmse"]),
            interval(p["velocity_rmse"]),
            s.result["windows"],
        )
        for s in shown
        for h, p in sorted(s.result["prediction"].items(), key=lambda item: float(item[0]))
    ]
    figure = ""
    if before is not None and after is not None:
        figure = embed(figures.figure_gap(before.result["prediction"], after.result["prediction"]))
    note = "<p>Open-loop prediction of recordings that no fit has seen; intervals by bootstrap over windows.</p>"
    return [("The gap between simulation and robot", note + figure + table(head, rows))]


def _budget(stages: Sequence[StageResult]) -> list[Section]:
    sections = []
    for stage in (s for s in _of(stages, "evaluate") if "gap_budget" in s.result):
        steps = stage.result["gap_budget"]
        horizons = list(steps[0]["prediction"])
        head = ("step", *(f"position RMS at {h} s [rad]" for h in horizons), f"change at {horizons[1]} s [rad]")
        rows = [
            (
                step["step"],
                *(interval(step["prediction"][h]["position_rmse"]) for h in horizons),
                interval(step["change"][horizons[1]]) if step["change"] else "",
            )
            for step in steps
        ]
        note = (
            f"<p>What each part of {html.escape(Path(stage.result['model']).name)} takes off, one after the other; "
            "changes are paired by window.</p>"
        )
        sections.append(("Gap budget", note + embed(figures.figure_budget(steps, horizons[1])) + table(head, rows)))
    return sections


def _curves(stages: Sequence[StageResult]) -> list[Section]:
    curves = {name: rows for s in stages for name, rows in s.curves.items() if rows and "env_steps" in rows[0]}
    if not curves:
        return []
    content = embed(figures.figure_curves(curves, "success", "success in simulation"))
    return [("Learning curves", content + embed(figures.figure_curves(curves, "return", "return")))]


def _parameters(stages: Sequence[StageResult], nominal: Nominal) -> list[Section]:
    sections = []
    for stage in _of(stages, "identify"):
        parameters = stage.result["parameters"]
        rows = [
            (name, p["unit"], f"{nominal[name]:.4g}" if name in nominal else "", f"{p['estimate']:.4g}",
             f"[{p['ci95'][0]:.4g}, {p['ci95'][1]:.4g}]", "yes" if p["identified"] else "no: stays at the prior")
            for name, p in parameters.items()
        ]  # fmt: skip
        head = ("parameter", "unit", "nominal", "estimate", "95 % interval", "identified by the logs")
        sections.append(
            ("What the logs say about the robot",
             embed(figures.figure_parameters(parameters, nominal)) + table(head, rows))
        )  # fmt: skip
    return sections


def _candidates(stages: Sequence[StageResult]) -> list[Section]:
    sections = []
    for stage in _of(stages, "finetune"):
        if "candidates" not in stage.result:
            continue  # of an encoder
        selected = stage.result["selected"]
        rows = [
            (
                c["method"] + (" (selected)" if c["method"] == selected else ""),
                interval(c["real_score"]),
                interval(c["source_return"]),
                "yes" if c["accepted"] else "no",
                c["why"],
            )
            for c in stage.result["candidates"]
        ]
        head = ("candidate", "score on held-out evidence", "return in the source simulation", "accepted", "why")
        kpis = [(k, interval(v)) for k, v in stage.result["kpis"].items()]
        forgetting = stage.result["forgetting"]
        kpis += [(f"source simulation, success {k}", percent(forgetting[f"success_{k}"])) for k in ("before", "after")]
        sections.append(
            ("Fine-tuning: what was tried and what was kept", table(head, rows) + table(("KPI", "value"), kpis))
        )
    return sections


def _probes(stages: Sequence[StageResult]) -> list[Section]:
    rows = [
        (s.name, probe, f"{p['score']:.3f}", f"{p['baseline']:.3f}")
        for s in _of(stages, "pretrain")
        for probe, p in s.result["probes"].items()
    ]
    head = ("encoder", "probe", "score", "baseline")
    return [("What the encoder knows", table(head, rows))] if rows else []


def robustness(result: Mapping[str, Any]) -> list[Section]:
    """Scores and heat map, of the result of a stress suite."""
    found = result["intervals"]
    rows = [(c, percent(found[c])) for c in CRITERIA if c in found] + [("overall", interval(found["overall"]))]
    note = f"<p>Suite {result['suite']}. Intervals of shares are Wilson's, 95 %.</p>"
    lines = [(r["criterion"], title_of(r), percent(r)) for r in result["rows"]]
    head = ("criterion", "what is varied", "runs that succeed")
    return [
        ("What the controller bears", note + table(("criterion", "share of runs that succeed"), rows)),
        ("Where it fails", embed(figure_heat(result["rows"])) + table(head, lines)),
    ]


def _deployment(stages: Sequence[StageResult]) -> list[Section]:
    rows: list[tuple[str, str, str]] = []
    for stage in stages:
        result = stage.result
        if stage.stage == "export":
            rows.append((stage.name, "parity torch - ONNX, largest error", f"{result['parity_max_error']:.2g}"))
            rows += [
                (
                    stage.name,
                    f"{v['name']}: latency p50 / p99 [us]",
                    f"{v['latency_us_p50']:.0f} / {v['latency_us_p99']:.0f}",
                )
                for v in result["variants"]
                if v["latency_us_p50"] is not None
            ]
        elif stage.stage == "verify":
            rows += [
                (stage.name, c["name"], ("ok: " if c["ok"] else "FAILED: ") + c["detail"]) for c in result["checks"]
            ]
        elif stage.stage == "run":
            tick = result["tick_us"]
            rows.append((stage.name, "ticks, missed deadlines", f"{result['ticks']}, {result['missed_deadlines']}"))
            rows.append(
                (stage.name, "tick p50 / p99 / max [us]", f"{tick['p50']:.0f} / {tick['p99']:.0f} / {tick['max']:.0f}")
            )
    return [("The controller file", table(("stage", "check", "result"), rows))] if rows else []


def _variants(stages: Sequence[StageResult]) -> list[Section]:
    """Networks that may take the float32 one's place, and why or why not."""
    rows = [
        (
            stage.name,
            v["name"],
            "yes" if v["accepted"] else "no",
            v["why"],
            v["bytes"] or "",
            *(interval(v.get(name)) for name in ("latency_ratio", "success", "return", "stress")),
        )
        for stage in _of(stages, "export")
        for v in stage.result["variants"]
        if "why" in v
    ]
    head = (
        "stage",
        "network",
        "accepted",
        "why not",
        "bytes",
        "time, float32 = 1",
        "success",
        "return",
        "stress score",
    )
    note = (
        "<p>Each in closed loop on the same robots, starts and disturbances as the float32 network; timed by turns. "
        "Intervals: 95 %.</p>"
    )
    return [("Variants of the controller", note + table(head, rows))] if rows else []


def _source(path: str) -> str:
    """The folder is named too: a recorder calls every file alike."""
    return "/".join(Path(path).parts[-2:])


def _screening(stages: Sequence[StageResult]) -> list[Section]:
    rows = [
        (s.name, _source(e["source"]), f"{e['seconds']:.1f}", "yes" if e["accepted"] else "no",
         "; ".join(f"{f['kind']}: {f['detail']}" for f in e["findings"]) or "none")
        for s in _of(stages, "ingest")
        for e in s.result["episodes"]
    ]  # fmt: skip
    head = ("stage", "recording", "seconds", "accepted", "findings")
    return [("Recordings", table(head, rows))] if rows else []


def _lineage(stages: Sequence[StageResult], assumed: Assumptions) -> list[Section]:
    text, head, rows = lineage_table.of(stages, assumed)
    return [("Lineage", f"<p>{html.escape(text)}</p>" + table(head, rows))]
