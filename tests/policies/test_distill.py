"""A student that sees does what a teacher with joint sensors would."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from policies import distill as distilling
from policies.advice import advisor
from policies.distill import DistillConfig, distill
from policies.encoders.physics import PhysicsEncoder
from policies.encoders.vision import VisionEncoder
from policies.network import NetworkConfig
from policies.policy import Policy, PolicyCard
from policies.ppo import TrainConfig
from policies.progress import Progress
from policies.train import train
from robot.config import ConfigError
from sim.model import RobotConfig, find_robot
from sim.randomization import NOMINAL
from sim.sb3 import SB3VecEnv
from sim.sight import SightErrors
from sim.tasks import load_task
from sim.vecenv import BatchedEnv
from transfer.export import export
from transfer.training import card_of

EXACT = SightErrors(("side",), ("joint_cos/shoulder", "joint_sin/shoulder"), np.zeros((1, 1, 1), np.float32))
FEW = DistillConfig(num_envs=16, rounds=4, steps=100, updates=250, batch=256, learning_rate=5e-3)


def lesson(robot: RobotConfig, seed: int = 0) -> BatchedEnv:
    return BatchedEnv(load_task("pendulum_swingup"), robot, NOMINAL, FEW.num_envs, seed=seed, sight=EXACT, nthread=1)


@pytest.fixture(scope="module")
def teacher(robot: RobotConfig) -> Policy:
    """It asks for more torque the faster the joint turns: what no single picture tells."""
    policy = Policy(card_of(load_task("pendulum_swingup"), robot, NetworkConfig(hidden=(8,)))).eval()
    with torch.no_grad():
        for weights in policy.actor.parameters():
            weights.zero_()
        policy.actor[0].weight[0, 2] = 0.1  # joint_velocity
        policy.actor[2].weight[0, 0] = 3.0
    return policy


@pytest.fixture(scope="module")
def student_card(robot: RobotConfig) -> PolicyCard:
    return card_of(load_task("pendulum_swingup_pixels"), robot, NetworkConfig(hidden=(32, 32), memory=3))


def test_the_student_learns_the_velocity_from_its_memory(
    robot: RobotConfig, teacher: Policy, student_card: PolicyCard, vision: VisionEncoder
) -> None:
    reports: list[Progress] = []
    student = distill(lesson(robot), teacher, student_card, vision, FEW, seed=0, report=reports.append)
    assert [r.done for r in reports] == [1, 2, 3, 4]
    env, act = lesson(robot, seed=9), student.episode()
    inputs, wrong, asked = env.reset(), [], []
    for step in range(40):
        layout_inputs = {"observation": env.observation.previous_action.astype(np.float32), "sight": inputs["sight"]}
        mine, theirs = act(layout_inputs), teacher.act(inputs)
        if step > 3:
            wrong.append(mine - theirs)
            asked.append(theirs)
        for _ in range(2):
            inputs = env.step(mine).inputs
    assert np.sqrt(np.mean(np.square(wrong))) < 0.5 * np.std(asked)
    assert torch.equal(student.vision.encoder.compress.weight, vision.compress.weight)  # type: ignore[union-attr]


def test_the_same_seed_gives_the_same_student(
    robot: RobotConfig, teacher: Policy, student_card: PolicyCard, vision: VisionEncoder
) -> None:
    short = replace(FEW, rounds=2, steps=10, updates=5)
    one, two = (distill(lesson(robot), teacher, student_card, vision, short, seed=3) for _ in range(2))
    assert all(torch.equal(value, two.state_dict()[name]) for name, value in one.state_dict().items())


def test_a_teacher_of_another_rhythm_is_refused(
    robot: RobotConfig, teacher: Policy, student_card: PolicyCard, vision: VisionEncoder
) -> None:
    slower = replace(student_card, control_period_s=0.015)
    with pytest.raises(ConfigError, match=r"every 0.01 s; task 'pendulum_swingup_pixels' has .* every 0.015 s"):
        distill(lesson(robot), teacher, slower, vision, FEW, seed=0)


@pytest.mark.parametrize("slower", [1, 2])
def test_a_teacher_with_memory_remembers_each_robots_own_episode(robot: RobotConfig, slower: int) -> None:
    task, steps, n = replace(load_task("pendulum_swingup"), episode_s=0.3), 40, 3
    torch.manual_seed(0)
    remembers = Policy(card_of(task, robot, NetworkConfig(hidden=(8,), memory=3))).eval()
    student = replace(card_of(task, robot, NetworkConfig(hidden=(8,))), control_period_s=slower * task.control_period_s)
    make = lambda: BatchedEnv(task, robot, NOMINAL, n, seed=5, nthread=1)  # noqa: E731
    given = distilling._Lesson(make(), remembers, Policy(student).eval()).hold(steps, 1.0, np.random.default_rng(0))
    env, alone, said, forgetful, ends = make(), [remembers.episode() for _ in range(n)], [], [], 0
    inputs = env.reset()
    for _ in range(steps):
        rows = lambda: [{"observation": inputs["observation"][i : i + 1]} for i in range(n)]  # noqa: B023, E731
        asked = np.concatenate([act(row) for act, row in zip(alone, rows(), strict=True)])
        said.append(asked)
        forgetful.append(np.concatenate([remembers.episode()(row) for row in rows()]))
        for held in range(slower):
            if held:
                for act, row in zip(alone, rows(), strict=True):
                    act(row)
            out = env.step(asked)
            inputs, ends = out.inputs, ends + int(out.done.sum())
            alone = [remembers.episode() if done else act for act, done in zip(alone, out.done, strict=True)]
    assert ends >= n
    np.testing.assert_allclose(given.said.numpy(), np.concatenate(said), atol=1e-6)
    assert np.abs(np.concatenate(said) - np.concatenate(forgetful)).max() > 1e-2


QUADRUPED = "quadruped_velocity"


def walking(seed: int = 0) -> BatchedEnv:
    task = load_task(QUADRUPED)
    return BatchedEnv(task, find_robot("quadruped"), NOMINAL, 8, seed=seed, privileged=True, nthread=1)


@pytest.fixture(scope="module")
def told() -> Policy:
    """A teacher that acts on the trunk's sideways velocity, which nothing on the robot measures."""
    task = load_task(QUADRUPED)
    card = card_of(task, find_robot("quadruped"), NetworkConfig(hidden=(8,)))
    policy = Policy(replace(card, privileged=task.privileged_names)).eval()
    with torch.no_grad():
        for weights in policy.actor.parameters():
            weights.zero_()
        policy.actor[0].weight[0, policy.card.layout().size + 1] = 1.0  # velocity/y
        policy.actor[2].weight[:, 0] = 0.3
    return policy


