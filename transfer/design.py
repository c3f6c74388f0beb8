"""The next excitation: which motion, within the robot's limits, would tell most about what is not yet known.

Candidates are multisines, chirps and switching sequences. Each is played on the posterior's middle, through the same
control loop as `record`; the windows that a fit would cut from that log give its information about the parameters,
and with the posterior's own it is judged by D-optimality: by how far the logarithm of the covariance's determinant
falls. The best is then varied for a few rounds.
Source: Pukelsheim, Optimal Design of Experiments, SIAM, 2006; multisines as in Swevers et al., IEEE TRA 13(5), 1997.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from robot import excitation as excitations
from robot.config import ConfigError
from robot.excitation import Excitation
from robot.log import EpisodeLog
from robot.loop import ControlLoop
from robot.recorder import MemoryRecorder
from robot.safety import Safety
from robot.spec import RobotSpec
from sim.driver import SimDriver
from sim.model import Model
from sim.randomization import JointGaussian, Point, Randomization, Term
from transfer.gauss_newton import Objective
from transfer.prediction import metric_for
from transfer.protocol import protocol_for, windows
from transfer.series import series_of
from transfer.shooting import Estimate, Shooting
from transfer.unknowns import Unknown

Array = npt.NDArray[np.float64]

CANDIDATES, ROUNDS = 12, 6
"""Excitations that are tried at first, and variations of the best."""
HARMONICS = 6
LOW_HZ, HIGH_HZ = 0.1, 3.0
EDGE_S = 0.5
ERROR_RAD = 2e-3
"""Error that a fit leaves in a row [rad]: what a motion must exceed to tell something."""
MOST_WINDOWS = 30


@dataclass(frozen=True, slots=True)
class Multisine:
    """Sines for each actuator; the largest sum is `share` of the actuator's limit."""

    hz: Array
    """(n_actuators, HARMONICS)"""
    phase: Array
    weight: Array
    share: Array
    """(n_actuators,)"""

    @classmethod
    def drawn(cls, actuators: int, rng: np.random.Generator) -> Multisine:
        shape = (actuators, HARMONICS)
        hz = np.exp(rng.uniform(np.log(LOW_HZ), np.log(HIGH_HZ), shape))
        return cls(hz, rng.uniform(0, 2 * np.pi, shape), rng.uniform(0.2, 1.0, shape), np.full(actuators, 1.0))

    def varied(self, rng: np.random.Generator) -> Multisine:
        """One nearby."""
        hz = np.clip(self.hz * np.exp(0.3 * rng.normal(size=self.hz.shape)), LOW_HZ, HIGH_HZ)
        phase = self.phase + 0.5 * rng.normal(size=self.hz.shape)
        return Multisine(hz, phase, np.clip(self.weight + 0.2 * rng.normal(size=self.hz.shape), 0.05, 1.0), self.share)

    def excitation(self, spec: RobotSpec, seconds: float, amplitude: float) -> Excitation:
        """As a table, scaled to `amplitude` of the limits, fading in and out."""
        t = np.arange(0.0, seconds, 1e-2)
        waves = self.weight[..., None] * np.sin(2 * np.pi * self.hz[..., None] * t + self.phase[..., None])
        sums = waves.sum(axis=1)
        sums = sums / np.abs(sums).max(axis=1, keepdims=True)
        fade = np.sin(0.5 * np.pi * np.clip(np.minimum(t, seconds - t) / EDGE_S, 0.0, 1.0)) ** 2
        peaks = excitations.peaks(spec)
        return Excitation("multisine", t, (sums * fade).T * amplitude * self.share * peaks)


@dataclass(frozen=True, slots=True)
class Proposal:
    """The excitation that would tell most."""

    excitation: Excitation
    gain: float
    """Fall of the log determinant of the covariance over 2: what the log is worth, in nats."""
    tried: list[tuple[str, float]]
    """Name of each first candidate, and its gain."""
    spread: dict[str, float]
    """Target -> standard deviation afterwards over the one before."""

    def csv(self, spec: RobotSpec) -> str:
        """The file that `record excitation=FILE` plays."""
        names = [a.name for a in spec.actuators]
        rows = [
            f"{t:.4f}," + ",".join(f"{v:.6g}" for v in row)
            for t, row in zip(self.excitation.t_s, self.excitation.values, strict=True)
        ]
        return "\n".join([f"time,{','.join(names)}", *rows]) + "\n"

    def told(self) -> dict[str, Any]:
        """For result.json."""
        tried = [{"candidate": name, "gain_nats": gain} for name, gain in self.tried]
        return {"gain_nats": self.gain, "tried": tried, "spread_after_over_before": self.spread}


def propose(
    model: Model,
    law: Randomization,
    seconds: float,
    rng: np.random.Generator,
    *,
    amplitude: float = 0.5,
    quick: bool = False,
) -> Proposal:
    """The best of some families of excitations of `seconds`, at `amplitude` of the limits, for the posterior `law`.

    ConfigError when `law` has nothing left to find out, or an actuator of a kind that cannot be excited.
    """
    judge = Judge(model, law)
    spec, count = model.spec, (4 if quick else CANDIDATES)
    pool: list[tuple[Excitation, Multisine | None]] = []
    for kind in excitations.KINDS.values():
        pool += [(kind(spec, seconds, rng, amplitude), None) for _ in range(1 if quick else 2)]
    for _ in range(count):
        drawn = Multisine.drawn(len(spec.actuators), rng)
        pool.append((drawn.excitation(spec, seconds, amplitude), drawn))
    gains = [judge.gain(judge.information(e)) for e, _ in pool]
    tried = [(e.name, g) for (e, _), g in zip(pool, gains, strict=True)]
    best = int(np.argmax(gains))
    chosen, sines, gain = pool[best][0], pool[best][1], gains[best]
    for _ in range(0 if sines is None else (1 if quick else ROUNDS)):
        assert sines is not None
        nearby = sines.varied(rng)
        candidate = nearby.excitation(spec, seconds, amplitude)
        found = judge.gain(judge.information(candidate))
        if found > gain:
            chosen, sines, gain = candidate, nearby, found
    return Proposal(chosen, gain, tried, judge.spread(judge.information(chosen)))


