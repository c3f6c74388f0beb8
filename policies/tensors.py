"""Named tensors in safetensors files, whole or absent, never pickle."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import load as parse
from safetensors.torch import save as dump
from torch import Tensor, nn

from robot import files
from robot.config import ConfigError


def save(path: Path, named: Mapping[str, Tensor], sync: bool = True) -> None:
    """Write tensors under their names; without `sync` a power cut may take them, and the end of the process not."""
    files.write_bytes(path, dump({name: t.detach().cpu().contiguous() for name, t in named.items()}), sync)


def load(path: Path) -> dict[str, Tensor]:
    """Read tensors; ConfigError when the file is missing or damaged."""
    try:
        return parsed(Path(path).read_bytes(), path)
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read ({error.strerror}).") from error


def parsed(data: bytes, path: Path) -> dict[str, Tensor]:
    """The tensors of a file `path` that has been read; ConfigError when it is damaged."""
    try:
        return parse(data)
    except SafetensorError as error:
        raise ConfigError(f"{path}: not a whole safetensors file ({error}).") from error


def load_into(module: nn.Module, path: Path) -> None:
    """Read tensors into a module; ConfigError when names or shapes are not this module's."""
    named = load(path)
    own = dict(module.state_dict())
    for name in own.keys() | named.keys():
        if name not in named or name not in own or named[name].shape != own[name].shape:
            raise ConfigError(f"{path}: tensor '{name}' does not fit the network that its card describes.")
    module.load_state_dict(named)
