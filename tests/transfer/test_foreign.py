"""Policies from elsewhere: the bundle acts as the original did, nothing is unpickled, what does not fit is named."""

from __future__ import annotations

import json
import pickle
import zipfile
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import onnx
import pytest
import torch
from gymnasium import spaces
from onnx import TensorProto, helper
from stable_baselines3 import PPO, SAC, TD3
from stable_baselines3.common.base_class import BaseAlgorithm

from robot import bundle, config
from robot.config import ConfigError
from robot.observation import signals_of
from robot.spec import load_spec
from robot.state import Joints, Sample
from transfer import cli
from transfer.foreign import Foreign, ForeignCard, act, drawn, read
from transfer.foreign_graph import of_layers
from transfer.sb3_file import Actor
from transfer.torch_file import NoTensors, tensors

torch.set_num_threads(1)

CARD: dict[str, Any] = {
    "robot": "simple_pendulum",
    "task": "stand on one's head",
    "control_rate_hz": 100.0,
    "observation": {"features": ["joint_cos", "joint_sin", "joint_velocity"]},
    "action": {"actuators": ["shoulder"], "scale": [1.5]},
}


class Blank(gymnasium.Env[Any, Any]):
    """Spaces alone: no step of it is ever asked for."""

    observation_space = spaces.Box(-10.0, 10.0, (3,))
    action_space = spaces.Box(-2.0, 2.0, (1,))


def saved(kind: type[BaseAlgorithm], folder: Path, **kwargs: Any) -> tuple[BaseAlgorithm, Path]:
    """A policy with random weights that are large enough to reach its bounds, and its zip."""
    model = kind("MlpPolicy", Blank(), seed=0, policy_kwargs=kwargs or None)
    with torch.no_grad():
        for weights in model.policy.parameters():
            weights.mul_(3.0)
        if kind is PPO:
            model.policy.action_net.weight.mul_(150.0)  # which it initializes near 0
    model.save(folder / "model.zip")
    return model, folder / "model.zip"


def card(**more: Any) -> ForeignCard:
    return config.convert(ForeignCard, CARD | more)


def foreign(path: Path, **more: Any) -> Foreign:
    return read(path, card(**more), load_spec("simple_pendulum"))


@pytest.mark.parametrize(
    ("kind", "kwargs"),
    [
        (PPO, {}),
        (PPO, {"net_arch": [16, 8], "activation_fn": torch.nn.ELU}),
        (SAC, {"net_arch": [16, 16]}),
        (TD3, {"net_arch": [16]}),
    ],
)
def test_a_policy_of_stable_baselines_acts_as_it_did(
    kind: type[BaseAlgorithm], kwargs: dict[str, Any], tmp_path: Path
) -> None:
    model, path = saved(kind, tmp_path, **kwargs)
    made = foreign(path, bound=[2.0 if kind is PPO else 1.0])
    rows = drawn(made, np.random.default_rng(0), 60)
    theirs, _ = model.predict(rows, deterministic=True)  # in the action space, whose bound is 2
    np.testing.assert_allclose(2.0 * act(made.controller(), rows), theirs, atol=5e-5)
    assert np.abs(theirs).max() > 1.9 > np.abs(theirs).min()


def test_statistics_of_the_observation_go_in(tmp_path: Path) -> None:
    model, path = saved(PPO, tmp_path)
    mean, deviation = [0.1, -0.2, 1.0], [0.5, 2.0, 8.0]
    made = foreign(path, bound=[2.0], mean=mean, deviation=deviation)
    rows = drawn(made, np.random.default_rng(0), 20)
    theirs, _ = model.predict((rows - np.array(mean, np.float32)) / np.array(deviation, np.float32), deterministic=True)
    np.testing.assert_allclose(2.0 * act(made.controller(), rows), theirs, atol=5e-5)


