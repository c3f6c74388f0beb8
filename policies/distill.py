"""Distillation: a policy that sees through cameras learns from one that is shown the joints.

Learning by trial and error from what an encoder tells is slow; a teacher who was trained on the joints' sensors
already knows what to do. The student acts, the teacher says at each of its steps what it would have done there, and
the student is fitted to all that was said so far (DAgger: Ross et al., AISTATS 2011). The teacher's environment is
stepped at the teacher's rate; a student with a longer period holds its action meanwhile.

The teacher is asked about the state that the encoder tells, errors included, not about the true one: a student who is
asked for more than it can see learns to hedge, and a hedged controller is too soft to hold a pendulum upright (it came
to rest leaning by 0.4 rad).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional

from policies.encoders.vision import VisionEncoder
from policies.policy import Policy, PolicyCard
from policies.progress import Meter, Report, silent
from policies.sight import shown
from robot.config import ConfigError

Inputs = Mapping[str, npt.NDArray[Any]]


class Outcome(Protocol):
    """What one step of a Classroom gives."""

    @property
    def inputs(self) -> Inputs: ...
    @property
    def done(self) -> npt.NDArray[np.bool_]: ...


class Classroom(Protocol):
    """The teacher's environment, whose inputs also hold what the student is told: `sight`."""

    num_envs: int

    @property
    def signals(self) -> Inputs:
        """What the sensors read now, as robot.observation.Observation.encode() takes it."""
        ...

    @property
    def believed(self) -> npt.NDArray[np.float32]:
        """(n, states) what an encoder without latency would tell of the present."""
        ...

    def reset(self) -> Inputs: ...
    def step(self, action: npt.NDArray[np.floating[Any]]) -> Outcome: ...


@dataclass(frozen=True, kw_only=True, slots=True)
class DistillConfig:
    """How a student is taught."""

    num_envs: int = 32
    """Simulations."""
    rounds: int = 8
    """In the first the teacher acts, in the others the student."""
    steps: int = 300
    """Control steps of the student in each round."""
    updates: int = 800
    """Gradient steps after each round, on all that was said so far."""
    batch: int = 512
    learning_rate: float = 2e-3
    """Falls to a tenth over all rounds."""

    def __post_init__(self) -> None:
        for name in ("num_envs", "rounds", "steps", "updates", "batch"):
            if getattr(self, name) < 1:
                raise ConfigError(f"distill.{name} is {getattr(self, name)}; it must be at least 1.")


def distill(
    env: Classroom,
    teacher: Policy,
    card: PolicyCard,
    vision: VisionEncoder | None,
    config: DistillConfig,
    *,
    seed: int,
    report: Report = silent,
) -> Policy:
    """A policy of `card` that does what `teacher` would do; the same seed and environment give the same policy.

    ConfigError when teacher and student drive other actuators, or the student's period is no multiple of the teacher's.
    """
    torch.manual_seed(seed)
    card = card.with_vision(None if vision is None else vision.card)
    student = Policy(card)
    if vision is not None and student.vision is not None:
        student.vision.encoder.load_state_dict(vision.state_dict())
    lesson = _Lesson(env, teacher, student.eval())
    optimizer = torch.optim.Adam(student.actor.parameters(), lr=config.learning_rate)
    generator = torch.Generator().manual_seed(seed)
    meter = Meter("distill", config.rounds, "rounds", report, 0)
    for done in range(config.rounds):
        lesson.hold(config.steps, by_teacher=done == 0)
        for group in optimizer.param_groups:
            group["lr"] = config.learning_rate * 0.1 ** (done / max(config.rounds - 1, 1))
        loss = _fit(student, lesson, optimizer, config, generator)
        meter(done + 1, loss=loss)
    return student