SHORT = DistillConfig(num_envs=8, rounds=3, steps=20, updates=15, batch=32, mixing=0.5)


def student_of(told: Policy) -> PolicyCard:
    return replace(told.card, privileged=(), network=NetworkConfig(hidden=(16,), memory=2))


def test_a_student_of_a_privileged_teacher_sees_what_the_robot_measures(told: Policy) -> None:
    student = distill(walking(), told, student_of(told), None, SHORT, seed=0)
    assert student.input_names == ("observation", "state_memory") and told.input_names == ("observation", "privileged")
    env = walking(seed=4)
    inputs, act = env.reset(), student.episode()
    asked = told.act(inputs)
    inputs["privileged"][:] = 9.0
    assert np.abs(told.act(inputs) - asked).max() > 0.1
    assert np.isfinite(act(inputs)).all(), "it does not read them"


def test_a_distillation_that_was_cut_gives_the_student_of_an_uninterrupted_one(told: Policy, tmp_path: Path) -> None:
    def run(name: str, resume: bool = False, die: int = 99) -> Policy:
        def watch(progress: Progress) -> None:
            if progress.done == die:
                raise KeyboardInterrupt

        return distill(
            walking(), told, student_of(told), None, SHORT, seed=1, out=tmp_path / name, resume=resume, report=watch
        )

    whole = run("whole")
    with pytest.raises(KeyboardInterrupt):
        run("cut", die=2)
    again = run("cut", resume=True)
    assert all(torch.equal(v, again.state_dict()[k]) for k, v in whole.state_dict().items())
    with pytest.raises(ConfigError, match="already holds a distillation; continue it with resume=true"):
        run("cut")
    with pytest.raises(ConfigError, match=r"started with steps = 20, and is to be resumed with 30"):
        distill(
            walking(), told, student_of(told), None, replace(SHORT, steps=30), seed=1, out=tmp_path / "cut", resume=True
        )
    written = {p.suffix for p in tmp_path.rglob("*") if p.is_file()}
    assert written == {".npz", ".safetensors", ".yaml"}
    (tmp_path / "cut" / "lessons" / "000001.npz").write_bytes(b"x")
    with pytest.raises(ConfigError, match=r"000001\.npz: cannot be read"):
        run("cut", resume=True)


def test_the_teacher_leads_less_from_round_to_round(told: Policy, monkeypatch: pytest.MonkeyPatch) -> None:
    shares = []
    hold = distilling._Lesson.hold

    def watched(self: object, steps: int, by_teacher: float, rng: np.random.Generator) -> object:
        shares.append(by_teacher)
        return hold(self, steps, by_teacher, rng)  # type: ignore[arg-type]

    monkeypatch.setattr(distilling._Lesson, "hold", watched)
    few = replace(SHORT, steps=2, updates=1)
    distill(walking(), told, student_of(told), None, few, seed=0)
    distill(walking(), told, student_of(told), None, replace(few, mixing=0.0), seed=0)
    assert shares == [1.0, 0.5, 0.25, 1.0, 0.0, 0.0]


