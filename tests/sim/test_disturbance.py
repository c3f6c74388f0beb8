"""Forces from outside: what a body of known mass does under them."""

from __future__ import annotations

import dataclasses

import numpy as np
import numpy.typing as npt
import pytest

from sim.model import Model, SimConfig, find_robot
from sim.plant import Plant

Array = npt.NDArray[np.float64]
MASS, PERIOD = 2.0, 0.01
FLOATING = """
<mujoco>
  <option timestep="0.01" gravity="0 0 0"/>
  <worldbody>
    <body name="arm" pos="0 0 5"><joint name="shoulder" axis="0 -1 0"/><geom size="0.01" pos="0 0 1" mass="0.1"/></body>
    <body name="ball"><freejoint name="ball"/><geom size="0.1" mass="2"/></body>
  </worldbody>
  <actuator><motor name="shoulder" joint="shoulder"/></actuator>
</mujoco>"""


def plant(nsim: int = 1) -> Plant:
    robot = find_robot("simple_pendulum")
    simulated = SimConfig(mjcf=FLOATING, timestep_s=PERIOD)
    return Plant(Model(dataclasses.replace(robot, model=simulated)), nsim, period_s=PERIOD, nthread=1)


def fly(found: Plant, steps: int, seed: int = 0) -> Array:
    """(steps, nsim, 3) velocity of the ball from rest [m/s]."""
    n = found.nsim
    found.seed(seed)
    found.reset(np.zeros((n, 1)), np.zeros((n, 1)))
    out = []
    for _ in range(steps):
        found.step(np.zeros((n, 1)))
        out.append(found.qvel[:, 1:4].copy())
    return np.array(out)


def test_a_constant_force_accelerates_as_newton_says_and_ends_with_its_episode() -> None:
    found = plant(2)
    found.set({"body/ball/force_x": np.array([3.0, 0.0]), "body/ball/force_z": np.array([0.0, -1.0])})
    velocity = fly(found, 50)[-1]
    np.testing.assert_allclose(velocity, [[3.0 / MASS * 0.5, 0, 0], [0, 0, -1.0 / MASS * 0.5]], atol=1e-12)
    found.set({"body/ball/force_x": np.array([1.0])}, np.array([1]))
    velocity = fly(found, 10)[-1]
    np.testing.assert_allclose(velocity, [[3.0 / MASS * 0.1, 0, 0], [1.0 / MASS * 0.1, 0, 0]], atol=1e-12)
    found.set({})
    assert not fly(found, 10).any()


def test_a_push_is_an_impulse_in_a_level_direction_at_poisson_times() -> None:
    found = plant(20)
    found.set({"body/ball/push": np.full(20, 0.8), "body/ball/push_rate": np.full(20, 5.0)})
    jumps = np.diff(fly(found, 500), axis=0, prepend=0.0)
    size = np.linalg.norm(jumps, axis=2)
    pushed = size > 1e-9
    np.testing.assert_allclose(size[pushed], 0.8 / MASS, rtol=1e-9)
    np.testing.assert_allclose(jumps[..., 2], 0.0, atol=1e-12)
    expected = 20 * 500 * -np.expm1(-5.0 * PERIOD)
    assert abs(pushed.sum() - expected) < 4 * np.sqrt(expected)
    directions = jumps[pushed] / (0.8 / MASS)
    assert np.abs(directions.mean(axis=0)).max() < 4 / np.sqrt(2 * pushed.sum())
    assert len(np.unique(directions[:, 0])) == len(directions)


def test_force_noise_is_white_in_all_directions() -> None:
    found = plant(20)
    found.set({"body/ball/force_noise": np.full(20, 4.0)})
    force = np.diff(fly(found, 400), axis=0, prepend=0.0) * MASS / PERIOD
    np.testing.assert_allclose(force.std(axis=(0, 1)), 4.0, rtol=0.04)
    np.testing.assert_allclose(force.mean(axis=(0, 1)), 0.0, atol=4 * 4.0 / np.sqrt(8000))
    lagged = np.corrcoef(force[:-1].ravel(), force[1:].ravel())[0, 1]
    assert abs(lagged) < 4 / np.sqrt(24000)


def test_a_seed_repeats_the_forces_and_neighbours_do_not_change_them() -> None:
    values = {"body/ball/force_noise": 2.0, "body/ball/push": 0.5, "body/ball/push_rate": 8.0}
    many, one = plant(5), plant(1)
    for found in (many, one):
        found.set({name: np.full(found.nsim, value) for name, value in values.items()})
    first = fly(many, 60, seed=4)
    np.testing.assert_array_equal(fly(many, 60, seed=4), first)
    np.testing.assert_array_equal(fly(one, 60, seed=4)[:, 0], first[:, 0])
    assert np.abs(fly(many, 60, seed=5) - first).max() > 1e-3
    assert np.abs(first[:, 0] - first[:, 1]).max() > 1e-3


def test_a_push_on_a_joint_is_gaussian_in_time_and_of_either_sign() -> None:
    """What the public robustness benchmark pushes with: its impulse is size x width x sqrt(2 pi)."""
    found = plant(60)
    found.set({"joint/shoulder/push": np.full(60, 2.0), "joint/shoulder/push_rate": np.full(60, 0.5)})
    found.seed(0)
    found.reset(np.zeros((60, 1)), np.zeros((60, 1)))
    torque = np.zeros((400, 60))
    for k in range(400):
        found.step(np.zeros((60, 1)))
        torque[k] = found.batch.bind("qfrc_applied")[:, 0]
    quiet = torque == 0.0
    assert 0.4 < quiet.mean() < 0.95 and 1.9 < np.abs(torque).max() <= 2.0
    for i in range(60):
        edges = np.flatnonzero(np.diff(np.concatenate([[True], quiet[:, i], [True]]).astype(int)))
        for begin, end in edges.reshape(-1, 2):
            pulse = torque[begin:end, i]
            if begin == 0 or end == 400 or abs(pulse).max() < 1.9 or (pulse > 0).any() == (pulse < 0).any():
                continue
            width = abs(pulse.sum()) * PERIOD / (2.0 * np.sqrt(2.0 * np.pi))
            assert 0.04 < width < 0.11
            np.testing.assert_allclose(pulse, pulse[::-1], atol=0.5)
    assert (torque.max(axis=0) > 1.0).any() and (torque.min(axis=0) < -1.0).any()
    found.set({})
    found.step(np.zeros((60, 1)))
    assert not found.batch.bind("qfrc_applied").any()


@pytest.mark.parametrize("robot", ["simple_pendulum", "motor_bench"])
def test_what_cannot_give_way_has_no_force(robot: str) -> None:
    """A planar pendulum cannot be pushed along its axle, nor a balanced rotor at its centre of mass at all."""
    model = Model(find_robot(robot))
    assert model.objects(("body", "force_y")) == ()
    assert bool(model.objects(("body", "push"))) == (robot == "simple_pendulum")
