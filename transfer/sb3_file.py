"""The actor of a policy that Stable-Baselines3 saved, as an ONNX file; nothing in its zip is unpickled.

Of the archive two members are read: `policy.pth`, tensors by name (transfer/torch_file.py), and `data`, JSON whose
pickled parts stay text. PPO and A2C act by the mean of a Gaussian, clipped; SAC, TD3 and DDPG by tanh.
Only multi-layer perceptrons on a vector are understood (MlpPolicy).
"""

from __future__ import annotations

import itertools
import json
import re
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from robot.config import ConfigError
from transfer.torch_file import DAMAGED, LARGEST, NoTensors, tensors

Array = npt.NDArray[np.float32]
Layer = tuple[Array, Array]
"""Weights (outputs, inputs) and biases (outputs,)."""

ACTIVATIONS = {"tanh": "Tanh", "relu": "Relu", "elu": "Elu"}
"""Ours -> the ONNX operator, which has the name of torch's class but for its case."""
_HIDDEN = {"mlp_extractor.policy_net": "tanh", "actor.latent_pi": "relu", "actor.mu": "relu"}
"""Where the hidden layers stand -> Stable-Baselines3's default activation there."""


@dataclass(frozen=True, slots=True)
class Actor:
    """A multi-layer perceptron."""

    layers: tuple[Layer, ...]
    activation: str
    """Of ACTIVATIONS, after each layer but the last."""
    squashed: bool
    """Whether its output passes through tanh."""


def read(path: Path, activation: str | None) -> Actor:
    """The actor in a zip; `activation` where the file does not tell. ConfigError names the file and what is wrong."""
    try:
        with zipfile.ZipFile(path) as archive:
            if any(member.file_size > LARGEST for member in archive.infolist()):
                raise NoTensors(f"a member unfolds to more than {LARGEST / 2**30:g} GiB")
            weights = tensors(archive.read("policy.pth"))
            told = json.loads(archive.read("data")) if "data" in archive.namelist() else {}
    except (zipfile.BadZipFile, *DAMAGED) as error:
        raise ConfigError(
            f"foreign={path}: no policy that Stable-Baselines3 saved ({error}); give what model.save() wrote."
        ) from error
    except NoTensors as error:
        raise ConfigError(f"foreign={path}: its policy.pth cannot be read: {error}.") from error
    strange = [name for name in weights if "features_extractor." in name]
    if strange:
        raise ConfigError(
            f"foreign={path}: it has a features extractor ('{strange[0]}'); only MlpPolicy is understood."
        )
    place, last = _place(path, weights)
    layers = [*_stack(weights, place), *([] if last is None else [_layer(weights, last)])]
    for one, two in itertools.pairwise(layers):
        if one[0].shape[0] != two[0].shape[1]:
            raise ConfigError(f"foreign={path}: its layers do not fit together; the file is damaged.")
    return Actor(tuple(layers), activation or _told(path, told) or _HIDDEN[place], last != "action_net")


def _place(path: Path, weights: Mapping[str, Array]) -> tuple[str, str | None]:
    """Where the hidden layers stand, and the name of the last one where it stands apart."""
    if "action_net.weight" in weights:
        return "mlp_extractor.policy_net", "action_net"
    if "actor.mu.weight" in weights:
        return "actor.latent_pi", "actor.mu"
    if any(name.startswith("actor.mu.") for name in weights):
        return "actor.mu", None
    raise ConfigError(
        f"foreign={path}: it has no actor of PPO, A2C, SAC, TD3 or DDPG; export another algorithm to ONNX yourself."
    )


def _stack(weights: Mapping[str, Array], place: str) -> list[Layer]:
    """The linear layers of a Sequential, which stand between activations."""
    found = [re.fullmatch(re.escape(place) + r"\.(\d+)\.weight", name) for name in weights]
    return [_layer(weights, f"{place}.{n}") for n in sorted(int(m[1]) for m in found if m)]


def _layer(weights: Mapping[str, Array], name: str) -> Layer:
    return np.asarray(weights[f"{name}.weight"], np.float32), np.asarray(weights[f"{name}.bias"], np.float32)


def _told(path: Path, data: Mapping[str, Any]) -> str | None:
    """The activation that the JSON tells in words: `activation_fn: <class 'torch.nn.modules.activation.ReLU'>`."""
    arguments = data.get("policy_kwargs")
    words = str(arguments.get("activation_fn", "")) if isinstance(arguments, dict) else ""
    name = re.search(r"activation\.(\w+)", words)
    if name is None:
        return None
    if name[1].lower() not in ACTIVATIONS:
        raise ConfigError(f"foreign={path}: its activation is {name[1]}; {', '.join(ACTIVATIONS)} are understood.")
    return name[1].lower()
