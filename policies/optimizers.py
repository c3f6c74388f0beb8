"""An optimizer's moments as named tensors, for checkpoints without pickle."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor
from torch.optim import Optimizer


def read(prefix: str, optimizer: Optimizer) -> dict[str, Tensor]:
    """`prefix`/<parameter>/<moment> -> tensor."""
    state = optimizer.state_dict()["state"]
    return {f"{prefix}/{i}/{key}": value for i, moments in state.items() for key, value in moments.items()}


def write(prefix: str, optimizer: Optimizer, named: Mapping[str, Tensor]) -> None:
    """Put back what read() gave."""
    moments: dict[int, dict[str, Tensor]] = {}
    for name, value in named.items():
        if name.startswith(f"{prefix}/"):
            index, _, key = name.removeprefix(f"{prefix}/").partition("/")
            moments.setdefault(int(index), {})[key] = value
    optimizer.load_state_dict({"state": moments, "param_groups": optimizer.state_dict()["param_groups"]})
