"""The batched published equations against MuJoCo, against energy, and against themselves one at a time."""

from __future__ import annotations

import numpy as np
import pytest

from sim.published_pendulum import Equations, Pendulums
from tests.sim.test_equations_of_motion import PUBLISHED, accelerate, plant_of, states

NAMES = ("m1", "r1", "l1", "I1", "m2", "r2", "l2", "I2", "Ir", "b1", "b2", "cf1", "cf2")


def equations(cases: list[str], friction: bool = True) -> Equations:
    """One pendulum for each case of the published table."""
    table = {name: np.array([PUBLISHED[case][i] for case in cases]) for i, name in enumerate(NAMES)}
    figures = {name: table[name] for name in ("I1", "I2", "Ir", "l1", "m2")}
    figures |= {name: table[name] * (1.0 if friction else 0.0) for name in ("b1", "b2", "cf1", "cf2")}
    figures |= {"m1r1": table["m1"] * table["r1"], "m2r2": table["m2"] * table["r2"], "gr": np.full(len(cases), 6.0)}
    return Equations(Pendulums(**figures))


@pytest.mark.parametrize("case", ["a0_1.0", "c0_3.0", "c1_1.0", "c1_2.0"])
def test_accelerations_are_mujocos(case: str) -> None:
    plant, _ = plant_of(case, 300)
    q, v, torque = states(300, np.random.default_rng(0))
    found = equations([case] * 300, friction=False).acceleration(np.concatenate([q.T, v.T]), torque.T.copy())
    np.testing.assert_allclose(found.T, accelerate(plant, q, v, torque), rtol=1e-7, atol=1e-6)


def test_friction_at_speed_is_mujocos_damping_and_frictionloss() -> None:
    """The published arctan is within a thousandth of its plateau there, which is what MuJoCo is given."""
    plant, _ = plant_of("c1_2.0", 200, friction=True)
    q, _, torque = states(200, np.random.default_rng(1))
    v = np.random.default_rng(2).choice([-1.0, 1.0], (200, 2)) * 8.0
    found = equations(["c1_2.0"] * 200).acceleration(np.concatenate([q.T, v.T]), torque.T.copy())
    smooth = equations(["c1_2.0"] * 200, friction=False).acceleration(np.concatenate([q.T, v.T]), torque.T.copy())
    expected = accelerate(plant, q, v, torque)
    assert np.abs(found.T - expected).max() < 2e-3 * np.abs(smooth.T - expected).max()


def test_a_second_of_motion_is_mujocos() -> None:
    plant, _ = plant_of("c1_1.0", 16)
    q, v, _ = states(16, np.random.default_rng(3))
    torque = np.random.default_rng(4).uniform(-6, 6, (16, 1000, 2))
    plant.reset(q, v)
    plant.run(torque)
    moving, state = equations(["c1_1.0"] * 16, friction=False), np.concatenate([q.T, v.T])
    for k in range(1000):
        state = moving.step(state, torque[:, k].T, 0.001)
    np.testing.assert_allclose(state[:2].T, plant.position, rtol=1e-7, atol=1e-7)


def test_energy_is_conserved_without_friction_and_torque_and_lost_with_friction() -> None:
    cases = ["c1_1.0", "a0_1.0"]
    q, v, _ = states(2, np.random.default_rng(5))
    for friction, kept in ((False, True), (True, False)):
        moving, state = equations(cases, friction), np.concatenate([q.T, v.T])
        before = moving.energy(state)
        for _ in range(2000):
            state = moving.step(state, np.zeros((2, 2)), 0.001)
        after = moving.energy(state)
        assert np.allclose(after, before, rtol=1e-5, atol=1e-6) if kept else (after < before - 0.1).all()


def test_each_pendulum_of_a_batch_moves_as_it_would_alone() -> None:
    cases = list(PUBLISHED)
    q, v, torque = states(len(cases), np.random.default_rng(6))
    state = np.concatenate([q.T, v.T])
    together = equations(cases).step(state, torque.T, 0.002)
    for i, case in enumerate(cases):
        alone = equations([case]).step(state[:, [i]], torque.T[:, [i]], 0.002)
        np.testing.assert_allclose(together[:, [i]], alone, rtol=1e-12)


def test_a_mass_matrix_that_is_not_positive_definite_is_noticed() -> None:
    of = {name: np.array([0.02, 0.02]) for name in ("I1", "I2", "m2")}
    of |= {name: np.zeros(2) for name in ("Ir", "m1r1", "b1", "b2", "cf1", "cf2")}
    of |= {"l1": np.array([0.2, 0.2]), "gr": np.full(2, 6.0), "m2r2": np.array([0.01, 0.2])}
    assert Equations(Pendulums(**of)).physical.tolist() == [True, False]
