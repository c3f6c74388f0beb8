"""A pendubot policy that holds near upright: a linear-quadratic regulator as a network, exact but for its tanh."""

from __future__ import annotations

import numpy as np
import torch

from policies.network import NetworkConfig
from policies.policy import Policy, PolicyCard
from sim.model import find_robot
from sim.tasks import load_task

GAINS = (34.63, 33.888, 8.094, 5.944)
"""Of the pendubot upright at 100 Hz (design C.1, model 1.0): state errors to the torque of the shoulder."""
LIMIT_NM = 6.0


def holding_policy() -> Policy:
    """Error by sines, which near upright are the angles: relu(x) - relu(-x) carries each input through the network."""
    task = load_task("pendubot_swingup")
    policy = Policy(
        PolicyCard(
            task=task.name,
            control_period_s=task.control_period_s,
            spec=find_robot(task.robot).spec,
            observation=task.observation,
            action=task.action,
            network=NetworkConfig(hidden=(14,), activation="relu"),
        )
    )
    # cos, cos, sin, sin, velocity, velocity, previous action; sin(q1) falls where q1 rises beyond upright
    row = np.array([0.0, 0.0, -GAINS[0], GAINS[1], GAINS[2], GAINS[3], 0.0]) / LIMIT_NM
    with torch.no_grad():
        first, last = policy.actor[0], policy.actor[-1]
        first.weight.copy_(torch.cat([torch.eye(7), -torch.eye(7)]))
        first.bias.zero_()
        last.weight.copy_(torch.as_tensor(np.concatenate([row, -row])[None]))
        last.bias.zero_()
    return policy.eval()
