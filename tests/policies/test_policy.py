"""Policy: everything inside, equal after saving, exportable."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from policies.encoders.physics import PhysicsEncoder
from policies.policy import Policy, PolicyCard
from robot.config import ConfigError
from robot.observation import Observation


def policy_with(card: PolicyCard, encoder: PhysicsEncoder | None, *cameras: str) -> Policy:
    torch.manual_seed(1)
    full = card.with_encoder(encoder.card if encoder else None)
    policy = Policy(replace(full, observation=replace(full.observation, cameras=cameras)))
    policy.normalizer.set(np.arange(4.0), [1.0, 2.0, 0.0, 4.0])
    return policy.eval()


def inputs_of(policy: Policy, n: int, rng: np.random.Generator) -> dict[str, np.ndarray]:
    layout = policy.card.layout(n)
    inputs: dict[str, np.ndarray] = {}
    for _ in range(60):
        signals = {"joint.position": rng.normal(size=(n, 1)), "joint.velocity": rng.normal(size=(n, 1))}
        inputs = dict(layout.encode(signals))
        layout.decode(rng.uniform(-1, 1, (n, 1)))
    for camera in policy.observation.cameras:
        inputs[f"image_{camera}"] = rng.integers(0, 256, (n, 3, 64, 64), dtype=np.uint8)
    return inputs


@pytest.mark.parametrize("cameras", [(), ("side",)])
def test_a_saved_policy_acts_equally(
    card: PolicyCard, encoder: PhysicsEncoder, cameras: tuple[str, ...], tmp_path: Path, rng: np.random.Generator
) -> None:
    policy = policy_with(card, encoder, *cameras)
    inputs = inputs_of(policy, 7, rng)
    again = Policy.load(policy.save(tmp_path))
    np.testing.assert_array_equal(again.act(inputs), policy.act(inputs))
    assert again.card == policy.card and not list(tmp_path.glob("*.pt")) and not list(tmp_path.glob("*.pkl"))


def test_actions_stay_within_one_and_depend_on_every_input(
    card: PolicyCard, encoder: PhysicsEncoder, rng: np.random.Generator
) -> None:
    policy = policy_with(card, encoder, "side")
    inputs = inputs_of(policy, 16, rng)
    action = policy.act(inputs)
    assert action.shape == (16, 1) and action.dtype == np.float32 and np.abs(action).max() <= 1.0
    assert policy.input_names == ("observation", "history", "history_mask", "image_side")
    assert policy.output_names == ("action", "context")
    for name in ("observation", "history", "image_side"):
        other = inputs | {name: inputs[name][::-1].copy()}
        assert not np.array_equal(policy.act(other), action), name


def test_the_normalizer_is_inside(card: PolicyCard, rng: np.random.Generator) -> None:
    policy = policy_with(card, None)
    assert policy.input_names == ("observation",) and policy.output_names == ("action",)
    raw = inputs_of(policy, 5, rng)
    scaled = (raw["observation"] - np.arange(4.0)) / [1.0, 2.0, 1.0, 4.0]  # a component that never varied is kept
    with torch.no_grad():
        wanted = torch.tanh(policy.actor(torch.from_numpy(scaled.astype(np.float32)))).numpy()
    np.testing.assert_allclose(policy.act(raw), wanted, rtol=1e-6)


def test_a_missing_history_is_an_error(card: PolicyCard, encoder: PhysicsEncoder) -> None:
    with pytest.raises(ValueError, match="needs history and history_mask"):
        policy_with(card, encoder)(torch.zeros(1, 4))


def test_cards_that_do_not_belong_together_are_refused(card: PolicyCard, encoder: PhysicsEncoder) -> None:
    with pytest.raises(ConfigError, match=r"observation\.history is 0; the encoder needs 48"):
        replace(card, encoder=encoder.card)
    other = replace(card, spec=replace(card.spec, name="long_pendulum"))
    with pytest.raises(ConfigError, match="pretrained for robot 'simple_pendulum'"):
        other.with_encoder(encoder.card)
    with pytest.raises(ConfigError, match="train it again"):
        replace(card, version=99)


def test_the_layout_is_the_robots_own(card: PolicyCard, encoder: PhysicsEncoder) -> None:
    layout = card.with_encoder(encoder.card).layout(3)
    assert isinstance(layout, Observation) and layout.config.history == encoder.card.history
    assert layout.components == encoder.card.components
