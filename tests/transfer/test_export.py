"""Export: the bundle computes what the policy computes, images and history included."""

from __future__ import annotations

import copy
import dataclasses
import os

os.environ.setdefault("OMP_NUM_THREADS", "1")

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch

from policies.encoders.physics import EncoderCard, EncoderConfig
from policies.encoders.vision import VisionCard, VisionConfig
from policies.network import NetworkConfig
from policies.policy import Policy, PolicyCard
from robot import bundle
from robot.config import ConfigError
from robot.controller import Controller
from robot.observation import signals_of
from robot.spec import load_spec
from robot.state import Joints, Sample
from sim.tasks import load_task
from transfer import export as exports
from transfer import graph
from transfer.cli import GateRefused
from transfer.export import Export, export, random_inputs, run_torch
from transfer.graph import to_onnx
from transfer.subjects import of_bundle, of_policy

torch.set_num_threads(1)


def make_policy(*, encoder: bool = False, camera: bool = False) -> Policy:
    """A random policy for the simple pendulum, its normalizer not the identity."""
    spec, task = load_spec("simple_pendulum"), load_task("pendulum_swingup")
    observation = dataclasses.replace(task.observation, history=0, cameras=("side",) if camera else ())
    size = VisionConfig(channels=(8, 8, 8), points=4, features=8)
    card = PolicyCard(
        task=task.name,
        control_period_s=task.control_period_s,
        spec=spec,
        observation=observation,
        action=task.action,
        network=NetworkConfig(hidden=(32, 32), memory=3 if camera else 0),
        vision=VisionCard.of(spec, size, ("joint/shoulder", "body/pendulum")) if camera else None,
    )
    if encoder:
        config = EncoderConfig(history=24, context=4, hidden=(16,), predictor=(16,))
        card = card.with_encoder(EncoderCard.of(card.layout(), config, task.control_period_s))
    torch.manual_seed(0)
    policy = Policy(card)
    size = card.shown
    policy.normalizer.set(np.linspace(-0.5, 0.5, size), np.linspace(0.5, 3.0, size))
    return policy.eval()


def recorded(policy: Policy, n: int = 150) -> dict[str, np.ndarray]:
    """Inputs of a robot that swings, as the onboard encoder makes them."""
    rng, layout, act = np.random.default_rng(0), policy.card.layout(), policy.episode()
    rows: list[Mapping[str, np.ndarray]] = []
    for k in range(n):
        angle, speed = 2.0 * np.sin(0.05 * k), 10.0 * np.cos(0.05 * k)
        signals = {
            "joint.position": np.array([[angle]]),
            "joint.velocity": np.array([[speed]]),
            "joint.effort": np.zeros((1, 1)),
        }
        row = dict(layout.encode(signals))
        layout.decode(rng.uniform(-1, 1, (1, 1)))
        for camera in policy.observation.cameras:
            row[f"image_{camera}"] = rng.integers(0, 256, (1, 3, 64, 64), dtype=np.uint8)
        act(row)
        rows.append(act.inputs)
    return {name: np.concatenate([r[name] for r in rows]) for name in rows[0]}


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> tuple[Policy, Export]:
    policy = make_policy()
    out = tmp_path_factory.mktemp("plain") / "bundle"
    return policy, export(
        policy,
        out,
        golden=recorded(policy),
        rng=np.random.default_rng(0),
        lineage={"seed": 3},
        gate={"return": 1.5},
        report_html="<html>gap</html>",
    )


@pytest.fixture(scope="module")
def seeing(tmp_path_factory: pytest.TempPathFactory) -> tuple[Policy, Export]:
    """History, context and a camera in one."""
    policy = make_policy(encoder=True, camera=True)
    out = tmp_path_factory.mktemp("seeing") / "bundle"
    return policy, export(policy, out, golden=recorded(policy), rng=np.random.default_rng(0))


def test_every_output_agrees_on_recorded_and_random_inputs(
    plain: tuple[Policy, Export], seeing: tuple[Policy, Export]
) -> None:
    for (_, made), most in ((plain, 1e-5), (seeing, 1e-4)):  # the second one has a memory
        assert 0.0 < made.parity_max_error <= most
        assert made.bytes == (made.bundle / "policy.onnx").stat().st_size
        assert 0.0 < made.latency_us_p50 <= made.latency_us_p99
        assert all(c["ok"] for c in bundle.checks(made.bundle))


