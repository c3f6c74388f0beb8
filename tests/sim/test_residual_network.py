"""The residual network: odd, bounded, with a memory; silent without weights, and alike for one and for many."""

from __future__ import annotations

import numpy as np
import pytest

from sim.model import Model, find_robot
from sim.plant import Plant
from sim.residual_network import BOUND, UNITS, ResidualNetwork


def network(n: int = 1) -> ResidualNetwork:
    return ResidualNetwork(n, np.array([2.0]), np.array([10.0]))


def test_it_is_odd_and_bounded() -> None:
    rng = np.random.default_rng(0)
    weights = 50.0 * rng.normal(size=(1, UNITS, 1))
    asked, speed = rng.normal(size=(2, 40))
    one, other = network(), network()
    there = [
        float(one.torque(np.array([[a]]), np.array([[v]]), weights, 0.002)[0, 0])
        for a, v in zip(asked, speed, strict=True)
    ]
    back = [
        float(other.torque(np.array([[-a]]), np.array([[-v]]), weights, 0.002)[0, 0])
        for a, v in zip(asked, speed, strict=True)
    ]
    assert there == pytest.approx([-x for x in back])
    assert 0.5 * BOUND * 2.0 < np.abs(there).max() <= BOUND * 2.0


def test_it_remembers_for_some_ten_milliseconds_and_forgets_at_a_reset() -> None:
    weights, still = np.ones((1, UNITS, 1)), np.zeros((1, 1))
    fresh, used = network(), network()
    for _ in range(50):
        used.torque(np.ones((1, 1)), still, weights, 0.002)
    fresh.torque(still, still, weights, 0.002)
    assert abs(used.torque(still, still, weights, 0.002)[0, 0]) > 1e-3
    for _ in range(500):
        used.torque(still, still, weights, 0.002)
    assert abs(used.torque(still, still, weights, 0.002)[0, 0]) < 1e-6
    used.torque(np.ones((1, 1)), still, weights, 0.002)
    used.reset(np.array([0]))
    assert used.torque(still, still, weights, 0.002)[0, 0] == 0.0


@pytest.mark.parametrize("name", ["simple_pendulum", "servo_bench"])
def test_only_a_simulation_with_weights_moves_otherwise(name: str) -> None:
    model = Model(find_robot(name))
    actuator = model.spec.actuators[0].name

    def final(n: int, weights: np.ndarray) -> np.ndarray:
        plant = Plant(model, n, nthread=1)
        plant.set({f"residual/{actuator}/w2": weights})
        plant.reset(np.full((n, 1), 0.1), np.zeros((n, 1)))
        for _ in range(20):
            plant.step(np.full((n, 1), 0.4))
        return plant.position[:, 0]

    plain, both = final(1, np.zeros(1)), final(2, np.array([0.0, 3.0]))
    assert both[0] == pytest.approx(plain[0], abs=1e-9) and abs(both[1] - both[0]) > 1e-4
