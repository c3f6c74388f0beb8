"""The arena of the public robustness benchmark: the published double pendulum, its motors and its measurement.

In every step of 2 ms: the measured state is the one `int(delay / 2 ms)` steps ago (the first, in the beginning) plus
Gaussian noise on both velocities; the motor applies last + k (wanted - last), where `last` is what really acted in the
step before, pushes included, plus Gaussian noise on the driven joint; this is clipped to the torque limits, 0 on the
passive joint; the push is added after the clip; then the torques are held for a Runge-Kutta step. A controller
reads the measurement at its own ticks, and what it wants is held in between.

Of the parameters, m1 r1 and m2 r2 are knobs as products. m1 is felt in m1 r1 alone. Where m2 is varied, the centre of
mass stays, so m2 r2 moves along with it, unless it is given too; inertias are about the joints and stay as they are.
Source: dfki-ric-underactuated-lab/double_pendulum, simulation/simulation.py and analysis/benchmark.py, read and written
anew.
The benchmark asks the controller at every step, and reads its array of pushes at int(t / dt) of a time that was summed
up in floating point, so that a push may come one step late there.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import numpy.typing as npt

from robot.config import ConfigError
from robot.observation import Observation
from sim.arena import Flags, Outcome, Subject, Trace, Unit, fits, starts, unknown
from sim.perturbation import Perturbation, pushing
from sim.published_pendulum import Equations, Pendulums
from sim.state import State
from sim.tasks import Task
from sim.tasks.double_pendulum import TORQUE_NM

Array = npt.NDArray[np.float64]

STARTED = 1
"""Stream of a run's seed by which its start is drawn."""
PARAMETERS = ("I1", "I2", "Ir", "m1r1", "m2", "m2r2", "b1", "b2", "cf1", "cf2")
IDEAL = {"velocity_noise": 0.0, "torque_noise": 0.0, "torque_response": 1.0, "delay": 0.0}
"""Knobs that are no parameter of the pendulum: [rad/s], [N m], k, [s]."""


@dataclass(frozen=True, kw_only=True, slots=True)
class PublishedArenaConfig:
    """A design's published figures, as they are printed; SI units, inertias about the joints."""

    kind: Literal["published_double_pendulum"] = "published_double_pendulum"
    m1: float
    r1: float
    l1: float
    I1: float
    m2: float
    r2: float
    I2: float
    Ir: float = 0.0
    gr: float = 6.0
    b1: float = 0.0
    b2: float = 0.0
    cf1: float = 0.0
    cf2: float = 0.0
    timestep_s: float = 0.002
    duration_s: float = 10.0
    start: tuple[float, ...] = ()
    """Joint positions at the start, at rest [rad]; default: the task's own start."""
    start_spread: float = 0.0
    """How far off that each joint begins at most, by the run's own seed [rad]."""


