"""A second robot without losing the first: what earlier runs leave, the matrix of tasks by time, merged policies."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from policies.network import NetworkConfig
from policies.policy import Policy, PolicyCard
from robot.config import ConfigError
from sim.evaluate import EpisodeStats
from sim.model import find_robot
from sim.tasks import load_task
from transfer.continual import learned, matrix
from transfer.merge import AVERAGE, SUM, merged


def policy(seed: int, hidden: int = 4) -> Policy:
    torch.manual_seed(seed)
    robot, task = find_robot("simple_pendulum"), load_task("pendulum_swingup")
    card = PolicyCard(
        task=task.name, control_period_s=0.01, spec=robot.spec, observation=task.observation, action=task.action,
        network=NetworkConfig(hidden=(hidden,)), lineage={"seed": str(seed)},
    )  # fmt: skip
    return Policy(card).eval()


def run_dir(folder: Path, *before: Path) -> Path:
    """What a fine-tuning leaves of what later ones need."""
    folder.mkdir()
    rows = [row for path in before for row in json.loads((path / "result.json").read_text())["tasks"]]
    mine = {key: str(folder / key) for key in ("posterior", "evidence", "policy")}
    for path in mine.values():
        Path(path).touch()
    result = {"stage": "finetune", "tasks": [*rows, {"name": folder.name, **mine}]}
    (folder / "result.json").write_text(json.dumps(result))
    return folder


def test_what_was_kept_is_kept_on(tmp_path: Path) -> None:
    monday = run_dir(tmp_path / "monday")
    tuesday = run_dir(tmp_path / "tuesday", monday)
    assert [t.name for t in learned([tuesday])] == ["monday", "tuesday"]
    assert [t.name for t in learned([monday, tuesday])] == ["monday", "tuesday"], "each once"
    (tmp_path / "b").mkdir()
    namesake = run_dir(tmp_path / "b" / "monday")
    assert len({t.name for t in learned([monday, namesake])}) == 2
    assert [t.name for t in learned([run_dir(tmp_path / "success")])] != ["success"], "which means something else"
    (monday / "evidence").unlink()
    with pytest.raises(ConfigError, match=r"its evidence .* is no longer there"):
        learned([tuesday])


def test_a_folder_of_something_else_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"holds no result\.json"):
        learned([tmp_path])
    (tmp_path / "result.json").write_text('{"stage": "train"}')
    with pytest.raises(ConfigError, match="no fine-tuning of a policy"):
        learned([tmp_path])


def test_the_matrix_tells_what_was_forgotten() -> None:
    scores = {"monday": {"monday": 50, "tuesday": 5}, "tuesday": {"monday": 20, "tuesday": 45}}
    ran = {
        time: {task: EpisodeStats(np.arange(50) < n, np.zeros(50)) for task, n in row.items()}
        for time, row in scores.items()
    }
    told = matrix(ran, np.random.default_rng(0))
    assert told["tasks"] == told["times"] == ["monday", "tuesday"]
    assert [[cell["mean"] for cell in row] for row in told["success"]] == [[1.0, 0.1], [0.4, 0.9]]
    assert told["backward_transfer"].keys() == {"monday"}
    assert told["backward_transfer"]["monday"]["mean"] == -0.6 and told["backward_transfer"]["monday"]["ci95"][1] < 0.0


def test_weights_are_averaged_or_their_changes_added() -> None:
    source, one, two = policy(0), policy(1), policy(2)
    made = merged(source, {"a": one, "b": two})
    weights = [p.actor[0].weight for p in (source, one, two)]
    assert torch.allclose(made[AVERAGE].actor[0].weight, 0.5 * (weights[1] + weights[2]), atol=1e-6)
    assert torch.allclose(made[SUM].actor[0].weight, weights[1] + weights[2] - weights[0], atol=1e-6)
    assert torch.equal(source.actor[0].weight, policy(0).actor[0].weight), "the source stays"


def test_what_cannot_be_merged_is_refused() -> None:
    source, scaled = policy(0), policy(1)
    with pytest.raises(ConfigError, match="merge=wide: it is for another task, robot or network"):
        merged(source, {"a": policy(1), "wide": policy(2, hidden=8)})
    size = scaled.card.shown
    scaled.normalizer.set(np.ones(size), np.ones(size))
    with pytest.raises(ConfigError, match="merge=b: its normalizer is not that of policy="):
        merged(source, {"a": policy(2), "b": scaled})
    assert replace(source.card, lineage={}) == replace(policy(1).card, lineage={})
