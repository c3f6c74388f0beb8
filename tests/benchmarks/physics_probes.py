"""What can be read linearly from the context of physics encoders, on robots that none of them was trained on:

    python tests/benchmarks/physics_probes.py OUT.json ENCODER [ENCODER ...] [dr=NAME] [task=NAME]

The encoders are of one robot, one a seed. R squared of a ridge regression, over windows in which every joint turns
(faster than SLIPPING for half of the time: where nothing slips, friction hides everything), over windows without
start-up rows, and over all. Of a double pendulum the targets are the base parameters, each over the gain of the driven
motor: masses, friction, damping and rotor inertia scale with it, so no motion tells them apart from it
(sim/identifiability.py).
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import mujoco
import numpy as np
import numpy.typing as npt
import torch

from policies.encoders.physics import EncoderCard, EncoderConfig, PhysicsEncoder
from policies.encoders.probes import contexts
from policies.encoders.readout import ridge
from policies.encoders.windows import WindowData
from robot import config, files
from robot.result import mean_ci
from sim import randomization, tasks
from sim.model import Model, find_robot
from transfer.stages.pretrain import task_of
from transfer.windows import simulated_windows

Array = npt.NDArray[np.float64]

SEED = 90_001
ROBOTS, SECONDS, WINDOWS = 700, 8.0, 16
HELD_OUT = 0.3
SLIPPING = 0.3
"""[rad/s]"""


def main(out: str, *words: str) -> None:
    torch.set_num_threads(1)
    options = dict(w.split("=", 1) for w in words if "=" in w)
    encoders = [PhysicsEncoder.load(Path(w)) for w in words if "=" not in w]
    card = encoders[0].card
    robot = find_robot(card.robot)
    task = tasks.load_task(options["task"]) if "task" in options else task_of(card.robot)
    prior = randomization.load(config.shipped() / "dr" / f"{options.get('dr', card.robot + '_default')}.yaml")
    size = EncoderConfig(history=card.history, simulations=ROBOTS, seconds=SECONDS, windows=WINDOWS, base=False)
    data = simulated_windows(task, robot, prior, replace(size, equations=False), seed=SEED)
    train, test = data.split(HELD_OUT, np.random.default_rng(SEED))
    mj = Model(robot).mj
    rows = {
        "moving windows": scores(encoders, moving(train, card), moving(test, card), mj),
        "full windows": scores(encoders, full(train), full(test), mj),
        "all windows": scores(encoders, train, test, mj),
    }
    files.write_text(Path(out), json.dumps({"robot": card.robot, "encoders": len(encoders), "r2": rows}, indent=1))
    print("| target | " + " | ".join(rows) + " |\n" + "|---" * (len(rows) + 1) + "|")
    for name in rows["full windows"]:
        print(f"| {name} | " + " | ".join(cell(rows[row][name]) for row in rows) + " |")


def full(data: WindowData) -> WindowData:
    """The windows that no episode begins in."""
    return data.take(data.mask.all(axis=1))


def moving(data: WindowData, card: EncoderCard) -> WindowData:
    """Of those, the windows in which every joint turns."""
    data = full(data)
    velocity = data.history[..., [i for i, name in enumerate(card.components) if name.startswith("velocity/")]]
    return data.take(((np.abs(velocity) > SLIPPING).mean(axis=1) > 0.5).all(axis=1))


def scores(
    encoders: list[PhysicsEncoder], train: WindowData, test: WindowData, model: mujoco.MjModel
) -> dict[str, list[float]]:
    """Target -> R squared of each encoder."""
    driven = encoders[0].card.actuators[0]
    named = [dict(zip(d.names, d.parameters.T, strict=True)) for d in (train, test)]
    wanted = [targets(values, model, driven) for values in named]
    untold = set(named[0]) - set(encoders[0].card.parameters)  # what the encoder was not asked to tell
    names = [n for n, v in wanted[1].items() if v.std() > 1e-12 and n not in untold]
    fitted, truth = (np.stack([w[n] for n in names], axis=1) for w in wanted)
    out: dict[str, list[float]] = {n: [] for n in names}
    for encoder in encoders:
        told = ridge(contexts(encoder, train), fitted, contexts(encoder, test))
        for i, name in enumerate(names):
            out[name].append(float(1.0 - np.square(told[:, i] - truth[:, i]).mean() / truth[:, i].var()))
    return out


def targets(values: Mapping[str, Array], model: mujoco.MjModel, driven: str) -> dict[str, Array]:
    """What is read: of a double pendulum its base parameters over the gain, of others the parameters as they are.

    The equations of motion hold the masses in four sums only. Source: Featherstone, Rigid Body Dynamics Algorithms,
    2008, ch. 2 (parallel axes); Khalil and Dombre, Modeling, Identification and Control of Robots, 2002, ch. 9.
    """
    if "body/lower/com" not in values:
        return dict(values)
    gain, l1 = values[f"actuator/{driven}/gain"], float(np.linalg.norm(model.body("lower").pos))
    (m1, c1, i1), (m2, c2, i2) = (_link(values, model, name) for name in ("upper", "lower"))
    first, second = {"h1 = m1 c1 + m2 l1": m1 * c1 + m2 * l1, "A1 = I1 + m2 l1^2": i1 + m2 * l1**2}, {}
    second = {"m2": m2, "h2 = m2 c2": m2 * c2, "I2": i2}
    others = {n: v for n, v in values.items() if n.startswith("joint/") or n.endswith("rotor_inertia")}
    over = {f"{n} / gain": v / gain for n, v in (first | second | others).items()}
    return over | {n: v for n, v in values.items() if n.startswith("timing/")}


def _link(values: Mapping[str, Array], model: mujoco.MjModel, name: str) -> tuple[Array, Array, Array]:
    """Mass [kg], distance of its centre [m] and inertia about its joint [kg m^2] of one link, for each robot."""
    body = model.body(name)
    mass, com = values[f"body/{name}/mass"], values[f"body/{name}/com"]
    return mass, com, float(body.inertia.max() / body.mass[0]) * mass + mass * com**2


def cell(values: list[float]) -> str:
    """Mean with its interval, where there are several seeds."""
    if len(values) < 2:
        return f"{values[0]:.2f}"
    found = mean_ci(np.array(values))
    return f"{found['mean']:.2f} [{found['ci95'][0]:.2f}, {found['ci95'][1]:.2f}]"


if __name__ == "__main__":
    main(*sys.argv[1:])
