"""The stage: what configuration makes of a task, teachers and students, and sweeps that go on where they were cut."""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")

import json
import re
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from policies.encoders.physics import EncoderCard, EncoderConfig, PhysicsEncoder
from policies.policy import Policy
from policies.train import load_critic
from robot import config
from robot.config import ConfigError
from robot.observation import Observation
from robot.result import Run
from sim.model import find_robot
from sim.randomization import NOMINAL, Randomization
from sim.tasks import load_task
from sim.vecenv import BatchedEnv
from transfer import cli
from transfer.report import sweep_page
from transfer.setting import Setting, prepare
from transfer.stages import train as stage
from transfer.sweep import STUDY, SweepConfig
from transfer.training import environments

torch.set_num_threads(1)
PENDULUM, PUSHING = "task=pendulum_swingup", "task=arm_push"
FEW = ("quick=true", "network.hidden=[8]")


def train(out: Path, *words: str) -> dict[str, Any]:
    result: dict[str, Any] = json.loads(cli.call("train", [*FEW, f"out={out}", *words]).read_text())
    return result


def curve(out: Path) -> list[dict[str, float]]:
    return [json.loads(line) for line in (out / "curve.jsonl").read_text().splitlines()]


def test_action_and_costs_are_taken_from_the_command_line(tmp_path: Path) -> None:
    train(tmp_path, PENDULUM, "action={kind: velocity, kd: [0.5]}", "reward={energy: 0.01, action_rate: 0.02}")
    policy = Policy.load(tmp_path / "policy")
    assert policy.action.kind == "velocity" and policy.action.scale == (20.0,), "the joint's velocity limit"
    assert {"term/cost/energy", "term/cost/action_rate"} <= set(curve(tmp_path)[-1])
    found = json.loads(cli.call("evaluate", [f"policy={tmp_path / 'policy'}", PENDULUM, "quick=true"]).read_text())
    assert found["success"]["n"] == 20
    cli.call("export", [f"policy={tmp_path / 'policy'}", "quick=true", f"out={tmp_path / 'export'}"])
    manifest = config.load_yaml(tmp_path / "export" / "bundle" / "manifest.yaml")
    assert manifest["action"]["kind"] == "velocity" and manifest["action"]["kd"] == [0.5]


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        ((PENDULUM, "action={kind: position}"), r"needs kp above 0 for this: give action\.kp"),
        ((PENDULUM, "action={knd: position}"), r"unknown key 'action\.knd'.*Did you mean 'kind'"),
        ((PENDULUM, "reward={enrgy: 1.0}"), r"reward\.enrgy is no cost.*Did you mean 'energy'"),
        ((PENDULUM, "privileged=true"), "task 'pendulum_swingup' has no privileged signals"),
        ((PENDULUM, "encoders=finetuned"), "there is no encoder to train; give physics=DIR"),
        (("task=arm_reach", "symmetry=augment"), "task 'arm_reach' says no mirror"),
        ((PENDULUM, "recipe.algorithm=sack"), r"recipe\.algorithm is 'sack'.*Did you mean 'sac'"),
        ((PENDULUM, "symmetry=mirror"), "symmetry is 'mirror'; it must be one of"),
    ],
)
def test_mistakes_are_told_in_one_sentence(words: tuple[str, ...], sentence: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=sentence):
        train(tmp_path, *words)


def test_encoders_and_their_window_follow_from_one_key_each(tmp_path: Path) -> None:
    task, robot = load_task("pendulum_swingup"), find_robot("simple_pendulum")
    small = EncoderConfig(history=48, context=6, hidden=(16,), predictor=(16,), span=2)
    layout = Observation(robot.spec, task.observation, task.action)
    torch.manual_seed(7)
    encoder = PhysicsEncoder(EncoderCard.of(layout, small, task.control_period_s))
    encoder.save(tmp_path / "encoder")

    def set_up(*words: str) -> Setting:
        module = cli.load_stage("train")
        cfg = cli._convert("train", module, [PENDULUM, f"physics={tmp_path / 'encoder'}", *words])
        return prepare(cfg, Run("train", tmp_path / "run"))

    fine, scratch = set_up("encoders=finetuned", "history=24"), set_up("encoders=scratch")
    assert (fine.history, scratch.history) == (24, 48) and fine.card.lineage["encoders"] == "finetuned"
    assert fine.encoder is not None and scratch.encoder is not None
    for name, value in encoder.state_dict().items():
        assert torch.equal(value, fine.encoder.state_dict()[name]), name
        same = torch.equal(value, scratch.encoder.state_dict()[name])
        assert same == (name in dict(encoder.named_buffers()) or name == "evidence.weight"), name


