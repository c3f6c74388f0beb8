"""The model of throughput against machines: its limits are those that its equations have, and it is judged by rates."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.benchmarks import scale_model as model
from tests.benchmarks.scale_model import Network, Prices

TRAIN: dict[str, Any] = {
    "task": "pendulum_swingup", "steps_per_rollout": 1000, "simulations": 64, "bytes_per_step": 40.0,
    "policy_bytes": 1000, "us_per_call": 0.0,
    "us_per_step": {"simulation": 60.0, "environment": 30.0, "inference": 10.0, "buffer": 5.0, "update": 20.0},
}  # fmt: skip
ROW: dict[str, Any] = {
    "stage": "synthesize", "unit": "1000 images", "cpu_s": 8.0, "start_cpu_s": 2.0, "receives": 1000, "sends": 10**7,
    "messages": 8.0, "tasks": "shards",
}  # fmt: skip
PRETRAIN = {**ROW, "stage": "pretrain", "sends": 4 * 10**7}
COSTS: dict[str, Any] = {"worker_start_cpu_s": 3.0, "rows": [ROW, PRETRAIN], "train": [TRAIN]}
FREE = Network(cores_per_node=1, bandwidth=1e15, latency_s=0.0, handling_s=0.0)


def test_one_worker_takes_what_was_measured_and_many_what_the_learner_takes() -> None:
    one = model.rollouts(TRAIN, 1.0, 1, FREE, start=0.0)
    assert one.seconds == pytest.approx(125.0, rel=1e-6)  # 125 us a step
    many = model.rollouts(TRAIN, 1.0, 10**6, FREE, start=0.0)
    assert many.seconds == pytest.approx(25.0 + 100.0 / 64, rel=1e-3)  # no more workers than simulations
    assert many.bottleneck == "the learner" and one.bottleneck == "simulation"


def test_small_groups_of_simulations_cost_a_call_each() -> None:
    cost = TRAIN | {"us_per_call": 1920.0}  # 30 of the 100 us a step, over 64 simulations
    whole = model.rollouts(cost, 1.0, 1, FREE, start=0.0)
    assert whole.seconds == pytest.approx(125.0, rel=1e-6)
    four = model.rollouts(cost, 1.0, 1, FREE, start=0.0, groups=4)
    assert four.seconds == pytest.approx(125.0 + 3 * 30.0, rel=1e-6)
    two = Network(cores_per_node=2, bandwidth=1e15, latency_s=0.0, handling_s=0.0)
    assert model.rollouts(cost, 1.0, 1, two, 0.0, groups=3).seconds == pytest.approx(25.0 + 2 * (30.0 + 70.0 / 3))


def test_pieces_apart_scale_until_there_are_none_left_or_the_heads_link_is_full() -> None:
    one, eight = (model.apart(ROW, 1000, n, FREE) for n in (1, 8))
    assert one.parts["work"] == pytest.approx(8 * eight.parts["work"])
    assert model.apart(ROW, 1.0, 100, FREE).bottleneck == "start"
    assert "too few pieces" in model.apart(ROW, 1.0, 100, FREE).parts
    slow = model.apart(ROW, 1000, 1000, Network(bandwidth=1e8))
    assert slow.bottleneck == "the head's link" and slow.parts["the head's link"] == pytest.approx(100.0, rel=0.01)


def test_gradients_stop_the_gain_of_more_processes() -> None:
    net = Network(latency_s=1e-3)
    seconds = {n: model.in_parts(PRETRAIN, 1.0, n, net).seconds for n in (1, 2, 100)}
    assert seconds[2] < seconds[1] < seconds[100]
    assert model.in_parts(PRETRAIN, 1.0, 100, net).bottleneck == "latency"


def test_the_model_is_compared_with_measured_rates() -> None:
    rows = [{"workers": w, "groups": w, "env_steps_per_s": r} for w, r in ((1, 7800.0), (2, 12000.0), (4, 12000.0))]
    found = model.compare(TRAIN, rows, cores=2)
    assert found[0]["error"] == pytest.approx(0.0, abs=0.05)
    assert found[1]["model"] == pytest.approx(1e6 / 75.0, rel=0.1)
    assert found[2]["model"] < found[1]["model"]  # two cores: four workers only send more messages


def test_the_script_writes_tables_a_figure_and_json(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "costs.json").write_text(json.dumps(COSTS))
    (tmp_path / "rows.json").write_text(json.dumps([{"workers": 1, "groups": 4, "env_steps_per_s": 7000.0}]))
    words = [f"{tmp_path}/{name}" for name in ("costs.json", "rows.json")]
    out = [f"figure={tmp_path}/scale.svg", f"json={tmp_path}/model.json", "price_vcpu_hour=1.0", "cores_per_node=4"]
    assert model.main([*words, *out]) == 0
    shown = capsys.readouterr().out
    assert "| `synthesize`: 10^6 images |" in shown and "measured steps/s" in shown
    assert (tmp_path / "scale.svg").read_text().startswith("<svg") and json.loads((tmp_path / "model.json").read_text())
    net, job = Network(cores_per_node=4), model.JOBS[0]
    time = model.time_of(COSTS, job, 10, net)
    assert time is not None
    paid = model.bill(time, 10, net, Prices(vcpu_hour=1.0, gigabyte=0.0))
    assert paid == pytest.approx(40 * time.seconds / 3600)
