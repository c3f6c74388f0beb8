"""Distillation: a student that sees what the robot measures learns from a teacher that is shown more.

Learning by trial and error from what an encoder tells, or without knowing where a cube lies, is slow; a teacher who was
trained on the joints' sensors, or on the simulator's privileged signals, already knows what to do. The student acts,
the teacher says at each of its steps what it would have done there, and the student is fitted to all that was said so
far (DAgger: Ross et al., AISTATS 2011; `mixing` is its schedule). The teacher's environment is stepped at the teacher's
rate; a student with a longer period holds its action meanwhile.

A teacher of a student that sees is asked about the state that the encoder tells, errors included, not about the true
one: a student who is asked for more than it can see learns to hedge, and a hedged controller is too soft to hold a
pendulum upright (it came to rest leaning by 0.4 rad).

Each round is a segment: environments, memories and random streams begin anew from (seed, round), so a distillation that
was killed and resumed gives the student of an uninterrupted one (policies/lessons.py).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional

from policies import lessons
from policies.card import PolicyCard
from policies.encoders.physics import PhysicsEncoder
from policies.encoders.vision import VisionEncoder
from policies.lessons import Lessons
from policies.policy import Policy
from policies.progress import Meter, Report, silent
from policies.sight import PRIVILEGED, SIGHT, shown
from robot.config import ConfigError

Inputs = Mapping[str, npt.NDArray[Any]]


class Outcome(Protocol):
    """What one step of a Classroom gives."""

    @property
    def inputs(self) -> Inputs: ...
    @property
    def done(self) -> npt.NDArray[np.bool_]: ...


class Classroom(Protocol):
    """The teacher's environment, whose inputs also hold what the student is told: `sight`, where it sees."""

    num_envs: int
    curriculum: Any

    @property
    def signals(self) -> Inputs:
        """What the sensors read now, as robot.observation.Observation.encode() takes it."""
        ...

    @property
    def believed(self) -> npt.NDArray[np.float32]:
        """(n, states) what an encoder without latency would tell of the present; only where there is `sight`."""
        ...

    @property
    def believed_privileged(self) -> npt.NDArray[np.float32]:
        """(n, P) the privileged signals of the state as such an encoder would tell it."""
        ...

    def seed(self, seed: int) -> None: ...
    def reset(self) -> Inputs: ...
    def step(self, action: npt.NDArray[np.floating[Any]]) -> Outcome: ...


@dataclass(frozen=True, kw_only=True, slots=True)
class DistillConfig:
    """How a student is taught."""

    num_envs: int = 32
    """Simulations."""
    rounds: int = 8
    """In the first the teacher acts, in the others more and more the student."""
    steps: int = 300
    """Control steps of the student in each round."""
    mixing: float = 0.0
    """In round i the teacher acts in this share to the power of i of the steps; 0: in the first round alone."""
    updates: int = 800
    """Gradient steps after each round, on all that was said so far."""
    batch: int = 512
    learning_rate: float = 2e-3
    """Falls to a tenth over all rounds."""

    def __post_init__(self) -> None:
        for name in ("num_envs", "rounds", "steps", "updates", "batch"):
            if getattr(self, name) < 1:
                raise ConfigError(f"distill.{name} is {getattr(self, name)}; it must be at least 1.")
        if not 0.0 <= self.mixing <= 1.0:
            raise ConfigError(f"distill.mixing is {self.mixing}; it is a share, 0 to 1.")


