"""Policy: everything inside, equal after saving, exportable."""

from __future__ import annotations

import copy
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from policies.encoders.physics import PhysicsEncoder
from policies.encoders.vision import VisionEncoder
from policies.policy import Policy, PolicyCard
from policies.sight import Sight
from robot import config
from robot.config import ConfigError
from robot.observation import Observation


def policy_with(
    card: PolicyCard, encoder: PhysicsEncoder | None, vision: VisionEncoder | None = None, memory: int = 0
) -> Policy:
    torch.manual_seed(1)
    cameras = vision.card.cameras if vision else ()
    full = replace(card.with_encoder(encoder.card if encoder else None), network=replace(card.network, memory=memory))
    full = replace(full, observation=replace(full.observation, cameras=cameras), vision=vision.card if vision else None)
    policy = Policy(full)
    told = full.shown - 4
    policy.normalizer.set([*np.arange(4.0), *np.zeros(told)], [1.0, 2.0, 0.0, 4.0, *np.ones(told)])
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
    for name, blank in policy.memory.blank(n).items():
        inputs[name] = rng.normal(size=blank.shape).astype(np.float32)
    return inputs


@pytest.mark.parametrize("memory", [0, 5])
@pytest.mark.parametrize("sees", [False, True])
def test_a_saved_policy_acts_equally(
    card: PolicyCard,
    encoder: PhysicsEncoder,
    vision: VisionEncoder,
    sees: bool,
    memory: int,
    tmp_path: Path,
    rng: np.random.Generator,
) -> None:
    policy = policy_with(card, encoder, vision if sees else None, memory)
    inputs = inputs_of(policy, 7, rng)
    again = Policy.load(policy.save(tmp_path))
    np.testing.assert_array_equal(again.act(inputs), policy.act(inputs))
    assert again.card == policy.card and not list(tmp_path.glob("*.pt")) and not list(tmp_path.glob("*.pkl"))


def test_actions_stay_within_one_and_depend_on_every_input(
    card: PolicyCard, encoder: PhysicsEncoder, vision: VisionEncoder, rng: np.random.Generator
) -> None:
    policy = policy_with(card, encoder, vision, memory=3)
    inputs = inputs_of(policy, 16, rng)
    action = policy.act(inputs)
    assert action.shape == (16, 1) and action.dtype == np.float32 and np.abs(action).max() <= 1.0
    assert policy.input_names == ("observation", "history", "history_mask", "state_memory", "image_side")
    assert policy.output_names == ("action", "context", "state_memory_next")
    for name in ("observation", "history", "state_memory", "image_side"):
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
    with pytest.raises(ValueError, match="needs state_memory"):
        policy_with(card, None, memory=2)(torch.zeros(1, 4))


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


def test_the_memory_holds_what_was_shown_in_the_last_steps_and_nothing_before_the_episode(
    card: PolicyCard, vision: VisionEncoder, rng: np.random.Generator
) -> None:
    policy = policy_with(card, None, vision, memory=3)
    act, shown = policy.episode(), []
    for step in range(5):
        inputs = {k: v for k, v in inputs_of(policy, 2, rng).items() if k != "state_memory"}
        act(inputs)
        memory = act.inputs["state_memory"]
        real = memory[:, :, 0]
        np.testing.assert_array_equal(real, np.tile(np.arange(3) >= 3 - step, (2, 1)))
        for age, past in enumerate(reversed(shown[-3:]), start=1):
            np.testing.assert_array_equal(memory[:, -age, 1:5], past)
        shown.append(inputs["observation"])


def test_a_joints_cosine_and_sine_are_read_on_the_unit_circle_unless_they_say_next_to_nothing(
    card: PolicyCard, vision: VisionEncoder, rng: np.random.Generator
) -> None:
    sure, unsure = (copy.deepcopy(vision) for _ in range(2))
    with torch.no_grad():
        sure.state[-1].bias[:2] = torch.tensor([3.0, 4.0])
        for weights in (unsure.state[-1].weight[:2], unsure.state[-1].bias[:2]):
            weights *= 1e-4
    images = {"image_side": torch.from_numpy(rng.integers(0, 256, (6, 3, 64, 64), dtype=np.uint8))}
    told, state = Sight(sure, card.network)(images), sure(*images.values()).state[:, :2]
    np.testing.assert_allclose(told, state / state.norm(dim=1, keepdim=True), rtol=1e-5)
    assert (Sight(unsure, card.network)(images).norm(dim=1) < 0.01).all()


def test_what_an_encoder_would_tell_takes_the_place_of_pictures(
    card: PolicyCard, vision: VisionEncoder, rng: np.random.Generator
) -> None:
    policy = policy_with(card, None, vision, memory=2)
    inputs = inputs_of(policy, 4, rng)
    told = policy.vision({"image_side": torch.from_numpy(inputs["image_side"])}).numpy()  # type: ignore[misc]
    blind = {k: v for k, v in inputs.items() if k != "image_side"} | {"sight": told}
    np.testing.assert_array_equal(policy.act(blind), policy.act(inputs))


def test_an_adapted_encoder_takes_the_place_of_the_policys_own(
    card: PolicyCard, vision: VisionEncoder, rng: np.random.Generator
) -> None:
    policy = policy_with(card, None, vision, memory=2)
    inputs, other = inputs_of(policy, 4, rng), VisionEncoder(vision.card)
    changed = policy.with_vision(other.eval())
    assert not np.array_equal(changed.act(inputs), policy.act(inputs))
    for name, value in policy.state_dict().items():
        assert name.startswith("vision.") or torch.equal(changed.state_dict()[name], value)
    again = changed.with_vision(vision)
    np.testing.assert_array_equal(again.act(inputs), policy.with_vision(vision).act(inputs))
    features = replace(card, network=replace(card.network, sight="features"))
    with pytest.raises(ConfigError, match="mean something else"):
        policy_with(features, None, vision).with_vision(other)
    with pytest.raises(ConfigError, match="encoder=vision robot=simple_pendulum"):
        replace(policy.card, vision=None).with_vision(None)


def test_a_policy_of_version_2_is_still_read(card: PolicyCard) -> None:
    """What version 3 added may be left out, and nothing else has changed its meaning."""
    data = config.to_plain(card) | {"version": 2}
    del data["privileged"], data["symmetry"], data["network"]["recurrent"]
    assert config.convert(PolicyCard, data) == card
