"""Two fine-tunes of one policy made into one, without training: candidates that only the closed loop can accept.

Sources: Wortsman et al., Model soups, ICML 2022 (the mean of weights); Ilharco et al., Editing models with task
arithmetic, ICLR 2023 (the sum of what each fine-tune changed, on top of the source).
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import replace

import torch

from policies.policy import Policy
from robot.config import ConfigError

AVERAGE, SUM = "merge:average", "merge:sum"


@torch.no_grad()
def merged(source: Policy, tunes: Mapping[str, Policy]) -> dict[str, Policy]:
    """Method -> policy: the mean of the fine-tunes' weights, and the source plus all that they changed.

    ConfigError names a fine-tune (by its key) that has another network, scaling or encoder than the source: its weights
    mean something else.
    """
    for name, policy in tunes.items():
        _alike(source, name, policy)
    return {AVERAGE: _moved(source, tunes, 1.0 / len(tunes)), SUM: _moved(source, tunes, 1.0)}


def _moved(source: Policy, tunes: Mapping[str, Policy], share: float) -> Policy:
    """The source, moved by a share of the sum of what the fine-tunes changed."""
    policy = copy.deepcopy(source)
    state, start = dict(policy.state_dict()), source.state_dict()
    for name in (n for n in start if n.startswith("actor.")):
        state[name] = start[name] + share * sum(tune.state_dict()[name] - start[name] for tune in tunes.values())
    policy.load_state_dict(state)
    return policy.eval()


def _alike(source: Policy, name: str, policy: Policy) -> None:
    if replace(policy.card, lineage={}) != replace(source.card, lineage={}):
        raise ConfigError(
            f"merge={name}: it is for another task, robot or network than policy=, whose weights it shares."
        )
    theirs = policy.state_dict()
    other = next(
        (k for k, v in source.state_dict().items() if not k.startswith("actor.") and not torch.equal(v, theirs[k])),
        None,
    )
    if other is not None:
        raise ConfigError(
            f"merge={name}: its {other.split('.')[0]} is not that of policy=; only fine-tunes of one policy, with the "
            "same encoder, can be merged."
        )