def test_names_shapes_and_batch_axis_are_as_agreed(seeing: tuple[Policy, Export]) -> None:
    model = onnx.load(seeing[1].bundle / "policy.onnx")

    def shapes(values: object) -> dict[str, list[int | str]]:
        return {v.name: [d.dim_param or d.dim_value for d in v.type.tensor_type.shape.dim] for v in values}  # type: ignore[attr-defined]

    assert shapes(model.graph.input) == {
        "observation": ["batch", 4],
        "history": ["batch", 24, 5],
        "history_mask": ["batch", 24],
        "state_memory": ["batch", 3, 7],
        "image_side": ["batch", 3, 64, 64],
    }
    assert shapes(model.graph.output) == {
        "action": ["batch", 1],
        "context": ["batch", 4],
        "state_memory_next": ["batch", 3, 7],
    }


def test_file_serves_any_batch(plain: tuple[Policy, Export]) -> None:
    policy, made = plain
    session = onnxruntime.InferenceSession(made.bundle / "policy.onnx")
    inputs = {"observation": recorded(policy)["observation"][:7]}
    (action,) = session.run(["action"], inputs)
    np.testing.assert_allclose(action, policy.act(inputs), atol=1e-6)


def test_controller_with_images_and_memory_does_what_the_policy_does(seeing: tuple[Policy, Export]) -> None:
    """Also after 500 steps, and from the beginning again after reset()."""
    policy, made = seeing
    controller = bundle.load(made.bundle)
    first = actions_of(controller, policy, 500)
    assert np.ptp(first) > 1e-3
    controller.reset()
    np.testing.assert_array_equal(actions_of(controller, policy, 20), first[:20])


def actions_of(controller: Controller, policy: Policy, steps: int) -> np.ndarray:
    """The policy's actions along an episode, each compared with the controller's command and memory."""
    layout, act = policy.card.layout(), policy.episode()
    rng, actions = np.random.default_rng(1), []
    for k in range(steps):
        values = {"position": [0.1 * k], "velocity": [1.0], "effort": [0.0]}
        joints = Joints(names=("shoulder",), t_ns=k, **{n: np.array(v) for n, v in values.items()})
        image = rng.integers(0, 256, (64, 64, 3), dtype=np.uint8)
        sample = Sample(t_ns=k, joints=joints, images={"side": (k, image)})
        inputs = dict(layout.encode(signals_of(sample, policy.spec)))
        action = act(inputs | {"image_side": np.ascontiguousarray(image.transpose(2, 0, 1)[None])})
        expected = layout.decode(action)[0]
        np.testing.assert_allclose(controller.act(sample).effort, expected, atol=1e-4)
        np.testing.assert_allclose(controller.action, action[0], atol=1e-4)
        actions.append(action[0, 0])
    return np.array(actions)


def test_a_bundle_does_for_many_what_its_policy_does(seeing: tuple[Policy, Export], tmp_path: Path) -> None:
    """With history, pictures and memory; the next episode remembers nothing of this one."""
    policy, made = seeing
    loaded, trained = of_bundle(made.bundle), of_policy(policy.save(tmp_path / "policy"))
    assert loaded.observation == trained.observation and loaded.control_period_s == pytest.approx(0.01)
    rows = {name: value for name, value in recorded(policy, 60).items() if name != "state_memory"}
    first, second = loaded.episode(), trained.episode()
    actions = []
    for k in range(6):
        given = {name: value[10 * k : 10 * k + 5] for name, value in rows.items()}
        actions.append(first(given))
        np.testing.assert_allclose(actions[-1], second(given), atol=1e-5)
    assert np.abs(loaded.episode()(given) - actions[-1]).max() > 1e-3


def test_image_changes_the_action(seeing: tuple[Policy, Export]) -> None:
    policy, made = seeing
    controller = bundle.load(made.bundle)
    row = {name: value[:1] for name, value in recorded(policy, 2).items()}
    dark, bright = (controller.infer(row | {"image_side": np.full_like(row["image_side"], v)}) for v in (0, 255))
    half = row["image_side"] * 0
    half[..., :32] = 255
    assert dark["action"] != controller.infer(row | {"image_side": half})["action"]
    np.testing.assert_array_equal(dark["context"], bright["context"])  # the context is of the joints alone


