"""Is the physics of backend=warp that of backend=cpu: the same environments, seeds and actions on both.

    python -m tests.benchmarks.warp_parity [out.json] [tasks=a,b] [robots=a,b] [n=16] [crowd=64] [device=cuda|cpu]
           [page=docs/scale.md]

Every task runs under its robot's prior, with all that surrounds the physics switched on (delays, friction, forces from
outside, draws at reset), from the same starts under the same random actions. MuJoCo computes in float64 and MuJoCo
Warp in float32, so joint angles drift apart: by rounding alone where nothing touches, and without bound once a contact
comes, or a servo counts an encoder step, a physics step later. Hence two tables: the largest difference of any joint
of any of `n` simulations after 1, 10 and 50 control steps, within TOLERANCE; and for robots with contacts, of a `crowd`
of simulations after 1 s, a two-sample Kolmogorov-Smirnov test of each of quantities() between the backends, beside the
same test between two seeds on the cpu. A third table is of `robots`: a simulation for each of a robot's randomization
targets, at a probe of its range, and whether both backends make the same of it. Exit 1 when a tolerance is exceeded or
a p-value is below 0.001.

With device=cpu (the default where there is no CUDA device) kernels are compiled first, about five minutes for all
tasks, once; then it takes about ten minutes on a core. Prints markdown tables, writes JSON.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.stats import ks_2samp

from robot.config import ConfigError, shipped
from sim import randomization, tasks
from sim.engine import Backend
from sim.model import TARGETS, Model, find_robot, split
from sim.plant import Plant
from sim.randomization import NOMINAL
from sim.vecenv import BatchedEnv
from sim.warp import cuda_device
from tests.benchmarks.scale_costs import fill

Array = npt.NDArray[np.float64]
TASKS = (
    "pendulum_swingup", "pendulum_swingup:simple_pendulum_forces", "pendubot_swingup", "acrobot_swingup", "arm_reach",
    "arm_push", "quadruped_velocity", "quadruped_velocity:quadruped_forces", "quadruped_velocity:quadruped_rough",
)  # fmt: skip
"""Tasks under their robot's prior, or under another that stands behind the colon."""
ABRUPT = ("arm_reach", "arm_push", "arm_lift", "quadruped_velocity")
"""With contacts, or servos that count encoder steps: where rounding decides on which side of a step a number falls."""
CROWDS = ("arm_push", "quadruped_velocity")
AFTER = (1, 10, 50)
"""Control steps after which joint angles are compared."""
TOLERANCE = {"smooth": (1e-5, 1e-4, 1e-3), "abrupt": (1e-4, 1e-2, np.inf)}
"""[rad] at AFTER, of tasks without and with what is ABRUPT."""
CROWD_S = 1.0
LEAST_P = 1e-3
ROBOTS = ("simple_pendulum", "double_pendulum_c1", "servo_bench", "motor_bench", "so101", "quadruped")
STEPS = 4
"""Control steps in which a target shows, before contacts make much of rounding."""
FELT_RAD, TARGET_RAD, TARGET_SHARE = 1e-6, 1e-4, 0.05
"""What counts as an effect; how far off a simulation may be: so much, or this share of the target's effect."""


def environment(name: str, n: int, seed: int, backend: Backend) -> BatchedEnv:
    """n simulations of one of TASKS, which run on when they end."""
    name, _, law_name = name.partition(":")
    task = tasks.load_task(name)
    prior = shipped() / "dr" / f"{law_name or task.robot + '_default'}.yaml"
    law = randomization.load(prior) if prior.exists() else NOMINAL
    return BatchedEnv(task, find_robot(task.robot), law, n, seed=seed, autoreset=False, nthread=1, backend=backend)


