"""Every robot that ships can have a physics encoder: pretrained, saved and loaded; sizes are tiny.

Exported are those of golden/, with equations of motion and without (test_golden.py): an export takes seconds.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from policies.encoders.physics import EncoderCard, EncoderConfig, PhysicsEncoder
from policies.encoders.pretrain import pretrain
from robot.observation import Observation
from sim import tasks
from sim.free_play import free_play
from sim.model import find_robot
from sim.randomization import load
from transfer.windows import simulated_windows

CONFIGS = Path(__file__).parents[2] / "configs"
ROBOTS = sorted(path.stem for path in (CONFIGS / "robot").glob("*.yaml"))
TINY = EncoderConfig(
    history=24, context=8, hidden=(16,), horizon=8, predictor=(16,), simulations=12, seconds=1.0, windows=8,
    grounding=4, updates=4, batch=32, held_out=0.3,
)  # fmt: skip


@pytest.mark.parametrize("name", ROBOTS)
def test_pretrains_and_comes_back(name: str, tmp_path: Path) -> None:
    robot = find_robot(name)
    own = [t for t in map(tasks.load_task, tasks.names()) if t.robot == name]
    task = own[0] if own else free_play(robot.spec)
    prior = load(CONFIGS / "dr" / f"{name}_default.yaml")
    size = replace(TINY, seconds=max(1.0, 60 * task.control_period_s))
    windows = simulated_windows(task, robot, prior, size, seed=0, nthread=1)
    assert windows.names and np.isfinite(windows.history).all() and np.ptp(windows.action) > 0.5
    assert (windows.base is None) == (name == "quadruped")
    assert (windows.equations is not None) == (name in ("simple_pendulum",) or name.startswith("double_pendulum"))
    layout = Observation(robot.spec, replace(task.observation, history=size.history), task.action)
    card = EncoderCard.of(layout, size, task.control_period_s)
    made = pretrain(windows, card, size, tmp_path, seed=0)
    again = PhysicsEncoder.load(tmp_path)
    inputs = torch.from_numpy(windows.history[:20]), torch.from_numpy(windows.mask[:20])
    with torch.no_grad():
        wanted = made.encoder(*inputs)
        assert torch.equal(again(*inputs), wanted) and torch.isfinite(wanted).all() and wanted.std() > 0.0
