"""What the trainings of tests/benchmarks/ablation.py differ by: laws, the encoder, and a teacher that is told more.

The hold of every policy is the one of the full randomization's middle, and the robot of a training in which nothing is
randomized is the one that the full randomization begins with: the published model.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch

from policies import checkpoint, tensors
from policies.card import PolicyCard
from policies.encoders.physics import EncoderCard, EncoderConfig, PhysicsEncoder
from policies.encoders.pretrain import pretrain
from policies.given import Given
from policies.learner import recipe_of
from policies.network import NetworkConfig
from policies.policy import Policy
from policies.ppo import TrainConfig
from policies.sight import PRIVILEGED
from robot import config
from robot.observation import Observation
from sim import curriculum, randomization
from sim.curriculum import Ramp, RampCurriculum
from sim.laws import Point
from sim.model import Model, RobotConfig, find_robot
from sim.randomization import Randomization
from sim.sb3 import SB3VecEnv
from sim.tasks import Task, load_task
from sim.vecenv import BatchedEnv, Inputs
from transfer.hold import hold_of
from transfer.progress import terminal
from transfer.shaping import as_made
from transfer.training import EVALUATION_SEED, card_of
from transfer.windows import simulated_windows

CONDITIONS = {
    "none": "nothing randomized",
    "forces": "random forces alone",
    "dynamics": "dynamics, delay and pushes",
    "context": "the same + physics context",
    "student": "the same, by a teacher that knows the robot",
    "student_context": "the same student + physics context",
}
BRANCHES = ("forces", "dynamics", "context")
"""Those whose beginning is that of `none`, in which they would see the same robots."""
SHIPPED = config.shipped()
NEVER = 10**9
TOLD = ("body/*", "motor/*", "joint/*/damping", "joint/*/frictionloss", "timing/command/delay")
"""What the encoder's context is to tell; lag and pushes only vary."""


@dataclass(frozen=True)
class Length:
    """How long each training is, in segments of 131,072 environment steps."""

    whole: int
    beginning: int
    """Until hold and randomization begin."""
    ramp: int
    """In which the randomization grows to its width."""


LENGTHS = {"short": Length(10, 5, 2), "full": Length(33, 12, 8)}
"""`full` is the recipe's own."""


@dataclass(frozen=True)
class Scene:
    """What all conditions have in common."""

    length: Length
    recipe: TrainConfig
    task: Task
    robot: RobotConfig
    law: Randomization
    """The whole randomization of the recipe."""
    card: PolicyCard
    """Of every policy that is judged, with its hold."""


def scene(length: Length) -> Scene:
    """Recipe, task, robot, law, and the card with the hold."""
    shipped = recipe_of(config.load_yaml(SHIPPED / "recipe" / "pendubot_swingup.yaml"), "ablation")
    assert isinstance(shipped, TrainConfig)
    steps = shipped.segment_steps
    recipe = replace(shipped, env_steps=length.whole * steps, hold_from=length.beginning * steps)
    task, robot = load_task("pendubot_swingup"), find_robot("double_pendulum_c1")
    law = randomization.load(SHIPPED / "dr" / "pendubot_swingup.yaml")
    network = config.load(NetworkConfig, SHIPPED / "network" / "pendubot_swingup.yaml")
    card = card_of(task, robot, network)
    task = as_made(task, card)
    card = replace(card, hold=hold_of(task, robot, law, card.observation))
    return Scene(length, recipe, task, robot, law, card)


def encoder_of(scene: Scene, folder: Path) -> PhysicsEncoder:
    """Of the policy's own observation, on robots of the whole law; pretrained where `folder` does not hold it yet."""
    if (folder / "encoder.yaml").exists():
        return PhysicsEncoder.load(folder)
    settings = config.load_yaml(SHIPPED / "encoder" / "physics.yaml") | {"told": list(TOLD)}
    encoder = config.convert(EncoderConfig, settings, "ablation", "encoder")
    task, robot = scene.task, scene.robot
    data = simulated_windows(task, robot, replace(scene.law, curriculum=None), encoder, seed=0, nthread=1)
    observation = Observation(robot.spec, replace(task.observation, history=encoder.history), task.action)
    card = EncoderCard.of(observation, encoder, task.control_period_s)
    return pretrain(data, card, encoder, folder, seed=0, report=terminal()).encoder


