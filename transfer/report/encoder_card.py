"""An encoder's card: card.json, and card.html, one page that opens offline, beside the encoder's weights.

transfer/examine_physics.py and examine_vision.py measure; this draws. A section is a function of what was measured;
to add one: write it, and name it in _SECTIONS. Pictures (occlusion, neighbours) are files in the same folder, and
inside the page.
"""

from __future__ import annotations

import base64
import html
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from policies.encoders.calibration import miscalibration
from robot import config, files
from transfer.report import encoder_figures as figures
from transfer.report.page import Section, document, embed, interval, table

JSON, HTML = "card.json", "card.html"
FACTS = (
    "robot", "kind", "version", "fingerprint", "network", "context", "history", "control_period_s", "cameras", "height",
    "width", "features", "states", "keypoints", "components", "actuators", "parameters",
)  # fmt: skip
"""Of encoder.yaml, what the page shows."""


def write(folder: Path, measured: Mapping[str, Any]) -> Path:
    """Write card.json and card.html into an encoder's folder; returns the page.

    measured: what examine() of transfer/examine_physics.py or transfer/examine_vision.py returned.
    """
    folder = Path(folder)
    facts = config.load_yaml(folder / "encoder.yaml")
    card = plain({"encoder": {k: facts[k] for k in FACTS if k in facts}, "scores": facts.get("scores", {}), **measured})
    files.write_json(folder / JSON, card)
    title = f"The {card['kind']} encoder of {facts['robot']}"
    sections = [section for make in _SECTIONS for section in make(card, folder)]
    files.write_text(folder / HTML, document(title, sections))
    return folder / HTML


def plain(value: Any) -> Any:
    """Arrays and numbers of numpy as lists and numbers of Python; what is not finite as None."""
    if isinstance(value, Mapping):
        return {str(k): plain(v) for k, v in value.items()}
    if isinstance(value, np.ndarray):
        return plain(value.tolist())
    if isinstance(value, (list, tuple)):
        return [plain(v) for v in value]
    if isinstance(value, np.generic):
        return plain(value.item())
    if isinstance(value, float) and not np.isfinite(value):
        return None
    return value


def _p(text: str) -> str:
    return f"<p>{text}</p>"


def _picture(folder: Path, name: str, about: str) -> str:
    data = base64.b64encode((folder / name).read_bytes()).decode()
    return f"<img alt='{html.escape(about)}' src='data:image/png;base64,{data}' style='max-width:100%'>"


def _short(value: Any) -> str:
    if isinstance(value, list):
        return (
            ", ".join(map(str, value)) if len(value) <= 12 else f"{len(value)}: {', '.join(map(str, value[:8]))}, ..."
        )
    return f"{value:.6g}" if isinstance(value, float) else str(value)


def _summary(card: Mapping[str, Any], folder: Path) -> list[Section]:
    lines = [*_in_words(card)]
    facts = table(("", ""), [(k.replace("_", " "), _short(v)) for k, v in card["encoder"].items()])
    return [("In short", "<ul>" + "".join(f"<li>{line}</li>" for line in lines) + "</ul>" + facts)]


def _in_words(card: Mapping[str, Any]) -> list[str]:
    """What a reader should take away, from the figures."""
    lines = []
    read, words = card["readout"], card["words"]
    clear = [n for n in figures.in_order(read) if n in card["readable"]]
    rest = [n for n in card["units"] if n in read and n not in clear]
    if clear:
        best = ", ".join(f"<b>{html.escape(n)}</b> ({read[n]['encoder']['mean']:.2f})" for n in clear)
        lines.append(f"Linearly readable (R² ≥ {card['effort']['readable_from']:g}): {best}.")
    if rest:
        lines.append(
            f"Not readable from what it was given: {', '.join(map(html.escape, rest))}. "
            "Nothing that builds on this encoder can adapt to them."
        )
    off = [(n, c) for n, c in card["calibration"].items() if miscalibration(c["curve"]) > 0.05]
    if off:
        name, worst = max(off, key=lambda item: miscalibration(item[1]["curve"]))
        level, inside = max(
            ((float(k), v["mean"]) for k, v in worst["coverage"].items()), key=lambda pair: abs(pair[1] - pair[0])
        )
        lines.append(
            f"Its stated uncertainty is off for {len(off)} of {len(card['calibration'])} quantities, most for "
            f"{html.escape(name)}: {inside:.0%} of the truths lie inside its {level:.0%} interval (too "
            f"{'sure' if inside < level else 'cautious'})."
        )
    elif card["calibration"]:
        lines.append("Its stated uncertainty can be taken at its word (see the reliability figure).")
    for what, found in card["robustness"].items():
        if what == words["robust"] and found["terms"]:
            top = found["terms"][0]
            most = max(top["low"]["mean"], top["high"]["mean"])
            lines.append(
                f"The most harmful term of the prior is {html.escape(top['term'])}: {most:.3g} {words['unit']}, "
                f"beside {found['nominal']['mean']:.3g} at the nominal."
            )
    return lines


