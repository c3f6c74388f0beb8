"""How long each stage takes on N machines, where its bottleneck is, and what that costs: a model from measured costs.

    python -m tests.benchmarks.scale_model costs.json [measured.json] [figure=docs/scale.svg] [json=model.json]
           [page=docs/scale.md] [task=pendulum_swingup] [cores=2] [nodes=10,100,1000] [price_vcpu_hour=0.04] ...

Reads what scale_costs.py wrote. `measured.json` holds rows {"workers": W, "groups": G, "env_steps_per_s": r} of
trainings of `task` on one machine of `cores` cores; the model's rate stands beside each. Every field of Network and
Prices can be given as key=value. Prints markdown tables (seconds and bottleneck, bill, comparison), puts them into the
page, and draws the figure. A second of one core.

The model. Work falls into pieces, of which W = N x cores workers take one at a time.
  pieces apart (synthesize, identify, finetune, evaluate, stress, export):
      T = start + max(ceil(pieces / W) t, (N in + pieces out) / B, pieces h) + 2 l
  an update in parts (pretrain; one process a machine, a ring of messages):
      T = start + updates (u / min(N, batch) + 2 (N - 1) / N g / B + 2 (N - 1) l)
  synchronous rollouts of E control steps (train; the workers act and simulate, one learner updates):
      T = start + rollouts (E / S ceil(G / W) (c + S / G w) + E q + (N p + E b) / B + W h + 2 l)
with t CPU seconds of a piece; `in`, `out` bytes; h what the head works for a message, l the latency of one, B bytes a
second through the head's link; u CPU seconds of an update, g bytes of gradients; w and q CPU seconds of a control step
of one simulation in a worker and in the learner, c those that a worker works for however few simulations it steps, p
bytes of the policy, b of a control step, S simulations in G groups (default: one a worker). What it leaves out:
machines of unequal speed, waiting for the slowest piece, failures, and that batches may not grow without end.
"""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

from tests.benchmarks.scale_costs import fill, table

NODES = (1, 10, 100, 1000)


@dataclass(frozen=True, kw_only=True, slots=True)
class Network:
    """What machines and their network are taken to be; assumptions, but for one machine."""

    cores_per_node: int = 16
    bandwidth: float = 1.25e9
    """Of the head's link [B/s]: 10 Gbit/s."""
    latency_s: float = 3e-4
    """Of one message from a machine to another [s]."""
    handling_s: float = 2e-4
    """What the head works for a piece: an order given, an answer taken [s]."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Prices:
    """Of nobody in particular: put your own."""

    vcpu_hour: float = 0.04
    gigabyte: float = 0.02
    """That crosses the network to the head [1/GB]."""


@dataclass(frozen=True, slots=True)
class Job:
    """How much of a stage is asked for."""

    stage: str
    units: float
    what: str


JOBS = (
    Job("synthesize", 1000, "10^6 images"),
    Job("pretrain", 3, "3,000 updates, batch 128"),
    Job("train/pendulum_swingup", 0.32, "320,000 steps"),
    Job("train/quadruped_velocity", 12, "12 x 10^6 steps"),
    Job("identify", 64, "64 starts"),
    Job("finetune", 6, "6 candidates"),
    Job("evaluate", 100, "100,000 episodes"),
    Job("stress", 100, "100 suites"),
    Job("export", 20, "20 policies"),
)
BATCH = 128
EPISODES_A_PIECE = 100


@dataclass(frozen=True, slots=True)
class Time:
    """Seconds of a job on N machines, by what they go into; those of `apart` overlap, and the longest counts."""

    parts: dict[str, float]
    sent: float
    """Bytes through the head's link."""
    overlap: bool

    @property
    def seconds(self) -> float:
        start = self.parts["start"]
        rest = [v for k, v in self.parts.items() if k != "start"]
        return start + (max(rest) if self.overlap else sum(rest))

    @property
    def bottleneck(self) -> str:
        return max(self.parts, key=lambda k: self.parts[k])


def apart(row: dict[str, Any], units: float, nodes: int, net: Network) -> Time:
    """Pieces that know nothing of each other."""
    count = {"evaluate": 1000 / EPISODES_A_PIECE}.get(row["stage"], row["messages"])
    pieces, workers = max(1, round(units * count)), nodes * net.cores_per_node
    piece = row["cpu_s"] / count
    sent = min(nodes, pieces) * row["receives"] + units * row["sends"]
    work = math.ceil(pieces / workers) * piece
    parts = {
        "start": row["start_cpu_s"],
        "too few pieces" if pieces < workers else "work": work,
        "the head's link": sent / net.bandwidth,
        "the head's messages": pieces * net.handling_s + 2 * net.latency_s,
    }
    return Time(parts, sent, overlap=True)