class Judge:
    """What a log of some excitation would add to a posterior."""

    def __init__(self, model: Model, law: Randomization) -> None:
        term = next((t for t in law.terms if isinstance(t.law, JointGaussian) and not _zeros(t)), None)
        if term is None or not isinstance(term.law, JointGaussian):
            raise ConfigError(
                f"design=true needs a posterior with something left to find out; in '{law.name}' there is nothing."
            )
        gauss = term.law
        self.model, self.law = model, law
        self.unknowns, self.covariance = _unknowns(term, gauss, model)
        self._middle = Randomization(
            name="middle",
            robot=law.robot,
            terms=tuple(
                Term(targets=(t,), law=Point(values=(float(v[0]),)))
                for t, v in law.center(model).items()
                if "shift" not in t
            ),
        )

    def information(self, excitation: Excitation) -> Array:
        """(P, P) of the coordinates, from the windows of a log of this excitation."""
        model, spec, protocol = self.model, self.model.spec, protocol_for(self.model.spec)
        log = self._record(excitation)
        shots = windows([series_of(log, spec, metric_for(spec).fit)], protocol, MOST_WINDOWS)
        fixed = {t: float(v[0]) for t, v in self.law.center(model).items()}
        shooting = Shooting(Model(model.robot), shots, self.unknowns, protocol.coarse_s, fixed=fixed)
        at = Estimate.prior(self.unknowns, shots)
        objective = Objective(shots, self.unknowns, protocol.zero_sd_rad, protocol.start_sd)
        scale = np.full(len(spec.joints), ERROR_RAD)
        normal = objective.normal(at, shooting.linearize(at), scale)
        count = len(self.unknowns)
        known = normal.hessian[:count, :count] - np.diag(objective.precision[:count])
        cross, zeros = normal.hessian[:count, count:], normal.hessian[count:, count:]
        return np.asarray(known - cross @ np.linalg.solve(zeros, cross.T))

    def gain(self, information: Array) -> float:
        """Half the fall of the log determinant of the covariance."""
        return 0.5 * float(np.linalg.slogdet(np.eye(len(information)) + self.covariance @ information)[1])

    def spread(self, information: Array) -> dict[str, float]:
        """Target -> standard deviation of the coordinate with the log over the one without."""
        after = np.linalg.inv(np.linalg.inv(self.covariance) + information)
        shares = np.sqrt(np.diag(after) / np.diag(self.covariance))
        return {u.name: float(s) for u, s in zip(self.unknowns, shares, strict=True)}

    def _record(self, excitation: Excitation) -> EpisodeLog:
        spec = self.model.spec
        driver = SimDriver(self.model.robot, self._middle)
        recorder = MemoryRecorder("design", spec, {})
        commander = excitations.Exciter(spec, excitation)
        log = (
            ControlLoop(commander, driver, Safety(spec, spec.control_period_s), recorder)
            .run(float(excitation.t_s[-1]))
            .log
        )
        assert log is not None
        return log


def _zeros(term: Term) -> bool:
    return term.targets[0].startswith("sensor/")


def _unknowns(term: Term, law: JointGaussian, model: Model) -> tuple[tuple[Unknown, ...], Array]:
    """The posterior's coordinates; targets that always have one value, as equal rotors do, are one of them."""
    covariance = np.array(law.covariance)
    groups: list[list[int]] = []
    for i in range(len(term.targets)):
        twin = next((g for g in groups if _same(covariance, g[0], i)), None)
        if twin is None:
            groups.append([i])
        else:
            twin.append(i)
    unknowns = tuple(
        Unknown(
            targets=tuple(term.targets[i] for i in group),
            transform=law.transform[group[0]],
            bounds=law.bounds[group[0]],
            mean=law.mean[group[0]],
            sd=float(np.sqrt(max(covariance[group[0], group[0]], 1e-12))),
            joint=_joint(model, [term.targets[i] for i in group]),
        )
        for group in groups
    )
    first = [group[0] for group in groups]
    return unknowns, covariance[np.ix_(first, first)] + 1e-12 * np.eye(len(first))


def _same(covariance: Array, a: int, b: int) -> bool:
    return bool(np.allclose(covariance[a], covariance[b], rtol=1e-9, atol=0.0) and covariance[a, a] > 0.0)


def _joint(model: Model, targets: Sequence[str]) -> str:
    """The one joint that targets act on, or none."""
    owner = {a.name: a.joint for a in model.spec.actuators} | {j: j for j in model.spec.joint_names}
    kinds = ("actuator", "motor", "joint", "sensor")
    found = {owner.get(t.split("/")[1], "") if t.split("/")[0] in kinds else "" for t in targets}
    return found.pop() if len(found) == 1 else ""
