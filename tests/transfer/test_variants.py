"""Variants of a policy: what int8 leaves in float, how differences are paired, and who is refused for what."""

from __future__ import annotations

import dataclasses
import itertools
import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch

from policies.distill import DistillConfig
from policies.network import NetworkConfig
from policies.policy import Policy
from robot import bundle
from robot.config import ConfigError
from robot.controller import Controller
from robot.log import Channel, EpisodeLog
from robot.machine import opsets_of
from robot.result import Run
from sim.model import RobotConfig
from sim.perturbation import Perturbation
from sim.randomization import NOMINAL
from sim.tasks import load_task
from sim.vecenv import BatchedEnv
from tests.transfer.test_export import make_policy, recorded
from transfer import cli, dataset, latency, variants
from transfer.export import controller_of, run_network, run_torch, write
from transfer.foreign_graph import of_layers
from transfer.graph import to_onnx
from transfer.quantize import LARGE, NothingToQuantize, large_matrices, to_int8
from transfer.sb3_file import Actor
from transfer.stages import export
from transfer.stress import Plan, Row
from transfer.variants import INT8, Candidate, NoVariant, Tolerance, difference, faults, taught

torch.set_num_threads(1)


def wide(memory: int = 0) -> Policy:
    card = dataclasses.replace(make_policy().card, network=NetworkConfig(hidden=(96, 96), memory=memory))
    torch.manual_seed(1)
    policy = Policy(card)
    policy.normalizer.set(np.linspace(-0.5, 0.5, card.shown), np.linspace(0.5, 3.0, card.shown))
    return policy.eval()


@pytest.fixture(scope="module")
def made() -> tuple[Policy, dict[str, np.ndarray], bytes, bytes]:
    """A policy, recorded inputs, its float32 and its int8 network."""
    policy = wide()
    inputs = recorded(policy)
    graph = to_onnx(policy, inputs)
    return policy, inputs, graph, to_int8(graph, inputs)


def test_only_large_matrices_behind_the_first_are_quantized(
    made: tuple[Policy, dict[str, np.ndarray], bytes, bytes],
) -> None:
    _, _, graph, small = made
    before, after = (onnx.load_from_string(g).graph for g in (graph, small))
    assert [before.node[i].input[1] for i in large_matrices(before)] == ["policy.actor.2.weight"]
    kept = {w.name: list(w.dims) for w in after.initializer if w.data_type == onnx.TensorProto.FLOAT}
    assert kept["policy.actor.0.weight"] == [96, 4] and kept["policy.actor.4.weight"] == [1, 96]
    assert {"policy.normalizer.mean", "policy.normalizer.deviation"} <= set(kept)
    weights = [w for w in after.initializer if w.data_type == onnx.TensorProto.INT8 and len(w.dims) == 2]
    assert [list(w.dims) for w in weights] == [[96, 96]]
    assert np.abs(onnx.numpy_helper.to_array(weights[0])).max() <= 64  # 7 bits: 16-bit sums of pairs do not overflow
    first = next(i for i, n in enumerate(after.node) if n.op_type == "QuantizeLinear")
    assert [n.op_type for n in after.node[:first]][-3:] == ["Clip", "Gemm", "Tanh"]


def test_what_a_memory_is_scaled_with_is_no_layer() -> None:
    """Its first layer, large as it is, reads scaled readings and stays float; the graph has few nodes."""
    policy = wide(memory=12)
    graph = onnx.load_from_string(to_onnx(policy, recorded(policy))).graph
    assert policy.actor[0].weight.numel() >= LARGE
    assert [graph.node[i].input[1] for i in large_matrices(graph)] == ["policy.actor.2.weight"]
    assert len(graph.node) <= 14


def test_int8_computes_nearly_the_same_from_fewer_bytes_with_standard_operators(
    made: tuple[Policy, dict[str, np.ndarray], bytes, bytes],
) -> None:
    policy, inputs, graph, small = made
    given = run_network(controller_of(policy, small), inputs)["action"]
    wrong = np.abs(given - run_torch(policy, inputs)["action"])
    assert 0.0 < wrong.max() < 0.01 < np.ptp(given)
    assert len(small) < 0.6 * len(graph)
    assert set(opsets_of(small)) == {""}
    assert to_int8(graph, inputs) == small  # the same bytes


def layers(*sizes: int) -> bytes:
    """A perceptron of these widths, which takes no exporter to make."""
    rng = np.random.default_rng(0)
    pairs = [
        (rng.normal(size=(n, m)).astype(np.float32) / m, np.zeros(n, np.float32)) for m, n in itertools.pairwise(sizes)
    ]
    return of_layers(Actor(tuple(pairs), "tanh", True)).SerializeToString()  # type: ignore[no-any-return]