class PublishedArena:
    """n runs on the published equations; see the module's head."""

    def __init__(self, config: PublishedArenaConfig, task: Task) -> None:
        """ConfigError when the task's robot has other joints than a shoulder and an elbow driven by torque."""
        self.config, self.task, self.duration_s = config, task, config.duration_s
        if not task.robot.startswith("double_pendulum") or task.action.kind != "effort":
            raise ConfigError(
                f"task '{task.name}' is for robot '{task.robot}'; the arena 'published_double_pendulum' is for tasks "
                "that drive a double pendulum by torque: take a suite whose arena is mujoco."
            )
        self.channels = {"shoulder": TORQUE_NM, "elbow": TORQUE_NM}
        self._nominal = {name: getattr(config, name) for name in PARAMETERS if hasattr(config, name)}
        self._nominal |= {"m1r1": config.m1 * config.r1, "m2r2": config.m2 * config.r2} | IDEAL

    def expand(self, name: str) -> dict[str, tuple[str, ...]]:
        """Every knob stands for itself."""
        if name not in self._nominal:
            raise unknown(name, sorted(self._nominal))
        return {name: (name,)}

    def nominal(self, knob: str) -> float:
        if knob not in self._nominal:
            raise unknown(knob, sorted(self._nominal))
        return float(self._nominal[knob])

    def unit(self, knob: str, relative_to: Unit) -> float:
        if relative_to in ("", "nominal"):
            return self.nominal(knob) if relative_to else 1.0
        raise ConfigError(
            f"the range of '{knob}' is relative to {relative_to}, which this arena does not know; give numbers."
        )

    def physical(self, perturbations: Sequence[Perturbation]) -> Flags:
        return self.equations(perturbations).physical

    def equations(self, perturbations: Sequence[Perturbation]) -> Equations:
        """Of n pendulums; ConfigError names a value that no knob has."""
        for name in {name for p in perturbations for name in p.values}:
            self.nominal(name)
        found = {name: self._of(name, perturbations) for name in PARAMETERS}
        for i, p in enumerate(perturbations):
            if "m2" in p.values and "m2r2" not in p.values:
                found["m2r2"][i] = p.values["m2"] * self.config.r2
        found |= {name: np.full(len(perturbations), getattr(self.config, name)) for name in ("l1", "gr")}
        return Equations(Pendulums(**found))

    def _of(self, knob: str, perturbations: Sequence[Perturbation]) -> Array:
        return np.array([p.values.get(knob, self._nominal[knob]) for p in perturbations], dtype=np.float64)

    def noise(self, seed: int, ticks: int, steps: int) -> tuple[Array, Array]:
        """Standard normal numbers of one run: of the velocities at each tick (ticks, 2), of the torque at each step."""
        rng = np.random.default_rng([seed, 1])
        return rng.standard_normal((ticks, 2)), rng.standard_normal(steps)

    def run(self, subject: Subject, perturbations: Sequence[Perturbation], *, trace: bool = False) -> Outcome:
        fits(self.task, subject)
        return _Run(self, subject, perturbations, trace).finish()


