"""Training checkpoints without pickle: tensors in safetensors, counters in YAML, each checkpoint whole or absent.

A folder `checkpoints/000012` holds the state after 12 segments. It is written beside its place and renamed, so a kill
at any moment leaves the one before.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from stable_baselines3 import PPO
from torch import Tensor

from policies import tensors
from policies.context_env import RunningStatistics
from policies.ppo import TrainConfig
from robot import config, files
from robot.config import ConfigError

FOLDER, TENSORS, STATE = "checkpoints", "state.safetensors", "state.yaml"
KEPT = 2


@dataclass(frozen=True, kw_only=True, slots=True)
class TrainState:
    """The counters of a training after some segments; random streams follow from seed and segment."""

    segment: int
    """Segments done."""
    env_steps: int
    seed: int
    recipe: TrainConfig
    inputs: dict[str, str] = field(default_factory=dict)
    """Digests of what training was given: card, encoder, start policy."""
    best_success: float = -1.0
    best_return: float = -float("inf")
    seconds: float = 0.0
    """Time spent so far [s], over all runs."""


def save(
    out: Path,
    state: TrainState,
    learner: PPO,
    statistics: RunningStatistics,
    best: dict[str, Tensor],
    curriculum: Mapping[str, npt.NDArray[np.float64]],
) -> None:
    """Write the checkpoint of `state.segment`, then remove all but the last KEPT."""
    named = {f"learner/{k}": v for k, v in learner.policy.state_dict().items()}
    for i, moments in learner.policy.optimizer.state_dict()["state"].items():
        named |= {f"optimizer/{i}/{k}": v for k, v in moments.items()}
    count = torch.tensor([statistics.count, float(statistics.frozen)], dtype=torch.float64)
    named |= {"statistics/count": count}
    for name in ("sum", "squares", "mean", "deviation"):
        named[f"statistics/{name}"] = torch.from_numpy(getattr(statistics, name))
    named |= {f"best/{k}": v for k, v in best.items()}
    named |= {f"curriculum/{k}": torch.from_numpy(np.ascontiguousarray(v)) for k, v in curriculum.items()}
    with files.replacing_folder(out / FOLDER / f"{state.segment:06d}") as folder:
        tensors.save(folder / TENSORS, named)
        config.save(folder / STATE, state)
    for old in _all(out)[:-KEPT]:
        shutil.rmtree(old)


def latest(out: Path) -> Path | None:
    """The newest checkpoint of a run, None when there is none."""
    found = _all(out)
    return found[-1] if found else None


def _all(out: Path) -> list[Path]:
    return sorted(p for p in (out / FOLDER).glob("[0-9]*") if (p / STATE).exists())


def load_state(folder: Path, recipe: TrainConfig, seed: int, inputs: dict[str, str]) -> TrainState:
    """Read the counters; ConfigError when the run was started with other settings, which resuming would mix."""
    state = config.load(TrainState, folder / STATE)
    before, now = asdict(state.recipe) | {"seed": state.seed}, asdict(recipe) | {"seed": seed}
    changed = next((k for k in now if now[k] != before[k]), None)
    if changed:
        raise ConfigError(
            f"{folder}: this run was started with {changed} = {before[changed]}, and is to be resumed with "
            f"{now[changed]}; give the same value, or another out=."
        )
    other = next((k for k in inputs if state.inputs.get(k) != inputs[k]), None)
    if other:
        raise ConfigError(f"{folder}: this run was started with another {other}; give the same, or another out=.")
    return state


def restore(
    folder: Path, learner: PPO, statistics: RunningStatistics
) -> tuple[dict[str, Tensor], dict[str, npt.NDArray[np.float64]]]:
    """Put weights, optimizer and statistics back; returns the best actor's tensors, and the curriculum's state."""
    named = tensors.load(folder / TENSORS)

    def part(prefix: str) -> dict[str, Tensor]:
        return {k.removeprefix(prefix): v for k, v in named.items() if k.startswith(prefix)}

    learner.policy.load_state_dict(part("learner/"))
    moments: dict[int, dict[str, Tensor]] = {}
    for name, value in part("optimizer/").items():
        index, _, key = name.partition("/")
        moments.setdefault(int(index), {})[key] = value
    optimizer = learner.policy.optimizer
    optimizer.load_state_dict({"state": moments, "param_groups": optimizer.state_dict()["param_groups"]})
    numbers = part("statistics/")
    statistics.count, statistics.frozen = float(numbers["count"][0]), bool(numbers["count"][1])
    for name in ("sum", "squares", "mean", "deviation"):
        setattr(statistics, name, np.array(numbers[name].numpy()))
    return part("best/"), {k: v.numpy() for k, v in part("curriculum/").items()}