def test_a_network_without_large_matrices_is_not_quantized() -> None:
    policy, inputs = make_policy(), {"observation": np.zeros((4, 4), np.float32)}
    graph = layers(4, 63, 63, 1)
    with pytest.raises(NothingToQuantize, match=f"{LARGE} weights"):
        to_int8(graph, {"x": inputs["observation"]})
    with pytest.raises(NoVariant):
        variants.quantized(policy, graph, inputs)


def test_an_int8_bundle_is_verified_and_runs_on_its_class_of_processor(
    made: tuple[Policy, dict[str, np.ndarray], bytes, bytes], tmp_path: Path
) -> None:
    policy, inputs, _, small = made
    folder = write(policy, tmp_path / "b", small, inputs, variant=INT8)
    assert all(c["ok"] for c in bundle.checks(folder))
    text = (folder / "manifest.yaml").read_text()
    assert "variant: int8" in text and "any:" not in text.split("tolerance:")[1].split("licence")[0]
    assert isinstance(bundle.load(folder), Controller)


def test_networks_take_turns_and_the_ratio_is_that_of_their_sizes() -> None:
    graphs = {"small": layers(4, 32, 32, 1), "big": layers(4, 768, 768, 1)}
    times = latency.interleaved(graphs, {"x": np.zeros((2, 4), np.float32)}, rounds=5, repeats=40)
    assert times["small"].shape == (5, 40)
    assert latency.ratio(times["big"], times["small"])["ci95"][0] > 2.0
    p50, p99, p999 = latency.figures(times["big"])
    assert p50 <= p99 <= p999
    hurried = latency.interleaved(graphs, {"x": np.zeros((2, 4), np.float32)}, rounds=2, repeats=40, seconds=1e-6)
    assert hurried["big"].shape == (2, latency.FEWEST)


def same(n: int = 100) -> dict[str, Any]:
    none = {"mean": 0.0, "ci95": [0.0, 0.0], "n": n}
    return {
        "bytes": 50,
        "latency_ratio": {"mean": 0.8, "ci95": [0.7, 0.9], "n": 20},
        "success_difference": none,
        "return_difference": none,
        "stress_difference": none,
    }


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({}, []),
        ({"latency_ratio": {"mean": 1.2, "ci95": [1.1, 1.3], "n": 20}}, ["slower: a run takes 1.20"]),
        ({"bytes": 100}, []),  # as large, but faster
        ({"bytes": 100, "latency_ratio": {"mean": 1.0, "ci95": [0.9, 1.1], "n": 20}}, ["neither smaller"]),
        ({"success_difference": {"mean": -0.03, "ci95": [-0.06, 0.0], "n": 100}}, ["success may be lower by 0.06"]),
        ({"success_difference": {"mean": -0.02, "ci95": [-0.04, 0.0], "n": 100}}, []),
        ({"return_difference": {"mean": -9.0, "ci95": [-11.0, -7.0], "n": 100}}, ["return may be lower by 11"]),
        ({"return_difference": {"mean": -9.0, "ci95": [-9.9, -8.1], "n": 100}}, []),  # 5 % of -200
        ({"stress_difference": {"mean": np.nan, "ci95": [np.nan, np.nan], "n": 1}}, ["stress may be"]),
    ],
)
def test_verdicts(change: dict[str, Any], words: list[str]) -> None:
    found = faults(same() | change, {"bytes": 100, "return": -200.0}, Tolerance())
    assert len(found) == len(words) and all(w in f for w, f in zip(words, found, strict=True)), found


def test_tolerances_are_shares() -> None:
    with pytest.raises(ConfigError, match=r"tolerance\.stress is 5"):
        Tolerance(stress=5.0)


def test_stress_differences_are_paired_and_every_criterion_weighs_the_same() -> None:
    rows = tuple(Row(criterion=c, label=c, relative_to="", values=np.zeros(1), settings={}) for c in ("delay", "model"))
    runs = tuple(Perturbation(seed=i) for i in range(110))
    row = np.array([0] * 100 + [1] * 10)
    made = Plan(rows=rows, runs=runs, row=row, value=np.zeros(110, dtype=np.intp))
    base = np.arange(110) % 2 == 0
    assert difference(made, base, base) == {"mean": 0.0, "ci95": [0.0, 0.0], "n": 110}
    worse = base.copy()
    worse[100:] = False  # all 5 of 10 successes lost in one criterion, none in the other
    found = difference(made, worse, base)
    assert found["mean"] == pytest.approx(-0.25)
    assert found["ci95"][0] < -0.25 < found["ci95"][1] < 0.0


