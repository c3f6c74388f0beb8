"""PPO, SAC, TQC and RecurrentPPO on the pendulum, each given the same CPU time: python tests/benchmarks/algorithms.py

Prints a row for each algorithm and seed as JSON, and the table of docs/policies.md. Time is that of this process's one
thread, so that a busy machine is no excuse; evaluations are not counted.
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")

import json
import sys
import tempfile
import time
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from policies.learner import recipe_of
from policies.network import NetworkConfig
from policies.policy import Policy
from policies.train import train
from robot import config
from sim import randomization, tasks
from sim.evaluate import rollout_success
from sim.model import find_robot
from sim.sb3 import SB3VecEnv
from sim.vecenv import BatchedEnv
from transfer.training import EVALUATION_SEED, card_of

TASK = "pendulum_swingup"
RECIPES = {"ppo": TASK, "sac": f"{TASK}_sac", "tqc": f"{TASK}_tqc", "recurrent_ppo": f"{TASK}_lstm"}


class TimeIsUp(Exception):
    """The budget is spent."""


def one(algorithm: str, seed: int, seconds: float) -> dict[str, float | str]:
    """Success, return and steps that an algorithm had come to when its time was up."""
    task, robot = tasks.load_task(TASK), find_robot("simple_pendulum")
    law = randomization.load(config.shipped() / "dr" / "simple_pendulum_default.yaml")
    data = config.load_yaml(config.shipped() / "recipe" / f"{RECIPES[algorithm]}.yaml")
    recipe = replace(recipe_of(data, algorithm), env_steps=10**8, evaluate_segments=1)
    network = NetworkConfig(hidden=(64, 64), recurrent=32 if algorithm == "recurrent_ppo" else 0)
    spent = {"evaluating": 0.0, "begin": time.process_time()}
    best = (0.0, 0.0)

    def score(policy: Policy) -> tuple[float, float]:
        nonlocal best
        begin = time.process_time()
        stats = rollout_success(policy.episode(), task, robot, law, 64, EVALUATION_SEED + seed, nthread=1)
        best = max(best, (float(stats.success.mean()), float(stats.returns.mean())))
        steps["done"] = int(policy.card.lineage["env_steps"])
        spent["evaluating"] += time.process_time() - begin
        if time.process_time() - spent["begin"] - spent["evaluating"] > seconds:
            raise TimeIsUp
        return best

    steps: dict[str, int] = {}
    make = lambda n: SB3VecEnv(BatchedEnv(task, robot, law, n, seed=seed, stagger=True, nthread=1))  # noqa: E731
    with tempfile.TemporaryDirectory() as out, suppress(TimeIsUp):
        train(make, card_of(task, robot, network), recipe, Path(out), seed=seed, evaluate=score)
    return {"algorithm": algorithm, "seed": seed, "success": best[0], "return": best[1], "env_steps": steps["done"]}


def main(seconds: float = 60.0, seeds: int = 3, names: tuple[str, ...] = tuple(RECIPES)) -> None:
    torch.set_num_threads(1)
    rows = []
    for seed in range(seeds):
        for name in names:
            rows.append(one(name, seed, seconds))
            print(json.dumps(rows[-1]), flush=True)
    print(f"| algorithm | success after {seconds:g} s | return | environment steps |\n|---|---|---|---|")
    for name in names:
        mine = [r for r in rows if r["algorithm"] == name]
        success = ", ".join(f"{r['success']:.2f}" for r in mine)
        value = np.mean([float(r["return"]) for r in mine])
        print(f"| {name} | {success} | {value:.1f} | {np.mean([float(r['env_steps']) for r in mine]):,.0f} |")


if __name__ == "__main__":
    main(*(float(a) for a in sys.argv[1:2]))
