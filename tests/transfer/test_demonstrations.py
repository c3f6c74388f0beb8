"""Recorded episodes that went well, and a policy that learns their actions."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from policies.cloning import CloneConfig, clone
from policies.network import NetworkConfig
from policies.policy import Policy, PolicyCard
from robot.config import ConfigError
from robot.log import UNITS, Channel, EpisodeLog
from sim.model import RobotConfig
from sim.tasks import load_task
from transfer.demonstrations import demonstrations

TASK = load_task("pendulum_swingup")


def recording(robot: RobotConfig, seed: int, angle: float, steps: int = 601) -> EpisodeLog:
    """The pendulum sways about an angle, under a torque of minus a third of a newton metre per rad/s."""
    phase = 0.05 * np.arange(steps) + seed
    position, velocity = angle + 0.1 * np.sin(phase), 0.3 * np.cos(phase)
    t_ns = (np.arange(steps) * 10_000_000).astype(np.int64)
    values = {"joint.position": position, "joint.velocity": velocity, "command.effort": -velocity / 3.0}
    channels = {c: Channel(c, UNITS[c], robot.spec.joint_names, t_ns, v[:, None]) for c, v in values.items()}
    return EpisodeLog(f"episode{seed}", robot.spec.name, robot.spec.fingerprint(), channels)


def policy(robot: RobotConfig, memory: int = 0) -> Policy:
    torch.manual_seed(0)
    card = PolicyCard(
        task=TASK.name, control_period_s=0.01, spec=robot.spec, observation=replace(TASK.observation, history=0),
        action=TASK.action, network=NetworkConfig(hidden=(32,), memory=memory),
    )  # fmt: skip
    return Policy(card).eval()


def test_only_what_went_well_is_learned_from(pendulum: RobotConfig) -> None:
    logs = [recording(pendulum, 0, np.pi), recording(pendulum, 1, 0.0), recording(pendulum, 2, np.pi)]
    shown = demonstrations(logs, policy(pendulum, memory=3), TASK)
    assert not isinstance(shown, str)
    assert np.unique(shown.group).tolist() == [0, 2]
    assert shown.inputs["state_memory"].shape == (len(shown.action), 3, 1 + shown.inputs["observation"].shape[1])
    assert np.abs(shown.action).max() == pytest.approx(0.1 / 1.5, rel=0.02)  # N m over the task's scale
    reason = demonstrations(logs[1:2], policy(pendulum), TASK)
    assert isinstance(reason, str) and "none of the 1 recordings is a successful episode" in reason
    mute = replace(logs[0], channels={k: v for k, v in logs[0].channels.items() if k != "command.effort"})
    reason = demonstrations([mute], policy(pendulum), TASK)
    assert isinstance(reason, str) and "command.effort" in reason


def test_a_clone_does_what_was_done_and_keeps_its_scaling(pendulum: RobotConfig) -> None:
    torch.set_num_threads(1)
    shown = demonstrations([recording(pendulum, s, np.pi) for s in range(4)], policy(pendulum), TASK)
    assert not isinstance(shown, str)
    source = policy(pendulum)
    learned = clone(source, shown, CloneConfig(updates=300, learning_rate=3e-3), seed=0)
    before, after = (np.mean((p.act(shown.inputs) - shown.action) ** 2) for p in (source, learned))
    assert after < 0.05 * np.mean(shown.action**2) < before
    assert torch.equal(learned.normalizer.mean, source.normalizer.mean)
    assert all(p.requires_grad for p in learned.parameters())
    with pytest.raises(ConfigError, match="it is a share below 1"):
        CloneConfig(stop_share=1.0)