def test_bundle_carries_what_it_was_given(plain: tuple[Policy, Export]) -> None:
    policy, made = plain
    text = (made.bundle / "manifest.yaml").read_text()
    assert "seed: 3" in text and "return: 1.5" in text
    assert (made.bundle / "report.html").read_text() == "<html>gap</html>"
    controller = bundle.load(made.bundle, spec=policy.spec)
    assert (controller.task, controller.period_ns) == ("pendulum_swingup", 10_000_000)
    golden = np.load(made.bundle / "golden.npz", allow_pickle=False)
    assert len(golden["command"]) == 100 and set(golden) == {"input.observation", "output.action", "command"}


def test_same_policy_gives_the_same_bytes_without_this_machines_paths(plain: tuple[Policy, Export]) -> None:
    policy, made = plain
    again = to_onnx(policy, recorded(policy))
    assert again == (made.bundle / "policy.onnx").read_bytes()
    assert str(Path(exports.__file__).parent).encode() not in again and b".py" not in again


def test_policies_of_one_structure_share_a_trace_and_none_of_their_weights(plain: tuple[Policy, Export]) -> None:
    policy, made = plain
    other, traces = copy.deepcopy(policy), dict(graph._traces)
    with torch.no_grad():
        for tensor in (*other.parameters(), other.normalizer.mean):
            tensor += 0.1
    shared = to_onnx(other, recorded(policy))
    assert graph._traces == traces and shared != (made.bundle / "policy.onnx").read_bytes()
    graph._traces.clear()
    assert to_onnx(other, recorded(policy)) == shared


def test_where_encoders_come_from_and_what_they_scored_is_no_structure() -> None:
    """A vision encoder that was adapted to a robot's camera shares the trace of the one that it was before."""
    card = make_policy(encoder=True, camera=True).card
    told = {"lineage": {"adapted_from": "runs/before"}, "scores": {"state": {"score": 0.9, "baseline": 0.1}}}
    assert card.encoder is not None and card.vision is not None
    encoder, vision = dataclasses.replace(card.encoder, **told), dataclasses.replace(card.vision, **told)
    other = dataclasses.replace(card, encoder=encoder, vision=vision, lineage={"env_steps": "1"})
    assert graph.structure_of(other) == graph.structure_of(card)
    larger = dataclasses.replace(card, vision=dataclasses.replace(vision, points=5))
    assert graph.structure_of(larger) != graph.structure_of(card)


def test_graph_that_differs_is_refused_and_nothing_written(
    plain: tuple[Policy, Export], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    policy, made = plain
    other = make_policy()
    with torch.no_grad():
        other.actor[-1].bias += 1e-3
    monkeypatch.setattr(exports, "to_onnx", lambda *_: (made.bundle / "policy.onnx").read_bytes())
    with pytest.raises(GateRefused, match="differs from the policy by") as caught:
        export(other, tmp_path / "bundle", golden=recorded(policy), rng=np.random.default_rng(0))
    assert caught.value.exit_code == 3 and list(tmp_path.iterdir()) == []


def test_golden_inputs_must_be_those_of_the_policy(tmp_path: Path) -> None:
    policy = make_policy(encoder=True)
    golden = recorded(policy)
    rng = np.random.default_rng(0)
    with pytest.raises(ConfigError, match="lack 'history_mask'"):
        export(policy, tmp_path / "b", golden={k: v for k, v in golden.items() if k != "history_mask"}, rng=rng)
    with pytest.raises(ConfigError, match="at least two"):
        export(policy, tmp_path / "b", golden={k: v[:1] for k, v in golden.items()}, rng=rng)


def test_random_inputs_cover_masks_and_pictures() -> None:
    policy = make_policy(encoder=True, camera=True)
    parts = list(random_inputs(recorded(policy, 20), 250, np.random.default_rng(0)))
    whole = {name: np.concatenate([p[name] for p in parts]) for name in parts[0]}
    assert len(whole["observation"]) == 250
    kept = whole["history_mask"].sum(axis=1)
    assert kept.min() == 0 and kept.max() == 24
    assert (np.diff(whole["history_mask"], axis=1) >= 0).all()  # the newest rows are those that exist
    assert whole["image_side"].dtype == np.uint8 and whole["image_side"].max() == 255
    assert all(np.isfinite(v).all() for v in run_torch(policy, parts[0]).values())