def _readout(card: Mapping[str, Any], folder: Path) -> list[Section]:
    read, effort = card["readout"], card["effort"]
    if not read:
        return []
    note = _p(
        "A ridge regression on the encoder's output, judged on simulations that neither has seen; 0 is no better than "
        "the mean. Beside it the same regression on other features of the same rows: the input itself, an untrained "
        f"network of this architecture, and one that was trained on these {effort['rows']} rows to tell exactly these "
        f"quantities, for {effort['scratch_updates']} updates: far fewer than the encoder had, for a card must be "
        "cheap, so what it reaches is a lower bound. Intervals are bootstraps over simulations, 95 %. "
        + card["words"]["readout"]
    )
    rows = [(n, *(interval(read[n].get(k), 2) for k in figures.BESIDE)) for n in figures.in_order(read)]
    head: tuple[str, ...] = ("quantity", *(title for title, _, _ in figures.BESIDE.values()))
    if best := card.get("attainable"):
        note += _p(
            "At best: what a full window with these sensors' noise can tell of this prior at all, from the simulator's "
            "sensitivities. Probes also see the shorter windows of starts."
        )
        head = (*head, "at best")
        rows = [(*row, f"{best[row[0]]:.2f}" if row[0] in best else "") for row in rows]
    label = "R² (contact: area under the ROC curve)" if "contact" in read else "R²"
    return [("What can be linearly read", note + embed(figures.figure_readout(read, label)) + table(head, rows))]


def _calibration(card: Mapping[str, Any], folder: Path) -> list[Section]:
    found = card["calibration"]
    if not found:
        return []
    note = _p(
        "The encoder tells with each estimate how wrong it may be. Coverage: how often the truth lies inside its "
        "interval of 50, 80 and 95 %. Sharpness: the stated deviation over the prior's (1 says nothing). The negative "
        "log likelihood must lie below the prior's, or the estimate is worth nothing."
    )
    rows = [
        (n, *(interval(c["coverage"][level], 2) for level in ("0.5", "0.8", "0.95")), f"{c['sharpness']:.2f}",
         f"{c['error']:.2f}", interval(c["nll"], 3), f"{c['nll_prior']['mean']:.3g}")
        for n, c in found.items()
    ]  # fmt: skip
    head = (
        "quantity", "inside 50 %", "inside 80 %", "inside 95 %", "sharpness", "error / prior", "NLL", "NLL of the prior"
    )  # fmt: skip
    return [("Does it know how sure it is?", note + embed(figures.figure_reliability(found)) + table(head, rows))]


def _robustness(card: Mapping[str, Any], folder: Path) -> list[Section]:
    found, words = card["robustness"], card["words"]
    if not found or not found[words["robust"]]["terms"]:
        return []
    note = _p(words["robustness"])
    content = embed(figures.figure_robustness(found[words["robust"]], words["axis"]))
    head = ["term"]
    for name in found:
        head += [f"{name.replace('_', ' ')}, low", "high"]
    by_term = {name: {row["term"]: row for row in part["terms"]} for name, part in found.items()}
    order = [row["term"] for row in found[words["robust"]]["terms"]]
    rows = [
        (term, *(interval(by_term[name][term][side], 2) for name in found for side in ("low", "high")))
        for term in order
    ]
    rows += [
        (about, *(cell for name in found for cell in (interval(found[name][key], 2), "")))
        for about, key in (("nominal", "nominal"), ("whole prior", "prior"))
    ]
    return [("Robustness, term by term", note + content + table(head, rows))]


def _novelty(card: Mapping[str, Any], folder: Path) -> list[Section]:
    found = card["novelty"]
    if not found["auroc"]:
        return []
    note = _p(card["words"]["novelty"])
    judges = [k for k in ("windows", "recordings", "frames") if k in next(iter(found["auroc"].values()))]
    head = ("shift", *(f"AUROC, {j}" for j in judges), *(f"called strange, {j}" for j in judges))
    rows = [
        (n, *(interval(r[j], 2) for j in judges), *(f"{r[f'strange_{j}']:.0%}" for j in judges))
        for n, r in found["auroc"].items()
    ]
    inside = _p(f"Simulations of the prior itself: {found['inside']['strange_share']:.1%} are called strange.")
    content = note + embed(figures.figure_novelty(found["auroc"])) + table(head, rows) + inside
    return [("Does it notice what it has not seen?", content)]


def _attribution(card: Mapping[str, Any], folder: Path) -> list[Section]:
    found = card.get("attribution") or {}
    if not found:
        return []
    gap = max(found["gap"])
    note = _p(
        f"Integrated gradients over {found['windows']} windows, against a window in which nothing happens: mean size "
        f"of each reading's share in the estimate. The shares miss the estimates by {gap:.1%} at most (completeness)."
    )
    half = ", ".join(
        f"{html.escape(n)} {s:.2f} s" for n, s in zip(found["parameters"], found["half_within_s"], strict=True)
    )
    content = embed(figures.figure_channels(found)) + embed(figures.figure_age(found))
    return [("What it looks at", note + content + _p(f"Half of the estimate comes from the last: {half}."))]


def _pictures(card: Mapping[str, Any], folder: Path) -> list[Section]:
    return [
        (p["title"], _p(p["note"]) + _picture(folder, p["file"], p["title"]))
        for p in card.get("pictures", [])
        if (folder / p["file"]).is_file()
    ]


_SECTIONS: tuple[Callable[[Mapping[str, Any], Path], list[Section]], ...] = (
    _summary, _readout, _calibration, _robustness, _novelty, _attribution, _pictures,
)  # fmt: skip
