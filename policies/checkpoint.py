"""Training checkpoints without pickle: tensors in safetensors, counters in YAML, each checkpoint whole or absent.

A folder `checkpoints/000012` holds the state after 12 segments. It is written beside its place and renamed, so a kill
at any moment leaves the one before. What an off-policy learner remembers is in `replay/`, one npz a segment, because
a buffer is large and a segment renews little of it.
"""

from __future__ import annotations

import io
import shutil
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from policies import tensors
from policies.learner import Learner
from policies.off_policy import OffPolicyLearner
from policies.statistics import RunningStatistics
from robot import config, files
from robot.config import ConfigError

FOLDER, TENSORS, STATE, REPLAY = "checkpoints", "state.safetensors", "state.yaml", "replay"
KEPT = 2


@dataclass(frozen=True, kw_only=True, slots=True)
class TrainState:
    """The counters of a training after some segments; random streams follow from seed and segment."""

    segment: int
    """Segments done."""
    env_steps: int
    seed: int
    recipe: dict[str, Any]
    inputs: dict[str, str] = field(default_factory=dict)
    """Digests of what training was given: card, encoder, start policy."""
    best_success: float = -1.0
    best_return: float = -float("inf")
    seconds: float = 0.0
    """Time spent so far [s], over all runs."""


Scales = Mapping[str, RunningStatistics]
"""Name -> statistics, which are part of what is learned."""


def save(
    out: Path,
    state: TrainState,
    learner: Learner,
    scales: Scales,
    best: Mapping[str, Tensor],
    curriculum: Mapping[str, npt.NDArray[np.float64]],
) -> None:
    """Write the checkpoint of `state.segment`, then remove all but the last KEPT."""
    named = learner.state()
    for name, statistics in scales.items():
        named |= _read(name, statistics)
    named |= {f"best/{k}": v for k, v in best.items()}
    named |= {f"curriculum/{k}": torch.from_numpy(np.ascontiguousarray(v)) for k, v in curriculum.items()}
    if isinstance(learner, OffPolicyLearner):
        files.write_bytes(_replay(out, state.segment), _npz(learner.newest()))
    with files.replacing_folder(out / FOLDER / f"{state.segment:06d}") as folder:
        tensors.save(folder / TENSORS, named)
        config.save(folder / STATE, state)
    for old in _all(out)[:-KEPT]:
        shutil.rmtree(old)
    if isinstance(learner, OffPolicyLearner):
        _replay(out, state.segment - learner.remembered - KEPT).unlink(missing_ok=True)


def latest(out: Path) -> Path | None:
    """The newest checkpoint of a run, None when there is none."""
    found = _all(out)
    return found[-1] if found else None


def _all(out: Path) -> list[Path]:
    return sorted(p for p in (out / FOLDER).glob("[0-9]*") if (p / STATE).exists())


def load_state(folder: Path, recipe: dict[str, Any], seed: int, inputs: dict[str, str]) -> TrainState:
    """Read the counters; ConfigError when the run was started with other settings, which resuming would mix."""
    state = config.load(TrainState, folder / STATE)
    before, now = state.recipe | {"seed": state.seed}, recipe | {"seed": seed}
    changed = next((k for k in now if now[k] != before.get(k)), None)
    if changed:
        raise ConfigError(
            f"{folder}: this run was started with {changed} = {before.get(changed)}, and is to be resumed with "
            f"{now[changed]}; give the same value, or another out=."
        )
    before = {"law": inputs.get("law", "none")}  # runs of before do not tell it
    other = next((k for k in inputs if state.inputs.get(k, before.get(k, "none")) != inputs[k]), None)
    if other:
        raise ConfigError(f"{folder}: this run was started with another {other}; give the same, or another out=.")
    return state


def restore(
    folder: Path, segment: int, learner: Learner, scales: Scales
) -> tuple[dict[str, Tensor], dict[str, npt.NDArray[np.float64]]]:
    """Put all that is learned back; returns the best policy's tensors, and the curriculum's state."""
    named = tensors.load(folder / TENSORS)
    learner.restore(named)
    for name, statistics in scales.items():
        _write(name, statistics, named)
    if isinstance(learner, OffPolicyLearner):
        for k in range(max(segment - learner.remembered, 0) + 1, segment + 1):
            learner.remember(k, _load_replay(_replay(folder.parents[1], k)))
    return _part("best/", named), {k: v.numpy() for k, v in _part("curriculum/", named).items()}


def _part(prefix: str, named: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {k.removeprefix(prefix): v for k, v in named.items() if k.startswith(prefix)}


def _read(name: str, statistics: RunningStatistics) -> dict[str, Tensor]:
    count = torch.tensor([statistics.count, float(statistics.frozen)], dtype=torch.float64)
    values = {key: torch.from_numpy(getattr(statistics, key)) for key in ("sum", "squares", "mean", "deviation")}
    return {f"{name}/{key}": value for key, value in (values | {"count": count}).items()}


def _write(name: str, statistics: RunningStatistics, named: Mapping[str, Tensor]) -> None:
    numbers = _part(f"{name}/", named)
    statistics.count, statistics.frozen = float(numbers["count"][0]), bool(numbers["count"][1])
    for key in ("sum", "squares", "mean", "deviation"):
        setattr(statistics, key, np.array(numbers[key].numpy()))


def _replay(out: Path, segment: int) -> Path:
    return out / REPLAY / f"{segment:06d}.npz"


def _npz(arrays: Mapping[str, npt.NDArray[Any]]) -> bytes:
    data = io.BytesIO()
    np.savez(data, **dict(arrays))  # type: ignore[arg-type]
    return data.getvalue()


def _load_replay(path: Path) -> dict[str, npt.NDArray[Any]]:
    try:
        with np.load(path, allow_pickle=False) as found:
            return dict(found)
    except (OSError, ValueError, zipfile.BadZipFile) as error:
        raise ConfigError(f"{path}: cannot be read ({error}); without it this training cannot be resumed.") from error
