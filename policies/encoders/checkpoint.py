"""Where a pretraining stands: weights, moments, the best so far and the random stream, in one file.

Written whole or not at all, so a run that is killed at any moment goes on from its last validation and ends with the
encoder that it would have had. Tensors only: the counters and the curve are tensors as well.
"""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, nn

from policies import tensors
from policies.encoders.ranks import Ranks
from robot.config import ConfigError

FILE = "pretraining.safetensors"


def collect(parts: dict[str, nn.Module], optimizer: torch.optim.Adam) -> dict[str, Tensor]:
    """Weights, buffers and Adam's moments under names of their own."""
    named = {f"{part}.{name}": t for part, module in parts.items() for name, t in module.state_dict().items()}
    for i, state in optimizer.state_dict()["state"].items():
        named |= {f"moment.{i}.{name}": torch.as_tensor(value) for name, value in state.items()}
    return named


def restore(named: dict[str, Tensor], parts: dict[str, nn.Module], optimizer: torch.optim.Adam, where: Path) -> None:
    """What collect() has collected goes back; ConfigError when it is of another network, or of an earlier version."""
    if "losses" not in named:
        raise ConfigError(f"{where}: an earlier version of terrafirma wrote it; begin anew, without resume=true.")
    for part, module in parts.items():
        mine = {n.removeprefix(f"{part}."): t for n, t in named.items() if n.startswith(f"{part}.")}
        own = module.state_dict()
        if mine.keys() != own.keys() or any(mine[n].shape != t.shape for n, t in own.items()):
            raise ConfigError(
                f"{where}: it is of another encoder than this one; resume with the settings that began it."
            )
        module.load_state_dict(mine)
    states: dict[int, dict[str, Tensor]] = {}
    for name, tensor in named.items():
        if name.startswith("moment."):
            _, i, key = name.split(".")
            states.setdefault(int(i), {})[key] = tensor
    whole = optimizer.state_dict()
    optimizer.load_state_dict({**whole, "state": states})


def read(path: Path, resume: bool, ranks: Ranks) -> dict[str, Tensor] | None:
    """The checkpoint to go on from, None for a fresh start; every process gets the one that rank 0 reads, if any of
    them is to go on: hosts count for themselves how often torchrun has started their processes."""
    resume = ranks.any(resume)
    mine = path.read_bytes() if resume and ranks.leads and path.is_file() else None
    data = ranks.told(mine)
    return None if data is None else tensors.parsed(data, path)