def in_parts(row: dict[str, Any], units: float, nodes: int, net: Network) -> Time:
    """Updates whose batch is split, one process a machine; gradients go round in a ring."""
    updates, update, gradient = 1000 * units, row["cpu_s"] / 1000, row["sends"] / 1000
    sent = updates * 2 * (nodes - 1) * gradient
    parts = {
        "start": row["start_cpu_s"],
        "work": updates * update / min(nodes, BATCH),
        "gradients": updates * 2 * (nodes - 1) / nodes * gradient / net.bandwidth,
        "latency": updates * 2 * (nodes - 1) * net.latency_s,
    }
    return Time(parts, sent, overlap=False)


def rollouts(
    cost: dict[str, Any], units: float, nodes: int, net: Network, start: float, workers: int = 0, groups: int = 0
) -> Time:
    """One learner and workers that simulate.

    Of them are `workers` (default: all cores of all machines), for `groups` (default: one each) of simulations.
    """
    us, steps, simulations = cost["us_per_step"], cost["steps_per_rollout"], cost["simulations"]
    workers = min(workers or nodes * net.cores_per_node, simulations)
    at_once = min(workers, nodes * net.cores_per_node)
    groups = groups or at_once
    count = 1e6 * units / steps
    each = us["simulation"] + us["environment"] + us["inference"] - cost["us_per_call"] / simulations
    acting = 1e-6 * math.ceil(groups / at_once) * (cost["us_per_call"] + simulations / groups * each)
    sent = count * (min(nodes, workers) * cost["policy_bytes"] + steps * cost["bytes_per_step"])
    parts = {
        "start": start,
        "simulation": count * steps / simulations * acting,
        "the learner": count * steps * 1e-6 * (us["update"] + us["buffer"]),
        "the head's link": sent / net.bandwidth,
        "messages": count * (workers * net.handling_s + 2 * net.latency_s),
    }
    return Time(parts, sent, overlap=False)


def time_of(costs: dict[str, Any], job: Job, nodes: int, net: Network) -> Time | None:
    """A job on N machines; None where its stage was not measured."""
    if job.stage.startswith("train/"):
        task = job.stage.split("/")[1]
        found = next((t for t in costs["train"] if t["task"] == task), None)
        return found and rollouts(found, job.units, nodes, net, costs["worker_start_cpu_s"])
    row = next((r for r in costs["rows"] if r["stage"] == job.stage), None)
    return row and (in_parts if job.stage == "pretrain" else apart)(row, job.units, nodes, net)


def bill(time: Time, nodes: int, net: Network, prices: Prices) -> float:
    """All cores of all machines for as long as it takes, and what crosses the network."""
    hours = nodes * net.cores_per_node * time.seconds / 3600
    return hours * prices.vcpu_hour + (time.sent / 1e9 * prices.gigabyte if nodes > 1 else 0.0)


def compare(cost: dict[str, Any], rows: list[dict[str, Any]], cores: int) -> list[dict[str, float]]:
    """Measured and modelled control steps a second on one machine; through its memory, not a network."""
    net = Network(cores_per_node=cores, bandwidth=2e9, latency_s=1e-3)
    found = []
    for row in rows:
        rate = 1e6 / rollouts(cost, 1.0, 1, net, 0.0, workers=row["workers"], groups=row["groups"]).seconds
        found.append({"workers": row["workers"], "measured": row["env_steps_per_s"], "model": rate,
                      "error": rate / row["env_steps_per_s"] - 1})  # fmt: skip
    return found


def tables(costs: dict[str, Any], nodes: tuple[int, ...], net: Network, prices: Prices) -> tuple[str, str]:
    """Seconds with the bottleneck, and the bill, by machines."""
    head = " | ".join(f"{n:,}" for n in nodes)
    lines = [f"| job | {head} machines |", "|---|" + "---|" * len(nodes)]
    money = [f"| job | {head} machines |", "|---|" + "---|" * len(nodes)]
    for job in JOBS:
        times = [time_of(costs, job, n, net) for n in nodes]
        if any(t is None for t in times):
            continue
        shown = [f"{said(t.seconds)}, {t.bottleneck}" for t in times if t]
        lines.append(f"| `{job.stage.replace('/', ' task=')}`: {job.what} | " + " | ".join(shown) + " |")
        cost = [f"{bill(t, n, net, prices):.2f}" for t, n in zip(times, nodes, strict=True) if t]
        money.append(f"| `{job.stage.replace('/', ' task=')}`: {job.what} | " + " | ".join(cost) + " |")
    return "\n".join(lines), "\n".join(money)


def said(seconds: float) -> str:
    """A time as a reader says it."""
    if seconds >= 3600:
        return f"{seconds / 3600:.1f} h"
    return f"{seconds / 60:.1f} min" if seconds >= 120 else f"{seconds:.0f} s"


