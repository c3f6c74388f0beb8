"""Two Ray workers give what one process gives, whoever of them dies; all on one small cluster."""

from __future__ import annotations

import dataclasses
import json
import os
import signal
import time
from pathlib import Path

import numpy as np
import pytest

from robot import config
from robot.config import ConfigError
from sim import shards
from sim.model import Model, RobotConfig, find_robot
from sim.synthesize import Job, synthesize
from sim.tasks import load_task
from tests.robot.fakes import make_bundle
from tests.transfer.conftest import Simulate
from tests.transfer.scale import works
from tests.transfer.scale.conftest import SMALL
from transfer.chosen_unknowns import chosen_unknowns
from transfer.dataset import DataRefused
from transfer.identify import Effort, identify
from transfer.scale.cluster import Cluster, ScaleConfig
from transfer.scale.episodes import InPieces, told
from transfer.scale.fan import arriving, fan_out
from transfer.scale.fits import ByWorkers
from transfer.scale.images import by_workers
from transfer.stress import plan
from transfer.subjects import of_bundle
from transfer.suites import arena_of, load_suite
from transfer.sweep import STUDY, train_trial

pytestmark = pytest.mark.usefixtures("small_cluster")
LOCAL = ScaleConfig()


def test_a_worker_that_dies_is_replaced_and_each_result_counts_once(tmp_path: Path) -> None:
    shared = {"values": np.linspace(0.0, 1.0, 1000), "fatal": 5}
    for name in ("ray", "local"):
        (tmp_path / name).mkdir()
    found = fan_out(works.scaled, range(12), SMALL, {**shared, "folder": str(tmp_path / "ray")})
    alone = fan_out(works.scaled, range(12), LOCAL, {**shared, "folder": str(tmp_path / "local"), "fatal": -1})
    assert [r["task"] for r in found] == list(range(12))
    assert np.array_equal(works.total(found), works.total(alone))
    times = {int(p.name): len(p.read_text()) for p in (tmp_path / "ray").iterdir()}
    assert times == {i: 1 + (i == 5) for i in range(12)}


def test_what_the_user_is_told_comes_back_as_it_was_said() -> None:
    with pytest.raises(DataRefused, match=r"^log 2 has no rows; record it again\.$"):
        fan_out(works.refusing, range(9), SMALL)
    assert DataRefused.exit_code == 4


def test_a_task_that_kills_every_worker_is_told_in_a_sentence(tmp_path: Path) -> None:
    scale = dataclasses.replace(SMALL, replacements=0)
    with pytest.raises(ConfigError, match=r"task 1 of tests\.transfer\.scale\.works:scaled: its worker died 1 times"):
        fan_out(works.scaled, range(3), scale, {"folder": str(tmp_path), "values": np.zeros(1), "fatal": 1})


def test_leaving_early_stops_what_is_being_done(tmp_path: Path) -> None:
    results = arriving(works.waiting, [0, 1], SMALL, str(tmp_path))
    assert next(results) == (0, 0)
    until = time.monotonic() + 60.0
    while not list(tmp_path.iterdir()) and time.monotonic() < until:
        time.sleep(0.02)
    results.close()
    (pid,) = (int(p.name) for p in tmp_path.iterdir())
    while Path(f"/proc/{pid}").exists() and time.monotonic() < until:
        time.sleep(0.02)
    assert not Path(f"/proc/{pid}").exists()


def test_images_are_the_same_byte_by_byte_when_a_worker_was_killed(tmp_path: Path) -> None:
    job = Job(
        robot=find_robot("simple_pendulum"), camera="side", n=299, width=24, height=16, renderer="ray", shard=8, seed=3
    )
    killed: list[int] = []

    def report(done: int, total: int) -> None:
        workers = works.workers_of(os.getpid())
        if done and not killed and workers:
            os.kill(workers[0], signal.SIGKILL)
            killed.append(workers[0])

    synthesize(tmp_path / "ray", job, report=report, elsewhere=by_workers(SMALL))
    synthesize(tmp_path / "local", job, workers=1)
    assert killed, "no worker was at work when one was to be killed"
    manifest = (tmp_path / "ray" / shards.MANIFEST).read_bytes()
    assert manifest == (tmp_path / "local" / shards.MANIFEST).read_bytes() and not shards.damaged(tmp_path / "ray")
    assert {p.name: p.read_bytes() for p in (tmp_path / "ray").iterdir()} == {
        p.name: p.read_bytes() for p in (tmp_path / "local").iterdir()
    }


def test_a_posterior_is_the_same_to_the_last_bit(pendulum: RobotConfig, simulate: Simulate) -> None:
    logs = [simulate(pendulum, {"joint/shoulder/damping": 0.02}, seed=s, seconds=2.0) for s in range(2)]
    effort = Effort(windows=6, search=2, finish=1, starts=3, bootstrap=60)
    asked = ["joint/shoulder/damping", "body/pendulum/com", "timing/command/lag"]
    unknowns = chosen_unknowns(Model(pendulum), asked, by_row=False)
    alone = identify(logs, Model(pendulum), unknowns, effort=effort, nthread=1)
    spread = identify(logs, Model(pendulum), unknowns, effort=effort, nthread=1, elsewhere=ByWorkers(SMALL))
    assert config.to_plain(spread.posterior) == config.to_plain(alone.posterior)
    assert spread.bootstrap == alone.bootstrap and spread.zeros == alone.zeros


def test_a_stress_suite_is_the_same_run_by_run(tmp_path: Path) -> None:
    task, robot = load_task("pendulum_swingup"), find_robot("simple_pendulum")
    bundle = make_bundle(
        tmp_path / "bundle", robot.spec, task.observation, task.action, task=task.name,
        control_period_s=task.control_period_s,
    )  # fmt: skip
    suite = load_suite("default").shrunk()
    chosen = dataclasses.replace(suite.arena, duration_s=0.5)
    arena = arena_of(chosen, task)
    runs, subject = plan(suite, arena, 0).runs, of_bundle(bundle)
    shared = told(chosen, task, robot, None, None, bundle)
    here = InPieces(arena, 8, LOCAL, shared).run(subject, runs)
    there = InPieces(arena, 8, SMALL, shared).run(subject, runs)
    assert len(runs) > 16 and len(np.unique(here.returns)) > 16
    for name in ("success", "returns", "final"):
        assert np.array_equal(getattr(here, name), getattr(there, name)), name


def test_a_trial_s_worker_finds_the_run_directory_and_what_another_has_left(tmp_path: Path) -> None:
    left = tmp_path / "trials" / "0000" / "seed-0" / "result.json"
    left.parent.mkdir(parents=True)
    left.write_text(json.dumps({k: {"mean": 0.5} for k in ("success", "return")} | {"seconds": 2.0, "policy": "p"}))
    (tmp_path / STUDY).touch()
    shared = {"folder": str(tmp_path), "study": STUDY}
    task = {"folder": "trials/0000", "trainings": [{"out": str(left.parent.relative_to(tmp_path))}]}
    (found,) = fan_out(train_trial, [task], SMALL, shared)
    assert found == {"success": 0.5, "return": 0.5, "seconds": 2.0, "policies": ["p"]}


def test_the_cluster_was_started_for_these_tests(small_cluster: Cluster) -> None:
    assert small_cluster.started and small_cluster.workers == 2