def bare(folder: Path, size: int = 3, opset: int = 17, **more: Any) -> Path:
    """An ONNX file `obs` -> `out`, linear, for a batch of one."""
    weights = np.linspace(-1.0, 1.0, size)[:, None].astype(np.float32)
    graph = helper.make_graph(
        [helper.make_node(more.get("op", "MatMul"), ["obs", "w"], ["out"], domain=more.get("domain", ""))],
        "bare",
        [helper.make_tensor_value_info("obs", more.get("kind", TensorProto.FLOAT), [1, size])],
        [helper.make_tensor_value_info("out", TensorProto.FLOAT, [1, 1])],
        [onnx.numpy_helper.from_array(weights, "w")],
    )
    opsets = [helper.make_opsetid(more.get("domain", ""), opset)]
    (folder / "bare.onnx").write_bytes(helper.make_model(graph, opset_imports=opsets, ir_version=8).SerializeToString())
    return folder / "bare.onnx"


def test_a_bare_file_becomes_a_bundle_that_is_verified_and_acts(tmp_path: Path) -> None:
    path = bare(tmp_path)
    config.save(tmp_path / "card.yaml", {**CARD, "licence": "MIT"})
    words = [f"foreign={path}", f"card={tmp_path / 'card.yaml'}", f"out={tmp_path / 'out'}"]
    result = json.loads(cli.call("export", words).read_text())
    assert result["parity_max_error"] <= 1e-6
    assert result["variants"][0]["name"] == "foreign" and set(result["inputs"]) == {str(path), words[1][5:]}
    folder = Path(result["bundle"])
    assert all(c["ok"] for c in bundle.checks(folder))
    text = (folder / "manifest.yaml").read_text()
    assert "licence: MIT" in text and "variant: foreign" in text and "foreign_sha256" in text
    controller, spec = bundle.load(folder), load_spec("simple_pendulum")
    controller.reset()
    for angle, speed in ((0.3, 0.1), (2.0, -0.4), (1.0, 30.0)):
        joints = Joints(names=spec.joint_names, t_ns=0, position=[angle], velocity=[speed], effort=[0.0])  # type: ignore[arg-type]
        sample = Sample(t_ns=0, joints=joints)
        assert signals_of(sample, spec)["joint.position"][0, 0] == angle
        wanted = 1.5 * np.clip(-np.cos(angle) + speed, -1.0, 1.0)
        assert controller.act(sample).effort[0] == pytest.approx(wanted, abs=1e-5)


def test_a_task_that_is_known_is_simulated(tmp_path: Path) -> None:
    _, path = saved(PPO, tmp_path, net_arch=[8])
    config.save(tmp_path / "card.yaml", {**CARD, "task": "pendulum_swingup", "bound": [2.0]})
    words = [f"foreign={path}", f"card={tmp_path / 'card.yaml'}", f"out={tmp_path / 'out'}", "quick=true"]
    result = json.loads(cli.call("export", words).read_text())
    assert result["variants"][0]["success"]["n"] == 20
    assert bundle.load(Path(result["bundle"])).task == "pendulum_swingup"
    config.save(tmp_path / "card.yaml", {**CARD, "task": "pendulum_swingup", "control_rate_hz": 50.0})
    with pytest.raises(ConfigError, match="at 100 Hz, the card says 'simple_pendulum' at 50 Hz"):
        cli.call("export", words)


@pytest.mark.parametrize(
    ("made", "more", "words"),
    [
        ({"size": 4}, {}, "'obs' reads 4 values; the card's observation has 3"),
        ({"opset": 7}, {}, "it wants opset 7; opsets 13 to 21"),
        ({"domain": "com.acme", "op": "Magic"}, {}, "operators of 'com.acme'"),
        ({"op": "NoSuchThing"}, {}, "onnxruntime cannot load it"),
        ({}, {"output": "torque"}, r"it has no output 'torque' \(out\)"),
        ({"kind": TensorProto.DOUBLE}, {}, "input 'obs' is not float32"),
        ({}, {"mean": [0.0]}, "mean has 1 values; the observation has 3"),
    ],
)
def test_what_does_not_fit_is_one_sentence(
    made: dict[str, Any], more: dict[str, Any], words: str, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match=words) as caught:
        foreign(bare(tmp_path, **made), **more)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "more",
    [
        {"bound": [0.0]}, {"control_rate_hz": 0.0}, {"bound": [1.0, 1.0]}, {"bound": [float("nan")]},
        {"deviation": [1.0, 0.0, 1.0]}, {"deviation": [1.0, -1.0, 1.0]}, {"mean": [0.0, float("inf"), 0.0]},
    ],
)  # fmt: skip
def test_cards_that_make_no_sense_are_refused(more: dict[str, Any]) -> None:
    with pytest.raises(ConfigError):
        card(**more)