class _Run:
    """One batch on its way; arrays have a column a run."""

    def __init__(
        self, arena: PublishedArena, subject: Subject, perturbations: Sequence[Perturbation], trace: bool
    ) -> None:
        config, n = arena.config, len(perturbations)
        self.arena, self.task, self.n, self.dt = arena, arena.task, n, config.timestep_s
        self.substeps = round(subject.control_period_s / self.dt)
        self.ticks = round(config.duration_s / subject.control_period_s)
        self.steps = self.ticks * self.substeps
        if self.substeps < 1 or abs(self.substeps * self.dt - subject.control_period_s) > 1e-9:
            raise ConfigError(
                f"the controller's period is {subject.control_period_s} s; it must be a whole multiple of the suite's "
                f"{self.dt} s."
            )
        self.equations = arena.equations(perturbations)
        if not self.equations.physical.all():
            values = perturbations[int(np.argmin(self.equations.physical))].values
            raise ConfigError(f"a pendulum with {values} cannot exist: its inertia is not positive in some pose.")
        start = starts(arena.task, perturbations, config.start)
        off = [np.random.default_rng([p.seed, STARTED]).uniform(-1.0, 1.0, 2) for p in perturbations]
        start = replace(start, position=start.position + config.start_spread * np.array(off))
        self.state = np.concatenate([start.position.T, start.velocity.T])
        self._measurement(perturbations)
        self._motors(subject, perturbations)
        self.layout = Observation(subject.spec, subject.observation, subject.action, n)
        self.act = subject.episode()
        self.returns, self.held = np.zeros(n), np.zeros(n, dtype=np.int64)
        self.rows: list[tuple[Array, Array, Array]] | None = [] if trace else None

    def _measurement(self, perturbations: Sequence[Perturbation]) -> None:
        """Delays in whole steps, as the benchmark cuts them off, and the noise of those that have some."""
        delay, sigma = (self.arena._of(k, perturbations) for k in ("delay", "velocity_noise"))
        self.late = (delay / self.dt).astype(np.intp)
        self.past = np.tile(self.state, (int(self.late.max()) + 1, 1, 1))
        self.noisy = np.flatnonzero(sigma)
        self.read_noise = np.zeros((self.ticks, 2, len(self.noisy)))
        for j, i in enumerate(self.noisy.tolist()):
            self.read_noise[..., j] = sigma[i] * self.arena.noise(perturbations[i].seed, self.ticks, self.steps)[0]

    def _motors(self, subject: Subject, perturbations: Sequence[Perturbation]) -> None:
        """Torque limits, response, noise and pushes."""
        names = [a.name for a in subject.spec.actuators]
        driven = subject.spec.driven[[names.index(a) for a in subject.action.actuators]]
        self.limit = np.zeros((2, 1))
        self.limit[driven, 0] = subject.spec.effort_limits[driven]
        self.response, sigma = (self.arena._of(k, perturbations) for k in ("torque_response", "torque_noise"))
        self.trembling, self.driven = np.flatnonzero(sigma), driven
        self.torque_noise = np.zeros((self.steps, len(self.trembling)))
        for j, i in enumerate(self.trembling.tolist()):
            self.torque_noise[:, j] = sigma[i] * self.arena.noise(perturbations[i].seed, self.ticks, self.steps)[1]
        self.pushed = np.array([i for i, p in enumerate(perturbations) if p.pulses], dtype=np.intp)
        times = np.arange(self.steps) * self.dt
        pushes = [pushing(perturbations[i].pulses, tuple(self.arena.channels), times) for i in self.pushed]
        self.push = np.stack(pushes, axis=2) if pushes else np.zeros((self.steps, 2, 0))
        self.applied = np.zeros((2, self.n))

    def finish(self) -> Outcome:
        """Run to the end."""
        command = np.zeros((self.n, 2))
        with np.errstate(over="ignore", invalid="ignore"):  # a pendulum that friction drives may run away
            for tick in range(self.ticks):
                before, action = command, self.layout.previous_action
                command = self.layout.decode(self.act(self.layout.encode(self._read(tick))))
                for step in range(tick * self.substeps, (tick + 1) * self.substeps):
                    self._step(step, command.T)
                self._judge(command, before, action)
        final = self.state.T.copy()
        success = (self.held >= self.task.hold_samples) & np.isfinite(final).all(axis=1)
        return Outcome(success=success, returns=self.returns, final=final, trace=self._trace())

    def _read(self, tick: int) -> dict[str, Array]:
        """What the controller is shown: signal -> (n, 2)."""
        step = tick * self.substeps
        at = np.maximum(step - self.late, 0) % len(self.past)
        seen = self.past[at, :, np.arange(self.n)]
        velocity = seen[:, 2:].copy()
        velocity[self.noisy] += self.read_noise[tick].T
        return {"joint.position": seen[:, :2], "joint.velocity": velocity, "joint.effort": self.applied.T}

    def _step(self, step: int, wanted: Array) -> None:
        applied = self.applied + self.response * (wanted - self.applied)
        if self.trembling.size:
            applied[np.ix_(self.driven, self.trembling)] += self.torque_noise[step]
        applied = np.minimum(np.maximum(applied, -self.limit), self.limit)
        if self.pushed.size:
            applied[:, self.pushed] += self.push[step]
        self.state = self.equations.step(self.state, applied, self.dt)
        self.applied = applied
        self.past[(step + 1) % len(self.past)] = self.state

    def _judge(self, command: Array, before: Array, action: Array) -> None:
        """The task's view of the states at the end of a control period; `before` and `action` are of the one before."""
        position, velocity = self.state[:2].T, self.state[2:].T
        seen = State(position, velocity, command, before, self.layout.previous_action, action)
        self.returns += np.nan_to_num(sum(self.task.reward(seen).values(), np.zeros(self.n)))
        self.held = (self.held + 1) * self.task.inside(seen)
        if self.rows is not None:
            push = np.zeros((self.n, 2))
            push[self.pushed] = self.push[min((len(self.rows) + 1) * self.substeps, self.steps - 1)].T
            self.rows.append((position.copy(), command, push))

    def _trace(self) -> Trace | None:
        if self.rows is None:
            return None
        position, command, push = (np.stack(x) for x in zip(*self.rows, strict=True))
        period = self.substeps * self.dt
        return Trace(time_s=period * np.arange(1, len(position) + 1), position=position, command=command, push=push)
