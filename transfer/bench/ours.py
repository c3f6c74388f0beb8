"""The batched environment as a contestant, and the bare Batch under it."""

from __future__ import annotations

from dataclasses import dataclass
from importlib import resources

import mujoco
import numpy as np
import numpy.typing as npt
from mujoco.batch import Batch

from robot.config import shipped
from robot.observation import Observation
from sim import randomization, tasks
from sim.engine import Backend
from sim.faces import GymVectorEnv
from sim.model import RobotConfig, find_robot
from sim.randomization import NOMINAL, LogUniform, Randomization, Term, Uniform
from sim.targets import TARGETS, split
from sim.tasks import Task
from sim.tasks.ant import ANT, DRIVEN, TORQUE_NM, ant_robot
from sim.vecenv import BatchedEnv

Array = npt.NDArray[np.float64]
ACTIONS = 64
"""Different random actions, repeated."""


@dataclass(frozen=True, slots=True)
class Arena:
    """A task with everything on: what an environment of ours simulates."""

    task: Task
    robot: RobotConfig
    law: Randomization

    @classmethod
    def of(cls, name: str) -> Arena:
        """A task by its name, `ant` included, under its robot's prior."""
        if name == ANT.name:
            return cls(ANT, ant_robot(), ant_prior())
        task = tasks.load_task(name)
        prior = shipped() / "dr" / f"{task.robot}_default.yaml"
        return cls(task, find_robot(task.robot), randomization.load(prior) if prior.exists() else NOMINAL)


def ant_prior() -> Randomization:
    """Masses, joint damping, motors and gravity of the ant, 18 targets drawn anew at each reset."""
    damping = tuple(f"joint/{name}/damping" for name in DRIVEN)
    gain = tuple(f"actuator/{name}/gain" for name in DRIVEN)
    return Randomization(
        name="ant_bench",
        terms=(
            Term(targets=("body/torso/mass",), how="scale", law=Uniform(low=0.8, high=1.2)),
            Term(targets=damping, how="scale", law=LogUniform(low=0.8, high=1.25)),
            Term(targets=gain, law=Uniform(low=0.9, high=1.1)),
            Term(targets=("world/gravity/gravity",), law=Uniform(low=9.7, high=9.9)),
        ),
    )


class Ours:
    """Observations, rewards, resets and randomization on, through the gymnasium face."""

    def __init__(self, arena: Arena, simulations: int, threads: int, seed: int, backend: Backend = "cpu") -> None:
        self.simulations, self.threads = simulations, threads
        self.setting = f"{simulations} simulations, {threads} threads"
        self.core = BatchedEnv(
            arena.task,
            arena.robot,
            arena.law,
            simulations,
            seed=seed,
            stagger=True,  # episodes end at all times, not all at once
            privileged=bool(arena.task.privileged_names),
            nthread=threads,
            backend=backend,
        )
        self._env = GymVectorEnv(self.core)
        self.actions = random_actions(simulations, self.core.observation.action_size, seed)
        self._env.reset(seed=seed)
        self._k = 0

    def play(self, steps: int) -> None:
        for _ in range(steps):
            self._env.step(self.actions[self._k % ACTIONS])
            self._k += 1

    def close(self) -> None:
        """Nothing to end: the threads go with the Batch."""


class Bare:
    """`Batch.step` alone, with as many physics steps to a control step: no observation, reward, reset or draw."""

    def __init__(self, ours: Ours, model: mujoco.MjModel | None = None, scale: float = 1.0) -> None:
        """The commands are those of `ours`, worked out before; `model` and their `scale`, where it is another model."""
        core = ours.core
        self.simulations, self.setting, self._ours = ours.simulations, ours.setting, ours
        self._batch = Batch(model or core.model.mj, ours.simulations, ours.threads)
        self._batch.reset()
        self._substeps, self._ctrl = core.plant.substeps, self._batch.bind("ctrl")
        self._controls = np.zeros((ACTIONS, *self._ctrl.shape))
        decoder = Observation(core.spec, core.observation.config, core.task.action, ours.simulations)
        for k, action in enumerate(ours.actions):
            self._controls[k][:, core.model.ctrl_index] = decoder.decode(action)[:, core.spec.driven] * scale
        # gymnasium's file has parameters of its own
        drawn = [TARGETS[split(target)[0]] for target in core.randomization.targets if model is None]
        self._fields = {field for target in drawn for field in target.fields if _size(core.model.mj, field)}
        self._k = 0

    def follow(self) -> None:
        """Take over the states and parameters of `ours`: a step costs more with contacts, or where joints rub."""
        own, other = self._batch, self._ours.core.plant.batch
        for name in ("qpos", "qvel", "act", "qacc_warmstart"):
            own.bind(name)[...] = other.bind(name)
        if self._fields:
            for name in self._fields:
                own.expand(name)[...] = other.expand(name)
            own.set_const()

    def play(self, steps: int) -> None:
        for _ in range(steps):
            self._ctrl[:] = self._controls[self._k % ACTIONS]
            self._batch.step(nstep=self._substeps)
            self._k += 1

    def close(self) -> None:
        """Nothing to end: the threads go with the Batch."""


def _size(model: mujoco.MjModel, field: str) -> int:
    """How many numbers a model field has in this model."""
    return int(np.size(getattr(model.opt if field.startswith("opt.") else model, field.removeprefix("opt."))))


def bare_of_gymnasium(ours: Ours) -> Bare:
    """A Batch of gymnasium's ant.xml as it stands, whose controls are in [-1, 1]."""
    source = resources.files("gymnasium") / "envs" / "mujoco" / "assets" / "ant.xml"
    return Bare(ours, mujoco.MjModel.from_xml_string(source.read_text()), 1.0 / TORQUE_NM)


def random_actions(simulations: int, width: int, seed: int) -> npt.NDArray[np.float32]:
    """(ACTIONS, simulations, width) uniform in [-1, 1]."""
    return np.random.default_rng(seed).uniform(-1.0, 1.0, (ACTIONS, simulations, width)).astype(np.float32)