def test_nothing_that_a_file_asks_for_is_called(tmp_path: Path) -> None:
    """Neither in the tensors, nor in the pickled parts of the JSON beside them."""

    class Bad:
        def __reduce__(self) -> tuple[Any, ...]:
            return (Path(tmp_path / "touched").touch, ())

    torch.save({"actor.mu.0.weight": Bad()}, tmp_path / "policy.pth")
    with zipfile.ZipFile(tmp_path / "bad.zip", "w") as archive:
        archive.write(tmp_path / "policy.pth", "policy.pth")
    with pytest.raises(ConfigError, match=r"bad\.zip: its policy\.pth cannot be read: it wants .* to be called"):
        foreign(tmp_path / "bad.zip")
    assert not (tmp_path / "touched").exists()


def test_tensors_are_read_as_torch_wrote_them(tmp_path: Path) -> None:
    base = torch.arange(24.0).reshape(4, 6)
    told = {"whole": base, "part": base[1:, ::2], "turned": base.T, "n": torch.tensor(3), "half": base.half()}
    torch.save(told, tmp_path / "t.pth")
    found = tensors((tmp_path / "t.pth").read_bytes())
    assert {k: v.tolist() for k, v in found.items()} == {k: v.tolist() for k, v in told.items()}
    for data in (b"", b"PK nonsense", pickle.dumps({"a": 1})):
        with pytest.raises(NoTensors):
            tensors(data)


def test_files_that_would_fill_the_memory_or_are_torn_are_refused(tmp_path: Path) -> None:
    torch.save({"w": torch.zeros(1).expand(1 << 40)}, tmp_path / "wide.pth")  # one number, seen a trillion times
    with pytest.raises(NoTensors, match="larger than its numbers"):
        tensors((tmp_path / "wide.pth").read_bytes())
    with zipfile.ZipFile(tmp_path / "bomb.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("policy.pth", bytes(1 << 16))
    bomb, member = bytearray((tmp_path / "bomb.zip").read_bytes()), b"PK\x01\x02"
    at = bomb.index(member) + 24  # what its directory says the member unfolds to
    bomb[at : at + 4] = (1 << 31).to_bytes(4, "little")
    (tmp_path / "bomb.zip").write_bytes(bomb)
    with pytest.raises(ConfigError, match="unfolds to more than 1 GiB"):
        foreign(tmp_path / "bomb.zip")
    bomb[at : at + 4] = (1 << 16).to_bytes(4, "little")
    bomb[60:70] = b"\xff" * 10  # in the middle of the compressed member
    (tmp_path / "torn.zip").write_bytes(bomb)
    with pytest.raises(ConfigError, match="no policy that Stable-Baselines3 saved"):
        foreign(tmp_path / "torn.zip")


def test_other_networks_than_perceptrons_on_vectors_are_refused(tmp_path: Path) -> None:
    torch.save({"q_net.0.weight": torch.zeros(1)}, tmp_path / "policy.pth")
    with zipfile.ZipFile(tmp_path / "dqn.zip", "w") as archive:
        archive.write(tmp_path / "policy.pth", "policy.pth")
    with pytest.raises(ConfigError, match="no actor of PPO, A2C, SAC, TD3 or DDPG"):
        foreign(tmp_path / "dqn.zip")
    (tmp_path / "no.zip").write_bytes(b"no")
    with pytest.raises(ConfigError, match="no policy that Stable-Baselines3 saved"):
        foreign(tmp_path / "no.zip")
    with pytest.raises(ConfigError, match=r"neither a \.zip"):
        foreign(tmp_path / "model.pt")
    wide = Actor(((np.zeros((2, 5), np.float32), np.zeros(2, np.float32)),), "tanh", False)
    assert of_layers(wide).graph.output[0].type.tensor_type.shape.dim[1].dim_value == 2