def distill(
    env: Classroom,
    teacher: Policy,
    card: PolicyCard,
    vision: VisionEncoder | None,
    config: DistillConfig,
    *,
    seed: int,
    encoder: PhysicsEncoder | None = None,
    out: Path | None = None,
    resume: bool = False,
    report: Report = silent,
) -> Policy:
    """A policy of `card` that does what `teacher` would do; the same seed and environment give the same policy.

    With `out` each round leaves a checkpoint there. ConfigError when teacher and student drive other actuators, the
    student's period is no multiple of the teacher's, or `out` holds lessons with other settings.
    """
    torch.manual_seed(seed)
    card = card.with_vision(None if vision is None else vision.card)
    card = card.with_encoder(None if encoder is None else encoder.card)
    student = Policy(card)
    if vision is not None and student.vision is not None:
        student.vision.encoder.load_state_dict(vision.state_dict())
    if encoder is not None and student.encoder is not None:
        student.encoder.load_state_dict(encoder.state_dict())
    lesson = _Lesson(env, teacher, student.eval())
    optimizer = torch.optim.Adam(student.actor.parameters(), lr=config.learning_rate)
    book = lessons.Book(out, config, seed, student, optimizer, env.curriculum, {"teacher": teacher, "student": student})
    heard = book.open(resume)
    meter = Meter("distill", config.rounds, "rounds", report, book.done)
    for done in range(book.done, config.rounds):
        stream = int(np.random.SeedSequence([seed, done]).generate_state(1)[0])
        torch.manual_seed(stream)
        env.seed(stream % (2**31))
        heard.append(lesson.hold(config.steps, config.mixing**done, np.random.default_rng(stream)))
        for group in optimizer.param_groups:
            group["lr"] = config.learning_rate * 0.1 ** (done / max(config.rounds - 1, 1))
        if done == 0:
            _scale(student, heard[0].rows)
        loss = _fit(student, Lessons.join(heard), optimizer, config)
        book.write(done + 1, heard[-1])
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
        if student.recurrent is not None or student.card.privileged:
            raise ConfigError(
                "teacher=: a student has neither LSTM nor privileged signals; give it network.memory instead."
            )
        self._repeat, self._layout = round(ratio), student.card.layout(env.num_envs)
        self._sight = student.vision
        self._told = _told(teacher.card, student.card)

    @torch.no_grad()
    def hold(self, steps: int, by_teacher: float, rng: np.random.Generator) -> Lessons:
        """Act for some steps of the student, the teacher in that share of them, and write down what it says."""
        inputs, student, layout = self._env.reset(), self._student, self._layout
        layout.reset()
        memory, teacher = self._blank(), self._teacher.episode()
        rows, contexts, memories, said = [], [], [], []
        for _ in range(steps):
            own = {**inputs, **layout.encode(self._env.signals)}
            row, context = torch.from_numpy(shown(own, self._sight)), self._context(own)
            told = torch.from_numpy(teacher(self._as_believed(inputs))).clamp(-1.0, 1.0)
            rows.append(row)
            said.append(told)
            if context is not None:
                contexts.append(context)
            if memory is not None:
                memories.append(memory)
            leads = torch.from_numpy(rng.random((self._env.num_envs, 1)) < by_teacher)
            action = torch.where(leads, told, student.decide(row, context, memory)).numpy()
            memory = student.memory.push(memory, row)
            layout.decode(action)
            ended = np.zeros(self._env.num_envs, dtype=bool)
            for held in range(self._repeat):
                if held and self._teacher.states:
                    teacher(self._as_believed(inputs))  # it remembers each step, also where it is not asked
                out = self._env.step(action)
                inputs, ended = out.inputs, ended | out.done
                teacher.forget(out.done)
            if ended.any():
                layout.reset(np.flatnonzero(ended))
                if memory is not None:
                    memory[torch.from_numpy(ended)] = 0.0
        return Lessons(*(torch.cat(part) if part else None for part in (rows, contexts, memories, said)))  # type: ignore[arg-type]

    def _context(self, own: Inputs) -> Tensor | None:
        if self._student.encoder is None:
            return None
        context: Tensor = self._student.encoder(torch.from_numpy(own["history"]), torch.from_numpy(own["history_mask"]))
        return context

    def _as_believed(self, inputs: Inputs) -> Inputs:
        """The teacher's inputs, with joints and bodies where the encoder believes them."""
        if SIGHT not in inputs:
            return inputs
        observation, told = inputs["observation"].copy(), self._env.believed
        for component, state, offset in self._told:
            observation[:, component] = told[:, state] - offset
        believed = {PRIVILEGED: self._env.believed_privileged} if self._teacher.card.privileged else {}
        return {**inputs, "observation": observation, **believed}

    def _blank(self) -> Tensor | None:
        return next((torch.from_numpy(m) for m in self._student.memory.blank(self._env.num_envs).values()), None)


def _told(teacher: PolicyCard, student: PolicyCard) -> list[tuple[int, int, float]]:
    """(component of the teacher's observation, the state that tells it, what is taken off) of all that a student is
    told by its encoder, and does not measure itself."""
    states, measured = () if student.vision is None else student.vision.states, student.layout().components
    rest = {f"position/{joint.name}": joint.default_position for joint in teacher.spec.joints}
    components = enumerate(teacher.layout().components)
    names = {"joint_" + component: i for i, component in components if component not in measured}
    return [
        (names[state], i, rest.get(state.removeprefix("joint_"), 0.0))
        for i, state in enumerate(states)
        if state in names
    ]


def _scale(student: Policy, rows: Tensor) -> None:
    """Scale what the student is shown by its first round; with its mirror image, where the actor is symmetric."""
    symmetry = student.card.symmetry
    if symmetry is not None:
        rows = torch.cat([rows, torch.from_numpy(symmetry.shown.apply(rows.numpy()))])
    student.normalizer.set(rows.mean(dim=0).numpy(), rows.std(dim=0).numpy())


def _fit(student: Policy, heard: Lessons, optimizer: torch.optim.Optimizer, config: DistillConfig) -> float:
    """Gradient steps on all that was said; returns the mean square error of the last quarter of them."""
    losses = []
    for _ in range(config.updates):
        row, context, memory, said = heard.at(torch.randint(len(heard.rows), (config.batch,)))
        loss = functional.mse_loss(student.decide(row, context, memory), said)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    return float(np.mean(losses[-max(config.updates // 4, 1) :]))
