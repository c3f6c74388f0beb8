"""The table of a sweep as one offline HTML page, sortable by a click on a column's head."""

from __future__ import annotations

import html
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from robot import config, files

_PAGE = """<!doctype html>
<html lang="en"><meta charset="utf-8"><title>{title}</title>
<meta name="viewport" content="width=device-width, initial-scale=1"><link rel="icon" href="data:,">
<style>
body{{font:15px/1.45 sans-serif;margin:2rem 1rem}}.wide{{overflow:auto;max-height:85vh}}
table{{border-collapse:collapse}}
th,td{{padding:.25em .7em;border-bottom:1px solid #ddd;text-align:right;font-variant-numeric:tabular-nums}}
th{{cursor:pointer;background:#f4f4f4;position:sticky;top:0}}th.up::after{{content:" \\25B2"}}
th.down::after{{content:" \\25BC"}}td.text{{text-align:left}}tr.best{{background:#e8f4e8}}
</style>
<h1>{title}</h1>
<p>{count} rows; the best by {metric} is marked. A click on a column's head sorts by it.</p>
<div class="wide"><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>
<script>
document.querySelectorAll("th").forEach((th, column) => th.addEventListener("click", () => {{
  const body = document.querySelector("tbody"), up = !th.classList.contains("up");
  const value = row => row.cells[column].dataset.value;
  const rows = [...body.rows].sort((a, b) => {{
    const x = parseFloat(value(a)), y = parseFloat(value(b));
    const order = isNaN(x) || isNaN(y) ? (isNaN(x) - isNaN(y)) || value(a).localeCompare(value(b)) : x - y;
    return up ? order : -order;
  }});
  document.querySelectorAll("th").forEach(other => other.classList.remove("up", "down"));
  th.classList.add(up ? "up" : "down");
  body.append(...rows);
}}));
</script>
</html>
"""


def page(title: str, rows: Sequence[Mapping[str, Any]], metric: str) -> str:
    """Rows of a table whose columns are all keys that occur; the one with the highest `metric` is marked."""
    columns = list(dict.fromkeys(key for row in rows for key in row if any(r.get(key) not in (None, "") for r in rows)))
    known = [row for row in rows if isinstance(row.get(metric), (int, float))]
    best = max(known, key=lambda row: float(row[metric]), default=None)
    body = "".join(
        ("<tr class='best'>" if row is best else "<tr>") + "".join(_cell(c, row.get(c)) for c in columns) + "</tr>"
        for row in rows
    )
    head = "".join(f"<th>{html.escape(column)}</th>" for column in columns)
    return _PAGE.format(title=html.escape(title), count=len(rows), metric=html.escape(metric), head=head, body=body)


def _cell(column: str, value: Any) -> str:
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    text = f"{value:.4g}" if isinstance(value, float) else "" if value is None else str(value)
    shown = html.escape(text)
    if column == "folder" and text:
        shown = f'<a href="{shown}">{shown}</a>'
    raw = html.escape(repr(value) if number else text, quote=True)
    kind = "number" if number else "text"
    return f'<td data-value="{raw}" class="{kind}">{shown}</td>'


def of_multirun(folder: Path) -> Path | None:
    """sweep.html of the jobs that Hydra's --multirun left in a folder; None where it left none."""
    rows = []
    for job in sorted((p for p in folder.iterdir() if p.is_dir() and p.name.isdigit()), key=lambda p: int(p.name)):
        overrides = config.load_yaml(job / ".hydra" / "overrides.yaml") if (job / ".hydra").is_dir() else []
        row: dict[str, Any] = {"job": int(job.name), "state": "running or failed"}
        row |= {k.lstrip("+~"): v for k, _, v in (str(o).partition("=") for o in overrides or [])}
        if (job / "result.json").exists():
            result = json.loads((job / "result.json").read_text())
            numbers = {k: v for k, v in result.items() if isinstance(v, (int, float)) and not isinstance(v, bool)}
            means = {k: v["mean"] for k, v in result.items() if isinstance(v, dict) and "mean" in v}
            row |= {"state": "complete", **means, **numbers}
        rows.append(row | {"folder": job.name})
    if not rows:
        return None
    metric = next((m for m in ("success", "return", "overall") if any(m in row for row in rows)), "job")
    files.write_text(folder / "sweep.html", page(f"sweep in {folder.name}", rows, metric))
    return folder / "sweep.html"