def test_a_student_with_a_physics_encoder_learns_from_its_context(
    robot: RobotConfig, encoder: PhysicsEncoder, teacher: Policy
) -> None:
    card = card_of(load_task("pendulum_swingup"), robot, NetworkConfig(hidden=(8,)))
    env = BatchedEnv(load_task("pendulum_swingup"), robot, NOMINAL, 8, seed=0, nthread=1)
    few = replace(SHORT, steps=60)
    student = distill(env, teacher, card, None, few, seed=0, encoder=encoder)
    assert "history" in student.input_names
    with torch.no_grad():
        reads = student.actor[0].weight[:, 4:]
    assert reads.shape[1] == encoder.card.context and reads.abs().max() > 0.0


def test_the_teacher_is_told_what_an_encoder_believes_of_a_cube() -> None:
    """The cube is 0.1 m off for the encoder: so it is for the teacher, and so is its way from tool to cube."""
    task, robot = load_task("arm_push"), find_robot("so101")
    states = tuple(f"body_position/cube/{axis}" for axis in "xyz")
    off = SightErrors(("front",), states, np.full((1, 1, 3), 0.1, np.float32))
    task = replace(task, observation=replace(task.observation, cameras=("front",)))
    env = BatchedEnv(task, robot, NOMINAL, 2, sight=off, privileged=True, nthread=1)
    truth = env.reset()["privileged"]
    moved = env.believed_privileged - truth
    names = list(task.privileged_names)
    for name in names:
        wanted = 0.1 if name in ("cube/x", "cube/y", "cube/z") or name.startswith("tool_to_cube") else 0.0
        np.testing.assert_allclose(moved[:, names.index(name)], wanted, atol=1e-6, err_msg=name)


def test_the_teacher_believes_an_encoder_only_of_what_the_student_does_not_measure(
    robot: RobotConfig, teacher: Policy, student_card: PolicyCard, vision: VisionEncoder
) -> None:
    seeing = student_card.with_vision(vision.card)
    assert [teacher.card.layout().components[i] for i, _, _ in distilling._told(teacher.card, seeing)] == [
        "cos/shoulder", "sin/shoulder",
    ]  # fmt: skip
    both = replace(seeing, observation=replace(seeing.observation, features=("joint_cos", "previous_action")))
    assert [teacher.card.layout().components[i] for i, _, _ in distilling._told(teacher.card, both)] == ["sin/shoulder"]


def test_a_teacher_is_never_exported(told: Policy, tmp_path: Path) -> None:
    golden = {"observation": np.zeros((4, 1), np.float32)}
    with pytest.raises(ConfigError, match="the policy is a teacher, shown what no sensor"):
        export(told, tmp_path, golden=golden, rng=np.random.default_rng(0))
    again = Policy.load(told.save(tmp_path / "teacher"))
    assert again.card.privileged == load_task(QUADRUPED).privileged_names


def test_advice_pulls_a_student_towards_its_teacher(told: Policy, tmp_path: Path) -> None:
    """Where nothing is to be gained, the divergence alone moves the student, and it falls."""
    card = replace(told.card, privileged=())
    recipe = TrainConfig(
        env_steps=8 * 16 * 4, num_envs=8, rollout_steps=16, segment_rollouts=2, batch=64, epochs=8, kl_weight=5.0,
        learning_rate=3e-3, learning_rate_end=3e-3, std_start=0.3,
    )  # fmt: skip

    def gap(policy: Policy) -> float:
        env = walking(seed=7)
        inputs, total = env.reset(), 0.0
        for _ in range(10):
            asked = told.act(inputs)
            total += float(np.abs(policy.act(inputs) - asked).mean())
            inputs = env.step(asked).inputs
        return total

    make = lambda n: SB3VecEnv(walking())  # noqa: E731
    pulled = train(make, card, recipe, tmp_path / "a", seed=0, advise=advisor(told, card)).policy
    free = train(make, card, replace(recipe, kl_weight=0.0), tmp_path / "b", seed=0, advise=advisor(told, card)).policy
    assert gap(pulled) < 0.7 * gap(free)
    assert pulled.input_names == ("observation",)


def test_advice_that_cannot_be_read_is_refused(told: Policy, teacher: Policy, student_card: PolicyCard) -> None:
    with pytest.raises(ConfigError, match="reads another observation, or acts otherwise"):
        advisor(teacher, student_card)
