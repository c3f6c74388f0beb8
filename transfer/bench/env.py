"""`bench what=env`: control steps a second of our environment, of the bare Batch under it, and of its peers.

Everything is on in ours (observations, rewards, ends, resets, a fresh draw of parameters at each). How it is fair:

- All take the same kind of random actions and are measured in turns, in one run; a peer takes part with the fastest
  of several set-ups (threads, sizes, synchronous or not), found before in the same run.
- `bare` is Batch.step on the model, parameters, number of simulations and threads of ours, from whose states it starts
  each round; `bare_gymnasium_xml` the same on gymnasium's file as it stands, which takes longer to a step.
- The ant is gymnasium's Ant-v5 for all: the same XML, 5 steps of RK4, 105 numbers, contact forces. Ours gives the
  same states to the last bit (tests/sim/test_ant.py). EnvPool's brings a MuJoCo of its own; that it is set up alike
  is checked, as is that its observations are not constant (envpool#312). The peers in this process (sync, dummy)
  gain from MuJoCo's clock that ours has stopped.
"""

from __future__ import annotations

import sys
from functools import partial
from typing import TYPE_CHECKING, Any

from robot import files
from robot.config import ConfigError, nearest
from robot.result import Run
from sim import tasks
from sim.tasks.ant import ANT
from transfer.bench import scaling
from transfer.bench.measure import Array, Contestant, Effort, Unavailable, cores, fastest, in_turns, row, spread
from transfer.bench.ours import Arena, Bare, Ours, bare_of_gymnasium
from transfer.bench.peers import PEERS

if TYPE_CHECKING:
    from transfer.stages.bench import Config

UNIT = "control steps/s"
SIZES, SIZES_OF_EACH, QUICK_SIZES = (64, 256, 1024, 2048), (256, 1024), (16,)
FULL, QUICK = Effort(rounds=7, seconds=0.6, warm_up_steps=100), Effort(rounds=5, seconds=0.02, warm_up_steps=2)
OF_EACH = ("sync",)
"""Peers of the tasks that are ours alone."""


def measure(cfg: Config, run: Run) -> dict[str, Any]:
    """Keys of result.json; `ratio` is that of the first task, ours over each peer."""
    if cfg.backend == "warp":
        return _on_a_device(cfg)
    names = cfg.tasks or ((ANT.name,) if cfg.quick else (ANT.name, *tasks.names()))
    _check(names, cfg.peers)
    threads = cfg.threads or cores()
    rows: list[dict[str, Any]] = []
    ratios: dict[str, dict[str, dict[str, float]]] = {}
    missing: list[dict[str, str]] = []
    for name in names:
        print(f"bench: {name}", file=sys.stderr, flush=True)
        rates, settings, absent = _contest(name, cfg, threads)
        rows += [row(f"{name}/{k}", UNIT, values, setting=settings[k]) for k, values in rates.items()]
        ratios[name] = {k: spread(rates["ours"] / values) for k, values in rates.items() if k != "ours"}
        missing += [{"task": name, **one} for one in absent]
    keys: dict[str, Any] = {"threads": threads, "rows": rows, "ratios": ratios, "missing": missing}
    keys["ratio"] = {name: value["median"] for name, value in ratios[names[0]].items()}
    if cfg.scaling:
        keys["scaling"] = scaling.measure(Arena.of(names[0]), threads, cfg.seed, cfg.quick)
        keys["figure"] = str(run.out / "scaling.html")
        figure = scaling.figure(keys["scaling"], f"{names[0]}: control steps/s")
        files.write_text(run.out / "scaling.html", figure.to_html(include_plotlyjs=True))
    print(table(keys))
    return keys


def _on_a_device(cfg: Config) -> dict[str, Any]:
    from transfer.bench import warp

    if cfg.peers or cfg.bundle:
        raise ConfigError("peers= and bundle= are not measured with backend=warp; leave them out.")
    keys = warp.measure(cfg)
    print(table(keys))
    return keys


def _check(names: tuple[str, ...], peers: tuple[str, ...] | None) -> None:
    known = [ANT.name, *tasks.names()]
    for name in names:
        if name not in known:
            raise ConfigError(f"tasks names '{name}'. {nearest(name, known)}")
    for peer in peers or ():
        if peer not in PEERS:
            raise ConfigError(f"peers names '{peer}'. {nearest(peer, list(PEERS))}")


def _contest(name: str, cfg: Config, threads: int) -> tuple[dict[str, Array], dict[str, str], list[dict[str, str]]]:
    """Rates and set-ups by contestant on one task, and who could not take part."""
    effort = QUICK if cfg.quick else FULL
    wanted = cfg.peers if cfg.peers is not None else tuple(PEERS) if name == ANT.name else OF_EACH
    field: dict[str, Contestant] = {}
    absent: list[dict[str, str]] = []
    try:
        # those with processes of their own first: they start while this one has no threads
        for peer in sorted(wanted, key=lambda p: p not in ("async", "subproc")):
            try:
                field[peer] = fastest(PEERS[peer](name, cfg.seed, threads, cfg.quick), effort)
            except Unavailable as error:
                absent.append({"peer": peer, "reason": error.reason, "fix": error.fix})
        arena = Arena.of(name)
        usual = SIZES if name == ANT.name else SIZES_OF_EACH
        sizes = (cfg.simulations,) if cfg.simulations else QUICK_SIZES if cfg.quick else usual
        # twice the threads pays where others want the cores too; EnvPool and the bare Batch may have them as well
        shapes = [(n, threads) for n in sizes] + ([] if cfg.quick or cfg.threads else [(sizes[-1], 2 * threads)])
        ours = fastest([partial(Ours, arena, n, k, cfg.seed) for n, k in shapes], effort)
        assert isinstance(ours, Ours)
        field = {"ours": ours, "bare": Bare(ours), **field}
        if name == ANT.name:
            field["bare_gymnasium_xml"] = bare_of_gymnasium(ours)
        rates = in_turns(field, effort, before_round=partial(_follow, field))
        return rates, {k: c.setting for k, c in field.items()}, absent
    finally:
        for contestant in field.values():
            contestant.close()


def _follow(field: dict[str, Contestant]) -> None:
    for contestant in field.values():
        if isinstance(contestant, Bare):
            contestant.follow()


def table(keys: dict[str, Any]) -> str:
    """The result as text: a line a contestant, with ours over it."""
    lines = [f"{'':34}{UNIT:>18}{'[least, greatest]':>22}   ours / it"]
    for r in keys["rows"]:
        task, contestant = r["name"].split("/")
        against = keys["ratios"][task].get(contestant)
        times = f"{against['median']:8.2f} [{against['min']:.2f}, {against['max']:.2f}]" if against else ""
        ends = f"[{r['min']:,.0f}, {r['max']:,.0f}]"
        lines.append(f"{r['name']:34}{r['median']:18,.0f}{ends:>22}   {times:24} {r['setting']}")
    lines += [f"{m['task']}/{m['peer']}: not measured, {m['reason']}. {m['fix']}" for m in keys["missing"]]
    for point in keys.get("scaling", []):
        lines.append(
            f"scaling {point['simulations']:5} simulations {point['threads']:3} threads "
            f"{point['ours']['median']:12,.0f} ours {point['bare']['median']:12,.0f} bare "
            f"{point['ratio']['median']:6.2f}"
        )
    return "\n".join(lines)