def actions(env: BatchedEnv, steps: int, seed: int) -> npt.NDArray[np.float32]:
    """(steps, n, width): each held for ten steps, as a policy's would rather than white noise."""
    rng = np.random.default_rng(seed)
    held = rng.uniform(-0.7, 0.7, (-(-steps // 10), env.num_envs, env.observation.action_size))
    return np.repeat(held, 10, axis=0)[:steps].astype(np.float32)


def differences(name: str, n: int, backend: Backend) -> dict[str, Any]:
    """Largest difference of a joint's angle between the backends at AFTER [rad], and of the returns."""
    pair = [environment(name, n, 0, b) for b in ("cpu", backend)]
    for env in pair:
        env.reset()
    found, start = [], time.perf_counter()
    for k, action in enumerate(actions(pair[0], max(AFTER), 0), 1):
        for env in pair:
            env.step(action)
        if k in AFTER:
            found.append(float(np.abs(pair[0].state.position - pair[1].state.position).max()))
    limits = TOLERANCE["abrupt" if name.partition(":")[0] in ABRUPT else "smooth"]
    return {
        "task": name, "simulations": n, "difference_rad": found, "tolerance_rad": [min(x, 1e9) for x in limits],
        "ok": all(d <= t for d, t in zip(found, limits, strict=True)), "seconds": time.perf_counter() - start,
    }  # fmt: skip


def quantities(env: BatchedEnv) -> dict[str, Array]:
    """(n,) what a policy's task depends on, at the end of a crowd's run."""
    state, free = env.state, env.model.mj.jnt_type[0] == 0
    found = {
        "mean joint angle": state.position.mean(axis=1),
        "joint speed": np.abs(state.velocity).mean(axis=1),
        "effort": np.abs(state.effort).mean(axis=1),
    }
    first = 0 if free else int(env.model.mj.nq - 7)
    found["body height"] = state.qpos[:, first + 2].copy()
    found["body travel"] = np.linalg.norm(state.qpos[:, first : first + 2], axis=1)
    return found


def crowd(name: str, n: int, seed: int, backend: Backend) -> dict[str, Array]:
    """Quantities of n simulations after CROWD_S."""
    env = environment(name, n, seed, backend)
    env.reset()
    for action in actions(env, round(CROWD_S / env.task.control_period_s), seed):
        env.step(action)
    return quantities(env)


def compare_crowds(name: str, n: int, backend: Backend) -> dict[str, Any]:
    """Kolmogorov-Smirnov p-values: between the backends with unlike seeds, and between two seeds on the cpu."""
    here, elsewhere, other = crowd(name, n, 1, "cpu"), crowd(name, n, 2, backend), crowd(name, n, 3, "cpu")
    p = {q: float(ks_2samp(here[q], elsewhere[q]).pvalue) for q in here}
    chance = {q: float(ks_2samp(here[q], other[q]).pvalue) for q in here}
    return {"task": name, "simulations": n, "p": p, "p_of_two_seeds": chance, "ok": min(p.values()) >= LEAST_P}


def targets(robot: str, backend: Backend) -> dict[str, Any]:
    """Whether every target of a robot does the same on both backends: one simulation each, at a probe of its range.

    `felt` of them move a joint otherwise than the nominal simulation does, on the cpu, by more than FELT_RAD.
    """
    model = Model(find_robot(robot))
    names = [n for n in model.available() if TARGETS[split(n)[0]].probes(model.nominal(n))]
    pair = [Plant(Model(find_robot(robot)), len(names) + 1, nthread=1, backend=b) for b in ("cpu", backend)]
    rng = np.random.default_rng(0)
    start, speed = rng.uniform(-0.2, 0.2, len(model.spec.joints)), rng.uniform(-0.5, 0.5, len(model.spec.joints))
    tried = rng.uniform(-0.3, 0.3, (STEPS, 1, len(start)))
    found = []
    for plant in pair:
        for k, name in enumerate(names, 1):
            probe = TARGETS[split(name)[0]].probes(model.nominal(name))[0]
            plant.set({name: np.array([probe])}, np.array([k]))
        plant.set({}, np.zeros(1, dtype=np.intp))  # the nominal one goes through the same writers
        position = np.tile(model.spec.default_pose + start, (plant.nsim, 1))
        plant.seed(0)
        plant.reset(position, np.tile(speed, (plant.nsim, 1)))
        for action in tried:
            plant.step(plant.rest_command(position) + action)
        found.append(plant.position)
    here, there = found
    effect, off = np.abs(here - here[0]).max(axis=1), np.abs(there - here).max(axis=1)
    wrong = [names[k - 1] for k in range(1, len(off)) if off[k] > max(TARGET_RAD, TARGET_SHARE * effect[k])]
    return {"robot": robot, "targets": len(names), "felt": int((effect > FELT_RAD).sum()), "wrong": wrong,
            "off_rad": float(off.max()), "ok": not wrong}  # fmt: skip


def tables(result: dict[str, Any]) -> dict[str, str]:
    """Name of the place in the page -> table in markdown, of what was measured."""
    head = " | ".join(f"after {k}" for k in AFTER)
    paths = [f"| task | simulations | {head} control steps [rad] |", "|---|---|" + "---|" * len(AFTER)]
    for one in result["paths"]:
        shown = " | ".join(f"{d:.1e}" for d in one["difference_rad"])
        paths.append(f"| `{one['task']}` | {one['simulations']} | {shown} |")
    crowds = ["| task | quantity | p, cores against warp | p, cores against cores |", "|---|---|---|---|"]
    for one in result["crowds"]:
        crowds += [f"| `{one['task']}` | {q} | {p:.2f} | {one['p_of_two_seeds'][q]:.2f} |" for q, p in one["p"].items()]
    robots = ["| robot | targets | felt | largest difference [rad] |", "|---|---|---|---|"]
    for one in result["targets"]:
        robots.append(f"| `{one['robot']}` | {one['targets']} | {one['felt']} | {one['off_rad']:.1e} |")
    named = {"parity": paths, "crowds": crowds, "targets": robots}
    return {name: "\n".join(lines) for name, lines in named.items() if len(lines) > 2}


def main(arguments: list[str]) -> int:
    given = dict(word.split("=", 1) for word in arguments if "=" in word)
    out = next((Path(word) for word in arguments if "=" not in word), Path("warp_parity.json"))
    try:
        device, backend = (cuda_device(), "warp") if given.get("device") != "cpu" else ("cpu", "warp_on_cpu")
    except ConfigError:
        device, backend = "cpu", "warp_on_cpu"
    names = [n for n in given.get("tasks", ",".join(TASKS)).split(",") if n]
    result: dict[str, Any] = {"device": device, "paths": [], "crowds": [], "targets": []}
    for name in names:
        result["paths"].append(differences(name, int(given.get("n", 16)), backend))  # type: ignore[arg-type]
        print(result["paths"][-1], file=sys.stderr, flush=True)
        if name in CROWDS:
            result["crowds"].append(compare_crowds(name, int(given.get("crowd", 64)), backend))  # type: ignore[arg-type]
            print(result["crowds"][-1], file=sys.stderr, flush=True)
        out.write_text(json.dumps(result, indent=1) + "\n")
    for robot in (r for r in given.get("robots", ",".join(ROBOTS)).split(",") if r):
        result["targets"].append(targets(robot, backend))  # type: ignore[arg-type]
        print(result["targets"][-1], file=sys.stderr, flush=True)
        out.write_text(json.dumps(result, indent=1) + "\n")
    shown = tables(result)
    print("\n\n".join(shown.values()))
    if "page" in given:
        fill(Path(given["page"]), **shown)
    return 0 if all(one["ok"] for kind in ("paths", "crowds", "targets") for one in result[kind]) else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