def widen(run: Path, scene: Scene, encoder: PhysicsEncoder) -> None:
    """Let the checkpoint in `run` go on with a context beside the observation, to which all weights are zero yet.

    In the beginning, where all robots are one, there was nothing for a context to tell.
    """
    folder = checkpoint.latest(run)
    assert folder is not None
    before = scene.card
    after, row = before.with_encoder(encoder.card), before.shown
    blank = torch.zeros(before.network.hidden[0], after.vector - before.vector)
    named = {
        name: torch.cat([value[:, :row], blank, value[:, row:]], dim=1)
        if value.ndim == 2 and value.shape[1] == before.vector
        else value
        for name, value in tensors.load(folder / checkpoint.TENSORS).items()
    }
    tensors.save(folder / checkpoint.TENSORS, named)
    state = config.load(checkpoint.TrainState, folder / checkpoint.STATE)
    now = Given(encoder, None, "frozen", None, None, None, None).digests(after)
    config.save(folder / checkpoint.STATE, replace(state, inputs=state.inputs | now))


def law_of(scene: Scene, condition: str) -> Randomization:
    """What the robots of a condition's training are drawn from, and how it grows."""
    steps, length = scene.recipe.segment_steps, scene.length
    grows = Ramp(from_env_steps=length.beginning * steps, over_env_steps=length.ramp * steps, some=_some(scene.law))
    if condition == "none":
        return replace(scene.law, curriculum=replace(grows, from_env_steps=NEVER))
    if condition == "forces":
        forces = randomization.load(SHIPPED / "dr" / "double_pendulum_c1_forces.yaml")
        return replace(forces, terms=(*_still(scene), *forces.terms), curriculum=replace(grows, some=1.0))
    return replace(scene.law, curriculum=grows)


def _some(law: Randomization) -> float:
    assert isinstance(law.curriculum, Ramp)
    return law.curriculum.some


def _still(scene: Scene) -> tuple[randomization.Term, ...]:
    """The terms of the law where its curriculum begins: a robot of which nothing varies."""
    begins = RampCurriculum(scene.law, Ramp(end=0.0, over_env_steps=1), 1)
    drawn = begins.draw_laws(Model(scene.robot), np.random.default_rng(0), np.zeros(1, dtype=np.intp))
    return tuple(
        replace(term, law=Point(values=tuple(float(v) for v in values[0])))
        for term, values in zip(scene.law.terms, drawn, strict=True)
    )


class KnowingEnv(BatchedEnv):
    """Simulations whose privileged signals are the parameters in force: what a teacher is told of its robot."""

    def _inputs(self) -> Inputs:
        inputs = super()._inputs()
        return inputs | {PRIVILEGED: self.parameters[1].astype(np.float32)}


def told(scene: Scene) -> Task:
    """The task with the law's targets as privileged signals."""
    return replace(scene.task, privileged_names=scene.law.targets)


def teachers_card(scene: Scene, task: Task) -> PolicyCard:
    """Of a teacher: the parameters beside all that the student is shown, commands on their way included."""
    return replace(scene.card, privileged=task.privileged_names)


def told_environments(task: Task, robot: RobotConfig, law: Randomization, seed: int) -> Callable[[int], object]:
    """As transfer.training.environments makes them, of KnowingEnv."""
    return lambda n: SB3VecEnv(KnowingEnv(task, robot, law, n, seed=seed, stagger=True, privileged=True, nthread=1))


def classroom(scene: Scene, n: int, seed: int) -> KnowingEnv:
    """Where a teacher teaches: robots of the grown randomization, a few of whose terms differ at once."""
    return KnowingEnv(told(scene), scene.robot, grown(scene.law), n, seed=seed, privileged=True, nthread=1)


def grown(law: Randomization) -> Randomization:
    """The law as its curriculum leaves it."""
    return replace(law, curriculum=Ramp(start=1.0, over_env_steps=1, some=_some(law)))


def told_scorer(scene: Scene, task: Task, n: int = 128) -> Callable[[Policy], tuple[float, float]]:
    """Policy -> success and mean return over whole episodes with n robots of the grown law, told or not."""

    def rank(policy: Policy) -> tuple[float, float]:
        made = replace(task, observation=policy.observation)
        env = KnowingEnv(
            made, scene.robot, scene.law, n, seed=EVALUATION_SEED, start="evaluate", autoreset=False, privileged=True,
            nthread=1,
        )  # fmt: skip
        env.curriculum = curriculum.of(grown(scene.law), n)
        act, inputs = policy.episode(), env.reset()
        ended, success, returns = np.zeros(n, bool), np.zeros(n, bool), np.zeros(n)
        for _ in range(task.steps):
            step = env.step(act(inputs))
            first: npt.NDArray[np.bool_] = step.done & ~ended
            success[first], returns[first] = step.success[first], step.episode_return[first]
            ended |= first
            inputs = step.inputs
        return float(success.mean()), float(returns.mean())

    return rank