WIDTH, HEIGHT, LEFT, TOP, INNER_W, INNER_H = 760, 420, 60, 20, 480, 350
COLOURS = ("#1b6ca8", "#c8553d", "#3a7d44", "#8d5a97", "#b8860b", "#555555", "#2a9d8f", "#d1495b", "#6c757d")


def figure(costs: dict[str, Any], net: Network) -> str:
    """SVG: how many times sooner a job ends on N machines than on one; the dotted line is N."""
    points = [round(10 ** (k / 8)) for k in range(25)]
    lines: list[str] = []

    def place(n: float, gain: float) -> tuple[float, float]:
        return LEFT + INNER_W * math.log10(n) / 3, TOP + INNER_H * (1 - math.log10(max(gain, 0.1) * 10) / 4)

    for k in range(4):
        (x, _), (_, y) = place(10**k, 1), place(1, 10**k)
        lines.append(f'<text x="{x:.0f}" y="{TOP + INNER_H + 18}" text-anchor="middle">{10**k:,}</text>')
        lines.append(f'<text x="{LEFT - 8}" y="{y + 4:.0f}" text-anchor="end">{10**k:,}</text>')
        lines.append(f'<path d="M{LEFT} {y:.0f}H{LEFT + INNER_W}" stroke="#ddd"/>')
    (x0, y0), (x1, y1) = place(1, 1), place(1000, 1000)
    lines.append(f'<path d="M{x0:.0f} {y0:.0f}L{x1:.0f} {y1:.0f}" stroke="#999" stroke-dasharray="3 4"/>')
    ends: list[tuple[float, str, str]] = []
    for job, colour in zip(JOBS, COLOURS, strict=True):
        one = time_of(costs, job, 1, net)
        if one is None:
            continue
        gains = [(n, one.seconds / t.seconds) for n in points if (t := time_of(costs, job, n, net))]
        path = "L".join(f"{x:.1f} {y:.1f}" for x, y in (place(n, g) for n, g in gains))
        lines.append(f'<path d="M{path}" fill="none" stroke="{colour}" stroke-width="2"/>')
        ends.append((place(*gains[-1])[1], job.stage.replace("/", " "), colour))
    below = 0.0
    for y, name, colour in sorted(ends):
        below = max(y, below + 16)  # labels do not lie on each other
        lines.append(f'<text x="{LEFT + INNER_W + 8}" y="{below + 4:.0f}" fill="{colour}">{name}</text>')
    lines.append(f'<text x="{LEFT + INNER_W / 2}" y="{HEIGHT - 12}" text-anchor="middle">machines</text>')
    lines.append(f'<text x="14" y="{TOP + INNER_H / 2}" text-anchor="middle" transform="rotate(-90 14 '
                 f'{TOP + INNER_H / 2})">times sooner than on one</text>')  # fmt: skip
    body = "\n".join(lines)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" font-family="sans-serif" '
        f'font-size="12">\n'
        f'<rect width="{WIDTH}" height="{HEIGHT}" fill="white"/>\n{body}\n</svg>\n'
    )


def main(arguments: list[str]) -> int:
    given = dict(word.split("=", 1) for word in arguments if "=" in word)
    paths = [Path(word) for word in arguments if "=" not in word]
    costs = json.loads(paths[0].read_text())

    def over(made: Any, prefix: str = "") -> Any:
        kinds: dict[str, Callable[[str], Any]] = {f.name: type(getattr(made, f.name)) for f in fields(made)}
        return replace(made, **{k: kinds[k](given[prefix + k]) for k in kinds if prefix + k in given})

    net, prices = over(Network()), over(Prices(), "price_")
    nodes = tuple(int(n) for n in given["nodes"].split(",")) if "nodes" in given else NODES
    made = dict(zip(("model", "bill"), tables(costs, nodes, net, prices), strict=True)) | {"costs": table(costs)}
    result: dict[str, Any] = {"jobs": {}}
    for job in JOBS:
        times = {n: time_of(costs, job, n, net) for n in nodes}
        result["jobs"][job.stage] = {n: {"seconds": t.seconds, "parts": t.parts} for n, t in times.items() if t}
    if len(paths) > 1:
        task = given.get("task", "pendulum_swingup")
        cost = next(t for t in costs["train"] if t["task"] == task)
        rows = json.loads(paths[1].read_text())
        result["compared"] = compare(cost, rows if isinstance(rows, list) else rows["rows"], int(given.get("cores", 2)))
        made["compared"] = f"| workers | `{task}`, measured steps/s | model | error |\n|---|---|---|---|"
        for r in result["compared"]:
            made["compared"] += f"\n| {r['workers']} | {r['measured']:,.0f} | {r['model']:,.0f} | {r['error']:+.0%} |"
    print("\n\n".join(made.values()))
    if "page" in given:
        fill(Path(given["page"]), **made)
    if "figure" in given:
        Path(given["figure"]).write_text(figure(costs, net))
    if "json" in given:
        Path(given["json"]).write_text(json.dumps(result, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
