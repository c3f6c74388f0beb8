"""The leaderboard's suite against a second implementation of it: plain loops over one run, written after the facts."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

from robot import config
from sim.arena import Subject
from sim.evaluate import Act
from sim.model import find_robot
from sim.perturbation import Perturbation
from sim.published_arena import PublishedArena, PublishedArenaConfig
from sim.tasks import load_task
from transfer.stress import CRITERIA, SWEPT, Plan, Suite, plan, score

GAINS = (34.63, 33.888, 8.094, 5.944)
"""Linear-quadratic regulator of the pendubot upright, at 100 Hz, of state errors to shoulder torque."""
START = (math.pi + 0.05, -0.08)
SECONDS, DT, PERIOD = 2.0, 0.002, 0.01
TICKS, SUBSTEPS = 200, 5
STEPS = TICKS * SUBSTEPS
M1, R1, L1, I1, M2, R2, I2, GEAR, G = 0.52346, 0.2, 0.2, 0.0318872, 0.625568, 0.255693, 0.0508698, 6.0, 9.81


def hold(observation: np.ndarray) -> np.ndarray:
    """(n, 1) in [-1, 1]; observation: cos, sin of both joints, velocities, previous action."""
    cos1, cos2, sin1, sin2, v1, v2, _ = np.asarray(observation, dtype=np.float64).T
    error = np.arctan2(-sin1, -cos1), np.arctan2(sin2, cos2), v1, v2
    torque = sum(k * x for k, x in zip(GAINS, error, strict=True))
    return np.clip(torque / 6.0, -1.0, 1.0)[:, None]


def holding() -> Act:
    return lambda inputs: hold(inputs["observation"])


def subject() -> Subject:
    task = load_task("pendubot_swingup")
    return Subject(
        task=task.name, spec=find_robot(task.robot).spec, observation=task.observation, action=task.action,
        control_period_s=PERIOD, episode=holding,
    )  # fmt: skip


def suite_of(count: int) -> Suite:
    """The shipped suite with fewer values and a short episode that begins near upright."""
    suite = config.load(Suite, config.shipped() / "stress" / "pendubot_leaderboard.yaml")
    assert isinstance(suite.arena, PublishedArenaConfig)
    few = {c: tuple(replace(s, count=count) for s in getattr(suite, c)) for c in SWEPT}
    assert suite.pushes is not None
    return replace(
        suite, **few, arena=replace(suite.arena, duration_s=SECONDS, start=START), pushes=replace(suite.pushes, runs=15)
    )


@pytest.fixture(scope="module")
def batched() -> tuple[PublishedArena, Plan, np.ndarray, np.ndarray]:
    suite = suite_of(7)
    assert isinstance(suite.arena, PublishedArenaConfig)
    arena = PublishedArena(suite.arena, load_task("pendubot_swingup"))
    made = plan(suite, arena, seed=3)
    outcome = arena.run(subject(), made.runs)
    return arena, made, outcome.success, outcome.final


def simulate(run: Perturbation, velocity_noise: np.ndarray, torque_noise: np.ndarray) -> list[float]:
    """The state after one run: shoulder, elbow [rad], and their velocities."""
    given = run.values
    m2 = given.get("m2", M2)
    m1r1, m2r2 = given.get("m1r1", M1 * R1), given.get("m2r2", m2 * R2)
    i1, i2, rotor = given.get("I1", I1), given.get("I2", I2), given.get("Ir", 0.0)
    damping = (given.get("b1", 0.0), given.get("b2", 0.0))
    coulomb = (given.get("cf1", 0.0), given.get("cf2", 0.0))
    response, late = given.get("torque_response", 1.0), int(given.get("delay", 0.0) / DT)

    def slope(x: list[float], torque: list[float]) -> list[float]:
        c2, s2 = math.cos(x[1]), math.sin(x[1])
        m11 = i1 + i2 + L1 * L1 * m2 + 2 * L1 * m2r2 * c2 + GEAR**2 * rotor + rotor
        m12 = i2 + L1 * m2r2 * c2 - GEAR * rotor
        m22 = i2 + GEAR**2 * rotor
        coriolis1 = -2 * x[3] * L1 * m2r2 * s2 * x[2] - x[3] * L1 * m2r2 * s2 * x[3]
        coriolis2 = x[2] * L1 * m2r2 * s2 * x[2]
        gravity1 = -G * m1r1 * math.sin(x[0]) - G * (m2 * L1 * math.sin(x[0]) + m2r2 * math.sin(x[0] + x[1]))
        gravity2 = -G * m2r2 * math.sin(x[0] + x[1])
        friction = [damping[j] * x[2 + j] + coulomb[j] * math.atan(100 * x[2 + j]) for j in (0, 1)]
        f1 = torque[0] - coriolis1 + gravity1 - friction[0]
        f2 = torque[1] - coriolis2 + gravity2 - friction[1]
        determinant = m11 * m22 - m12 * m12
        return [x[2], x[3], (m22 * f1 - m12 * f2) / determinant, (m11 * f2 - m12 * f1) / determinant]

    def moved(x: list[float], k: list[float], by: float) -> list[float]:
        return [a + by * b for a, b in zip(x, k, strict=True)]

    states, applied, wanted, previous = [[*START, 0.0, 0.0]], [0.0, 0.0], 0.0, 0.0
    for step in range(STEPS):
        if step % SUBSTEPS == 0:
            tick, seen = step // SUBSTEPS, states[max(step - late, 0)]
            velocity = [seen[2 + j] + given.get("velocity_noise", 0.0) * velocity_noise[tick, j] for j in (0, 1)]
            shown = [math.cos(seen[0]), math.cos(seen[1]), math.sin(seen[0]), math.sin(seen[1]), *velocity, previous]
            previous = float(hold(np.array([shown], dtype=np.float32))[0, 0])
            wanted = 6.0 * previous
        torque = applied[0] + response * (wanted - applied[0])
        torque += given.get("torque_noise", 0.0) * torque_noise[step]
        torque = min(max(torque, -6.0), 6.0)
        applied = [torque, 0.0]  # the passive joint's limit is 0
        for pulse in run.pulses:
            height = pulse.size * math.exp(-((step * DT - pulse.time_s) ** 2) / (2 * pulse.width_s**2))
            applied[("shoulder", "elbow").index(pulse.channel)] += height
        x = states[-1]
        k1 = slope(x, applied)
        k2 = slope(moved(x, k1, DT / 2), applied)
        k3 = slope(moved(x, k2, DT / 2), applied)
        k4 = slope(moved(x, k3, DT), applied)
        states.append([a + DT / 6 * (p + 2 * q + 2 * r + s) for a, p, q, r, s in zip(x, k1, k2, k3, k4, strict=True)])
    return states[-1]


def ended_well(state: list[float]) -> bool:
    wrapped = [math.remainder(state[0] - math.pi, 2 * math.pi), math.remainder(state[1], 2 * math.pi)]
    return all(abs(a) < 0.35 for a in wrapped) and abs(state[2]) < 1.0 and abs(state[3]) < 1.0


@pytest.mark.parametrize("criterion", CRITERIA)
def test_a_hold_at_the_top_fares_as_in_plain_loops(
    criterion: str, batched: tuple[PublishedArena, Plan, np.ndarray, np.ndarray]
) -> None:
    arena, made, success, final = batched
    mine = [i for i, row in enumerate(made.row) if made.rows[row].criterion == criterion]
    assert len(mine) >= 7
    for i in mine:
        expected = simulate(made.runs[i], *arena.noise(made.runs[i].seed, TICKS, STEPS))
        assert success[i] == ended_well(expected), made.runs[i]
        np.testing.assert_allclose(final[i], expected, rtol=1e-6, atol=1e-6)


def test_some_runs_of_the_comparison_succeed_and_some_fail(
    batched: tuple[PublishedArena, Plan, np.ndarray, np.ndarray],
) -> None:
    _, made, success, _ = batched
    result = score(made, success)
    assert 0.5 < result["overall"] < 0.95
    assert sum(result[c] < 1.0 for c in CRITERIA) >= 4, {c: result[c] for c in CRITERIA}
