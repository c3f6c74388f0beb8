"""Does each term of a randomization do anything to this robot:

    terrafirma doctor robot=quadruped dr=quadruped_default
    terrafirma doctor robot=double_pendulum_c1 posterior=runs/identify/posterior.yaml
    terrafirma doctor robot=my_robot.yaml dr=null

or what a model file would be as a robot, with a YAML to edit:

    terrafirma doctor robot=mjcf path=my_robot.xml out=runs/my_robot

Reads   a robot and a randomization by name, or a posterior's file. With dr=null it tries all targets that the robot has
        instead, half as much more or less of each (quick=true: one object of each quantity), and refuses none.
Writes  result.json: each target with its unit, nominal, range, and its effect: the largest difference that its lowest
        or highest draw makes to a rollout, in the unit of the signal and in its standard deviations (sd).
Costs   a tenth of a second a target.
Ends with 2 when a term does nothing, or names a target that the robot lacks.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from robot.config import ConfigError
from robot.result import Run
from sim.effect import Effect, effects, survey
from sim.model import TARGETS, RobotConfig, split, unit_of
from sim.randomization import Randomization
from sim.targets import appearance
from transfer.adopt import adopt
from transfer.choices import parameters
from transfer.cli import Common


@dataclass(frozen=True, kw_only=True)
class Config(Common):
    robot: RobotConfig
    dr: Randomization | None = None
    posterior: Path | None = None
    path: Path | None = None
    """An MJCF or URDF, with robot=mjcf."""


def run(cfg: Config, run: Run) -> dict[str, Any]:
    if cfg.path is not None:
        return adopt(cfg.path, run)
    law = parameters(cfg.robot, cfg.posterior, cfg.dr, run)
    found = effects(cfg.robot, law, cfg.seed) if law.terms else survey(cfg.robot, cfg.seed, cfg.quick)
    print("\n".join(table(found)))
    keys = {"randomization": law.name, "checks": [check(e) for e in found], "terms": [asdict(e) for e in found]}
    idle = [e for e in found if not e.felt]
    if idle and law.terms:
        result = run.finish(keys)
        names = ", ".join(e.target for e in idle)
        raise ConfigError(
            f"randomization '{law.name}': {names} {'do' if len(idle) > 1 else 'does'} nothing to robot "
            f"'{cfg.robot.spec.name}'; {advice(idle[0])} All effects are in {result}."
        )
    return keys


def table(found: list[Effect]) -> list[str]:
    """A line a target."""
    width = max(len(e.target) for e in found)
    lines = [f"{'target':<{width}}  {'nominal':>10}  {'drawn':>21}  {'unit':<9}  effect"]
    for e in found:
        drawn = " .. ".join(f"{v:.4g}" for v in e.changed)
        says = f"{e.signal} {e.difference:.3g} {e.unit} ({e.standardized:.2g} sd)" if e.felt else "NONE"
        says = "in logs only" if TARGETS[split(e.target)[0]].logs_only else says
        lines.append(f"{e.target:<{width}}  {e.nominal:>10.4g}  {drawn:>21}  {unit_of(e.target):<9}  {says}")
    return lines


def check(effect: Effect) -> dict[str, Any]:
    """A target as a check of doctor's result."""
    detail = f"{effect.signal} changes by {effect.difference:.3g} {effect.unit} ({effect.standardized:.2g} sd)"
    return {
        "name": effect.target,
        "ok": effect.felt,
        "detail": detail if effect.felt else "no effect",
        "fix": "" if effect.felt else advice(effect),
    }


def advice(effect: Effect) -> str:
    """What to do about a target without effect."""
    key, _ = split(effect.target)
    needs = [name for name, _ in TARGETS[key].needs]
    if not effect.touched:
        return "no state was found in which it touches anything: take the term out."
    if key[0] == "geom" and key not in appearance.ROWS:
        return "of two geoms in touch the one of higher priority decides, else the larger friction: randomize that one."
    if needs:
        return f"it is felt together with {', '.join(needs)}: randomize that too, or take the term out."
    return "widen its law, or take the term out."
