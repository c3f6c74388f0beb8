"""Actor and critic of a Stable-Baselines3 learner, read and written as layers and named tensors."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from stable_baselines3.common.on_policy_algorithm import OnPolicyAlgorithm
from torch import Tensor, nn


def read_critic(learner: OnPolicyAlgorithm) -> dict[str, Tensor]:
    """The learner's critic as named tensors."""
    return {k: v for k, v in learner.policy.state_dict().items() if "value_net." in k}


def write_critic(learner: OnPolicyAlgorithm, critic: Mapping[str, Tensor]) -> None:
    """Put a critic into the learner; ValueError when it belongs to another network."""
    own = read_critic(learner)
    if {k: v.shape for k, v in own.items()} != {k: v.shape for k, v in critic.items()}:
        raise ValueError("the critic belongs to a network of other widths")
    learner.policy.load_state_dict(dict(critic), strict=False)


def actor_layers(learner: OnPolicyAlgorithm) -> list[nn.Linear]:
    """The linear layers that are the actor, in order."""
    policy = learner.policy
    found = [*policy.mlp_extractor.policy_net, policy.action_net]
    return [m for m in found if isinstance(m, nn.Linear)]


def read_actor(learner: OnPolicyAlgorithm, actor: nn.Sequential) -> None:
    """Copy the learner's actor into a Policy's."""
    copy_layers(actor_layers(learner), [m for m in actor if isinstance(m, nn.Linear)])


def write_actor(learner: OnPolicyAlgorithm, actor: nn.Sequential) -> None:
    """Copy a Policy's actor into the learner; ValueError when the networks differ in shape."""
    copy_layers([m for m in actor if isinstance(m, nn.Linear)], actor_layers(learner))


def copy_layers(source: list[nn.Linear], target: list[nn.Linear]) -> None:
    """Weights of layers into others; ValueError when they differ in shape."""
    if [m.weight.shape for m in source] != [m.weight.shape for m in target]:
        raise ValueError("the policy to start from has a network of other widths")
    for mine, theirs in zip(source, target, strict=True):
        copy_weights(mine, theirs)


@torch.no_grad()
def copy_weights(source: nn.Linear, target: nn.Linear) -> None:
    """The weights in force of one layer into a plain one, whatever they are made up of."""
    target.weight.copy_(source.weight)
    target.bias.copy_(source.bias)
