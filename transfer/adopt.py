"""`robot=mjcf path=FILE`: a model file in the place of a robot, and what doctor says of it.

The derivation itself is sim/mjcf.py; here are the words of the command line and the papers that a person keeps.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from robot.config import ConfigError
from robot.result import Run
from sim import mjcf
from sim.model import Model, RobotConfig, find_robot
from sim.plant import Plant

WORD = "robot=mjcf"
REST_S = 0.5
"""How long a new robot is simulated at rest [s]."""


def take_robot_file(
    stage: str, words: Sequence[str], defaults: Mapping[str, Any]
) -> tuple[list[str], RobotConfig | None]:
    """`robot=mjcf path=FILE`, or `robot=FILE.yaml`, taken out of a command's words, and the robot that they mean.

    The robot is None where neither stands. `defaults` are the stage's keys: a prior that belongs to another robot is
    taken out too. ConfigError when there is no path=, when the stage has a path= of its own, or when the file cannot be
    a robot.
    """
    chosen = next((w for w in words if w == WORD or (w.startswith("robot=") and w.endswith((".yaml", ".yml")))), None)
    if chosen is None or "robot" not in defaults:
        return list(words), None
    rest = [w for w in words if w != chosen]
    if defaults.get("dr") and not any(w.startswith("dr=") for w in rest):
        rest.append("dr=null")
    if chosen != WORD:
        return rest, find_robot(Path(chosen.partition("=")[2]))
    path = next((w.partition("=")[2] for w in words if w.startswith("path=")), "")
    if stage == "ingest":
        raise ConfigError(
            f"path= of ingest are the recordings; make a YAML of the model with `terrafirma doctor {WORD} path=FILE`, "
            "and give robot=YAML."
        )
    if not path:
        raise ConfigError(f"{WORD} needs path=FILE, an MJCF or URDF.")
    if stage != "doctor":  # doctor writes the YAML, and needs the file for it
        rest = [w for w in rest if not w.startswith("path=")]
    return rest, mjcf.robot_of(Path(path))


def adopt(path: Path, run: Run) -> dict[str, Any]:
    """Derive a robot from a model file, write its YAML into the run's folder, and say what was guessed.

    Returns keys of result.json: `robot` (the YAML, which `robot=` takes), `guesses`, and `checks` as doctor has them.
    """
    derived = mjcf.derive(run.input(Path(path)))
    written = mjcf.write(derived, run.out)
    spec = derived.config.spec
    kinds = sorted({a.kind for a in spec.actuators})
    checks = [
        _check(
            "model", f"{spec.name}: {len(spec.joints)} joints, {len(spec.actuators)} actuators ({', '.join(kinds)})"
        ),
        _rest(derived.config),
    ]
    print("\n".join([*(f"- {sentence}" for sentence in derived.guesses), f"Edit {written}; robot={written} uses it."]))
    return {"robot": str(written), "guesses": list(derived.guesses), "checks": checks}


def _check(name: str, detail: str, fix: str = "") -> dict[str, Any]:
    return {"name": name, "ok": not fix, "detail": detail, "fix": fix}


def _rest(robot: RobotConfig) -> dict[str, Any]:
    """Whether the robot can be simulated from its default pose with nothing asked of its motors."""
    plant = Plant(Model(robot), 1, nthread=1)
    pose = robot.spec.default_pose[None]
    plant.reset(pose, np.zeros_like(pose))
    steps = max(1, round(REST_S / plant.period))
    for _ in range(steps):
        plant.step(plant.rest_command(pose))
    moved = float(np.abs(plant.position - pose).max())
    if plant.unstable.any():
        return _check(
            "rest",
            "MuJoCo reports an unstable simulation",
            "take a smaller timestep, or a default pose without overlaps",
        )
    return _check("rest", f"{steps * plant.period:g} s at rest from the default pose: joints move by up to {moved:.3g}")