class _Lesson:
    """Student and teacher in one environment, and what the teacher said."""

    def __init__(self, env: Classroom, teacher: Policy, student: Policy) -> None:
        self._env, self._teacher, self._student = env, teacher, student
        ratio = student.control_period_s / teacher.control_period_s
        if abs(ratio - round(ratio)) > 1e-6 or ratio < 1.0 or student.action != teacher.action:
            raise ConfigError(
                f"the teacher was made for task '{teacher.task}', with actions {teacher.action.actuators} every "
                f"{teacher.control_period_s} s; task '{student.task}' has {student.action.actuators} every "
                f"{student.control_period_s} s, which must be a multiple, with equal actions."
            )
        self._repeat, self._layout = round(ratio), student.card.layout(env.num_envs)
        self._sight = student.vision
        self._told = _told(teacher.card, () if student.card.vision is None else student.card.vision.states)
        self._rows: list[Tensor] = []
        self._memories: list[Tensor] = []
        self._said: list[Tensor] = []

    @property
    def data(self) -> tuple[Tensor, Tensor | None, Tensor]:
        """What was shown (n, shown), the memories (n, M, 1 + shown), and the teacher's actions (n, A)."""
        memories = torch.cat(self._memories) if self._student.memory.steps else None
        return torch.cat(self._rows), memories, torch.cat(self._said)

    @torch.no_grad()
    def hold(self, steps: int, by_teacher: bool) -> None:
        """Act for some steps of the student and write down what the teacher says at each."""
        inputs, student, layout = self._env.reset(), self._student, self._layout
        layout.reset()
        memory = self._blank()
        for _ in range(steps):
            own = {**inputs, "observation": layout.encode(self._env.signals)["observation"]}
            row = torch.from_numpy(shown(own, self._sight))
            said = torch.from_numpy(self._teacher.act(self._as_believed(inputs))).clamp(-1.0, 1.0)
            self._rows.append(row)
            self._said.append(said)
            if memory is not None:
                self._memories.append(memory)
            action = (said if by_teacher else student.decide(row, None, memory)).numpy()
            memory = student.memory.push(memory, row)
            layout.decode(action)
            ended = np.zeros(self._env.num_envs, dtype=bool)
            for _ in range(self._repeat):
                out = self._env.step(action)
                inputs, ended = out.inputs, ended | out.done
            if ended.any():
                layout.reset(np.flatnonzero(ended))
                if memory is not None:
                    memory[torch.from_numpy(ended)] = 0.0

    def _as_believed(self, inputs: Inputs) -> Inputs:
        """The teacher's inputs, with the joints where the encoder believes them."""
        observation, told = inputs["observation"].copy(), self._env.believed
        for component, state, offset in self._told:
            observation[:, component] = told[:, state] - offset
        return {**inputs, "observation": observation}

    def _blank(self) -> Tensor | None:
        return next((torch.from_numpy(m) for m in self._student.memory.blank(self._env.num_envs).values()), None)


def _told(teacher: PolicyCard, states: tuple[str, ...]) -> list[tuple[int, int, float]]:
    """(component of the teacher's observation, the state that tells it, what is taken off) of all that are told."""
    rest = {f"position/{joint.name}": joint.default_position for joint in teacher.spec.joints}
    names = {"joint_" + component: i for i, component in enumerate(teacher.layout().components)}
    return [
        (names[state], i, rest.get(state.removeprefix("joint_"), 0.0))
        for i, state in enumerate(states)
        if state in names
    ]


def _fit(
    student: Policy,
    lesson: _Lesson,
    optimizer: torch.optim.Optimizer,
    config: DistillConfig,
    generator: torch.Generator,
) -> float:
    """Gradient steps on all that was said; returns the mean square error of the last quarter of them."""
    rows, memories, said = lesson.data
    if optimizer.state_dict()["state"] == {}:
        student.normalizer.set(rows.mean(dim=0).numpy(), rows.std(dim=0).numpy())
    losses = []
    for _ in range(config.updates):
        pick = torch.randint(len(rows), (config.batch,), generator=generator)
        action = student.decide(rows[pick], None, None if memories is None else memories[pick])
        loss = functional.mse_loss(action, said[pick])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    return float(np.mean(losses[-max(config.updates // 4, 1) :]))