def test_a_teacher_its_student_and_further_training_near_the_teacher(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The critic sees what is privileged, the teacher too, and neither student nor export do."""
    train(tmp_path / "teacher", PUSHING, "privileged=true")
    teacher = Policy.load(tmp_path / "teacher" / "policy")
    assert teacher.card.privileged == load_task("arm_push").privileged_names
    with pytest.raises(ConfigError, match=r"it is a teacher, shown what no sensor .* distil a student"):
        cli.call("export", [f"policy={tmp_path / 'teacher' / 'policy'}", f"out={tmp_path / 'x'}"])
    told = f"teacher={tmp_path / 'teacher' / 'policy'}"
    laws = []

    class Lesson(BatchedEnv):
        def __init__(self, task: Any, robot: Any, law: Randomization, *rest: Any, **options: Any) -> None:
            laws.append(law)
            super().__init__(task, robot, law, *rest, **options)

    monkeypatch.setattr(stage, "BatchedEnv", Lesson)
    train(tmp_path / "student", PUSHING, told, "dr.curriculum={kind: ramp, from_env_steps: 9000, over_env_steps: 1000}")
    assert laws[0].terms and laws[0].curriculum is None, (
        "a lesson ends before the ramp begins, and the teacher knows it all"
    )
    student = Policy.load(tmp_path / "student" / "policy")
    assert student.input_names == ("observation",)
    start = f"start={tmp_path / 'student' / 'policy'}"
    train(tmp_path / "near", PUSHING, told, start, "recipe.kl_weight=1.0", "recipe.critic_rollouts=1")
    assert Policy.load(tmp_path / "near" / "policy").card.lineage["start_from"]
    critic = load_critic(tmp_path / "near" / "policy")
    assert critic is not None and "privileged.mean" in critic
    with pytest.raises(ConfigError, match="started with another advice"):
        train(tmp_path / "near", PUSHING, start, "recipe.kl_weight=1.0", "recipe.critic_rollouts=1", "resume=true")


def test_symmetry_and_another_algorithm_by_one_key_each(tmp_path: Path) -> None:
    train(tmp_path / "a", PENDULUM, "symmetry=equivariant")
    assert Policy.load(tmp_path / "a" / "policy").card.symmetry is not None
    train(tmp_path / "b", PENDULUM, "recipe=pendulum_swingup_sac")
    assert sorted(p.name for p in (tmp_path / "b" / "replay").iterdir())


SWEEP = """
trials: 3
space:
  recipe.learning_rate: {kind: float, low: 1e-4, high: 3e-3, log: true}
  network.hidden: {kind: choice, values: [[8], [4, 4]]}
"""


def swept(out: Path, file: Path, *words: str) -> dict[str, Any]:
    result: dict[str, Any] = json.loads(
        cli.call("train", [PENDULUM, f"sweep={file}", f"out={out}", "quick=true", *words]).read_text()
    )
    return result


def test_a_sweep_that_was_killed_goes_on_and_suggests_what_it_would_have(tmp_path: Path) -> None:
    pytest.importorskip("optuna")
    file = tmp_path / "sweep.yaml"
    file.write_text(SWEEP)
    words = ["train", PENDULUM, f"sweep={file}", f"out={tmp_path / 'cut'}", "quick=true"]
    code = f"import sys; sys.path[:0] = {sys.path!r}; from transfer.cli import main; main({words!r})"
    victim = subprocess.Popen([sys.executable, "-c", code], env=os.environ | {"OMP_NUM_THREADS": "1"})
    second, deadline = tmp_path / "cut" / "trials" / "0001", time.monotonic() + 120
    while not second.exists() and victim.poll() is None and time.monotonic() < deadline:
        time.sleep(0.01)
    victim.kill()
    victim.wait()
    assert (tmp_path / "cut" / "trials" / "0000" / "seed-0" / "result.json").exists()
    with pytest.raises(ConfigError, match="already holds a sweep; go on with resume=true"):
        swept(tmp_path / "cut", file)
    again, whole = swept(tmp_path / "cut", file, "resume=true"), swept(tmp_path / "whole", file)
    assert again["trials"] == whole["trials"] == 3
    assert again["best"]["params"] == whole["best"]["params"] and again["best"]["value"] == whole["best"]["value"]
    assert (tmp_path / "cut" / STUDY).exists() and Policy.load(Path(again["policy"])).card.network.hidden
    page = Path(again["table"]).read_text()
    assert page.count("<tr") == 4 and "data-value" in page and "http" not in re.sub(r"<a href=\"trials", "", page)


def test_a_setting_that_cannot_be_trained_is_a_row_of_the_table(tmp_path: Path) -> None:
    pytest.importorskip("optuna")
    file = tmp_path / "sweep.yaml"
    file.write_text("trials: 2\nspace: {network.memory: {kind: choice, values: [-1, -2]}}\n")
    with pytest.raises(ConfigError, match=r"no trial of the sweep could be trained.*network\.memory is -"):
        swept(tmp_path / "a", file)
    assert "network.memory is" in (tmp_path / "a" / "sweep.html").read_text()
    file.write_text("space: {recipee.epochs: {kind: int, low: 1, high: 2}}\n")
    with pytest.raises(ConfigError, match=r"space names 'recipee\.epochs', which is no key of train"):
        swept(tmp_path / "b", file)
    with pytest.raises(ConfigError, match="needs a space with at least one key"):
        SweepConfig(space={})


def test_the_table_sorts_by_numbers_and_escapes_what_people_wrote() -> None:
    page = sweep_page.page(
        "a & b", [{"trial": 0, "return": 1.5, "error": "<x>"}, {"trial": 1, "return": 20.0}], "return"
    )
    assert "a &amp; b" in page and "&lt;x&gt;" in page and 'data-value="20.0"' in page
    assert page.index("class='best'") > page.index('data-value="1.5"')


def test_the_jobs_of_a_multirun_become_a_table(tmp_path: Path) -> None:
    for job, value in ((0, 0.25), (1, 0.75), (10, 0.5)):
        (tmp_path / str(job) / ".hydra").mkdir(parents=True)
        (tmp_path / str(job) / ".hydra" / "overrides.yaml").write_text(f"- ++seed={job}\n- task=pendulum_swingup\n")
        (tmp_path / str(job) / "result.json").write_text(json.dumps({"success": {"mean": value}, "seconds": 2.0}))
    (tmp_path / "2").mkdir()
    table = sweep_page.of_multirun(tmp_path)
    assert table is not None
    text = table.read_text()
    assert text.count("<tr") == 5 and "running or failed" in text and "<th>seed</th>" in text
    assert text.index("class='best'") < text.index('data-value="0.75"') < text.index('data-value="0.5"')


def test_a_policy_for_a_posterior_is_ranked_on_it_whatever_suite_the_recipe_names(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from types import SimpleNamespace

    from transfer import training
    from transfer.stages.train import _ranking

    monkeypatch.setattr(training, "scorer", lambda *_, **__: "the law")
    monkeypatch.setattr(training, "stress_scorer", lambda *_, **__: "the suite")
    setting = SimpleNamespace(task=None, law=None, sight=None)

    def ranked(posterior: Path | None, select: str) -> object:
        return _ranking(SimpleNamespace(posterior=posterior, quick=True, robot=None), select, setting)  # type: ignore[arg-type]

    assert ranked(None, "pendubot_selection") == "the suite"
    assert ranked(Path("posterior.yaml"), "pendubot_selection") == ranked(None, "") == "the law"


def test_training_episodes_last_as_long_as_the_recipe_says() -> None:
    task = load_task("pendulum_swingup")
    make = environments(task.exploring(0.2), find_robot(task.robot), NOMINAL, 0, 0)
    env = make(2)
    env.reset()
    ends = [k for k in range(40) if env.step(np.zeros((2, 1)))[2][0]]
    assert set(np.diff(ends)) == {round(0.2 / task.control_period_s)}  # the first was cut anywhere