def test_a_student_does_what_the_policy_does_and_is_smaller(pendulum: RobotConfig) -> None:
    policy = wide()
    with torch.no_grad():
        policy.actor[4].weight *= 4.0
    task, inputs = load_task("pendulum_swingup"), recorded(policy)
    settings = DistillConfig(num_envs=16, rounds=3, steps=100, updates=200, batch=256, learning_rate=5e-3)
    student = taught(policy, task, pendulum, NOMINAL, inputs, hidden=(16, 16), settings=settings, seed=0)
    env = BatchedEnv(task, pendulum, NOMINAL, 16, seed=9, nthread=1)
    given, wrong, asked = env.reset(), [], []
    for _ in range(100):
        mine, theirs = student.policy.act(given), policy.act(given)
        wrong.append(mine - theirs)
        asked.append(theirs)
        given = env.step(mine).inputs
    assert np.sqrt(np.mean(np.square(wrong))) < 0.25 * np.std(asked)
    assert isinstance(student, Candidate) and len(student.graph) < 4 * sum(p.numel() for p in policy.parameters())


def test_int8_of_a_policy_with_a_history_takes_its_ranges_from_recordings(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    policy = make_policy(encoder=True)
    t, n = np.arange(200) * 10_000_000, (200, 1)
    swing = 2.0 * np.sin(0.05 * np.arange(200))[:, None]
    values = {"joint.position": ("rad", swing), "joint.velocity": ("rad/s", 10.0 * swing), "command.effort": ("N m", 0)}
    channels = {k: Channel(k, u, ("shoulder",), t, np.broadcast_to(v, n)) for k, (u, v) in values.items()}
    log = EpisodeLog("swing", policy.spec.name, policy.spec.fingerprint(), channels)
    monkeypatch.setattr(dataset, "load_dataset", lambda *_: [log, log])
    (tmp_path / "logs").mkdir()
    config, opened = export.Config(logs=tmp_path / "logs"), Run("export", tmp_path / "out", seed=0, budget="quick")
    seen, source = export._calibration(config, opened, policy, {})
    assert source == "recordings" and set(seen) == set(policy.input_names)
    assert {len(value) for value in seen.values()} == {2 * 199}
    assert not seen["history_mask"][0].any() and seen["history_mask"][24:199].all()
    np.testing.assert_allclose(seen["history"][150, -1, : policy.card.layout().size], seen["observation"][149])
    camera = make_policy(camera=True)
    assert export._calibration(config, opened, camera, {"seen": n}) == ({"seen": n}, "simulation")


def test_a_policy_that_remembers_teaches_no_student(pendulum: RobotConfig) -> None:
    policy = make_policy(camera=True)
    task = load_task("pendulum_swingup")
    with pytest.raises(NoVariant, match="teaches no student"):
        taught(policy, task, pendulum, NOMINAL, {}, hidden=(8,), settings=DistillConfig(), seed=0)


def test_the_stage_keeps_what_it_accepts_and_says_why_it_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def copied(policy: Policy, *_: object, hidden: tuple[int, ...], **__: object) -> Candidate:
        assert hidden == (8,)
        return Candidate("student", policy, (tmp_path / "out" / "bundle" / "policy.onnx").read_bytes())

    monkeypatch.setattr(variants, "taught", copied)
    monkeypatch.setattr(variants, "faults", lambda row, *_: ["slower"] if row["name"] == "student" else [])
    policy = wide().save(tmp_path / "policy")
    (tmp_path / "out" / "variants" / "student").mkdir(parents=True)  # of an earlier run, which accepted it
    words = [f"policy={policy}", "variants=[int8,student]", "quick=true", "student=[8]", f"out={tmp_path / 'out'}"]
    result = json.loads(cli.call("export", words).read_text())
    base, int8, student = result["variants"]
    assert base["name"] == "float32" and base["accepted"] and base["latency_us_p999"] >= base["latency_us_p99"]
    for name in ("success", "return", "stress"):  # the same network under the same circumstances does the same
        assert student[name]["mean"] == pytest.approx(base[name]["mean"])
        assert student[f"{name}_difference"]["ci95"] == pytest.approx([0.0, 0.0])
    assert int8["return_difference"]["mean"] != 0.0
    assert int8["calibrated_on"] == "simulation" and int8["bytes"] < base["bytes"]
    assert (student["accepted"], student["why"], student["hidden"]) == (False, "slower", [8])
    assert [p.name for p in (tmp_path / "out" / "variants").iterdir()] == ["int8"]
    for path in (result["bundle"], int8["bundle"]):
        assert all(c["ok"] for c in bundle.checks(Path(path)))
