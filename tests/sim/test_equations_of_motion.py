"""The MuJoCo models against the published equations of motion, written here again in numpy as the oracle."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from sim import randomization
from sim.model import Model, load_robot
from sim.plant import Plant

Array = npt.NDArray[np.float64]
CONFIGS = Path(__file__).parents[2] / "configs"
GRAVITY, GEAR = 9.81, 6.0

# design, model: m1, r1, l1, I1, m2, r2, l2, I2, Ir, b1, b2, cf1, cf2 as published, inertias about the joints
PUBLISHED = {
    "a0_1.0": (0.608, 0.275, 0.3, 0.05472, 0.630, 0.166, 0.2, 0.02522, 6.0719e-5, 0.081, 0.0, 0.093, 0.186),
    "a0_2.0": (
        *(0.559381, 0.3, 0.3, 0.0534708, 0.604346, 0.183777, 0.2, 0.0239237, 7.6593e-5),
        *(0.001, 0.001, 0.093, 0.078),
    ),
    "c0_3.0": (
        *(0.641694, 0.2, 0.2, 0.0267108, 0.563936, 0.321267, 0.3, 0.0538781, 9.9373e-5),
        *(0.001, 0.001, 0.093, 0.078),
    ),
    "c1_1.0": (
        *(0.523460, 0.2, 0.2, 0.0318872, 0.625568, 0.255693, 0.3, 0.0508698, 6.2872e-5),
        *(0.001, 0.001, 0.16, 0.12),
    ),
    "c1_2.0": (
        *(0.758644, 0.2, 0.2, 0.0421116, 0.336937, 0.468438, 0.3, 0.0510353, 6.2872e-5),
        *(0.003691, 0.000645, 0.174672, 0.110000),
    ),
    "c1_3.0": (
        *(0.874595, 0.2, 0.2, 0.0357113, 0.220415, 0.326749, 0.3, 0.0100000, 5.1337e-5),
        *(0.049379, 0.020041, 0.033150, 0.035211),
    ),
}
NOMINAL = {
    "c0": (0.608, 0.2, 0.2, 0.608 * 0.04, 0.630, 0.3, 0.3, 0.630 * 0.09, 6.07e-5, 0.0, 0.0, 0.0, 0.0),
    "c1": (0.608, 0.2, 0.2, 0.608 * 0.04, 0.630, 0.3, 0.3, 0.630 * 0.09, 6.07e-5, 0.0, 0.0, 0.0, 0.0),
    "a0": (0.608, 0.3, 0.3, 0.608 * 0.09, 0.630, 0.2, 0.2, 0.630 * 0.04, 6.07e-5, 0.0, 0.0, 0.0, 0.0),
}


def mass_matrix(row: tuple[float, ...], q: Array) -> Array:
    """(n, 2, 2) of the published equations at positions q (n, 2)."""
    _, _, l1, i1, m2, r2, _, i2, ir = row[:9]
    coupling = l1 * m2 * r2 * np.cos(q[:, 1])
    out = np.empty((len(q), 2, 2))
    out[:, 0, 0] = i1 + i2 + l1**2 * m2 + 2 * coupling + GEAR**2 * ir + ir
    out[:, 0, 1] = out[:, 1, 0] = i2 + coupling - GEAR * ir
    out[:, 1, 1] = i2 + GEAR**2 * ir
    return out


def acceleration(row: tuple[float, ...], q: Array, v: Array, torque: Array) -> Array:
    """(n, 2) of the published equations without friction."""
    m1, r1, l1, _, m2, r2 = row[:6]
    swing = l1 * m2 * r2 * np.sin(q[:, 1])
    coriolis = np.stack([-2 * v[:, 1] * swing * v[:, 0] - v[:, 1] ** 2 * swing, v[:, 0] ** 2 * swing], axis=1)
    lower = GRAVITY * m2 * r2 * np.sin(q[:, 0] + q[:, 1])
    gravity = -np.stack([GRAVITY * (m1 * r1 + m2 * l1) * np.sin(q[:, 0]) + lower, lower], axis=1)
    return np.linalg.solve(mass_matrix(row, q), (torque + gravity - coriolis)[..., None])[..., 0]


def energy(row: tuple[float, ...], q: Array, v: Array) -> Array:
    """(n,) kinetic and potential energy [J]."""
    m1, r1, l1, _, m2, r2 = row[:6]
    kinetic = 0.5 * np.einsum("ni,nij,nj->n", v, mass_matrix(row, q), v)
    height = (m1 * r1 + m2 * l1) * np.cos(q[:, 0]) + m2 * r2 * np.cos(q[:, 0] + q[:, 1])
    return kinetic - GRAVITY * height


def rk4(row: tuple[float, ...], q: Array, v: Array, torque: Array, dt: float) -> tuple[Array, Array]:
    """One step of the classical Runge-Kutta method."""
    k1v, k1a = v, acceleration(row, q, v, torque)
    k2v, k2a = v + dt / 2 * k1a, acceleration(row, q + dt / 2 * k1v, v + dt / 2 * k1a, torque)
    k3v, k3a = v + dt / 2 * k2a, acceleration(row, q + dt / 2 * k2v, v + dt / 2 * k2a, torque)
    k4v, k4a = v + dt * k3a, acceleration(row, q + dt * k3v, v + dt * k3a, torque)
    return q + dt / 6 * (k1v + 2 * k2v + 2 * k3v + k4v), v + dt / 6 * (k1a + 2 * k2a + 2 * k3a + k4a)


def plant_of(case: str, n: int, friction: bool = False) -> tuple[Plant, tuple[float, ...]]:
    """A plant with a design's nominal ("c1") or published ("c1_2.0") parameters, and their row of the table."""
    model = Model(load_robot(CONFIGS / "robot" / f"double_pendulum_{case[:2]}.yaml"))
    plant = Plant(model, n, timestep_s=0.001, period_s=0.001, nthread=1)
    if case in NOMINAL:
        return plant, NOMINAL[case]
    published = randomization.load(CONFIGS / "model" / f"published_{case}.yaml")
    published.check(model)
    values = published.center(model, n)
    if not friction:
        values |= {name: np.zeros(n) for name in values if name.endswith(("damping", "frictionloss"))}
    plant.set(values)
    return plant, PUBLISHED[case]


def accelerate(plant: Plant, q: Array, v: Array, torque: Array) -> Array:
    """(n, n_joints) acceleration that MuJoCo computes."""
    plant.reset(q, v)
    plant.batch.bind("ctrl")[:] = torque
    qacc = plant.batch.bind("qacc")
    plant.batch.forward()
    return np.array(qacc)


def states(n: int, rng: np.random.Generator) -> tuple[Array, Array, Array]:
    return rng.uniform(-np.pi, np.pi, (n, 2)), rng.uniform(-10, 10, (n, 2)), rng.uniform(-6, 6, (n, 2))


@pytest.mark.parametrize("case", [*NOMINAL, *PUBLISHED])
def test_accelerations_are_those_of_the_published_equations_with_the_published_numbers(case: str) -> None:
    plant, row = plant_of(case, 1000)
    q, v, torque = states(1000, np.random.default_rng(0))
    expected = acceleration(row, q, v, torque)
    error = np.linalg.norm(accelerate(plant, q, v, torque) - expected, axis=1) / np.linalg.norm(expected, axis=1)
    assert error.max() < 1e-8


def test_leaving_the_rotors_coupling_out_would_be_noticed() -> None:
    plant, row = plant_of("c1_1.0", 100)
    q, v, torque = states(100, np.random.default_rng(0))
    without = list(row)
    without[8] = 0.0
    found, other = accelerate(plant, q, v, torque), acceleration(tuple(without), q, v, torque)
    assert np.median(np.abs(found - other) / np.abs(found)) > 0.01


@pytest.mark.parametrize("case", ["c1_1.0", "c1_2.0", "a0_2.0"])
def test_published_friction_is_damping_and_the_plateau_of_the_arctan(case: str) -> None:
    plant, row = plant_of(case, 200, friction=True)
    q, _, torque = states(200, np.random.default_rng(1))
    v = np.random.default_rng(2).choice([-1.0, 1.0], (200, 2)) * 8.0  # fast: friction is on its plateau
    friction = np.array(row[9:11]) * v + np.array(row[11:13]) * np.pi / 2 * np.sign(v)
    expected = acceleration(row, q, v, torque - friction)
    np.testing.assert_allclose(accelerate(plant, q, v, torque), expected, rtol=1e-6, atol=1e-5)


def test_plant_follows_a_numpy_runge_kutta_of_the_equations() -> None:
    plant, row = plant_of("c1_2.0", 32)
    rng = np.random.default_rng(3)
    q, v, _ = states(32, rng)
    torque = rng.uniform(-6, 6, (32, 300, 2))
    plant.reset(q, v)
    trace = plant.run(torque, record=True)
    assert trace is not None
    for k in range(300):
        q, v = rk4(row, q, v, torque[:, k], 0.001)
        np.testing.assert_allclose(trace[0][:, k], q, rtol=1e-9, atol=1e-9)
        np.testing.assert_allclose(trace[1][:, k], v, rtol=1e-8, atol=1e-8)


@pytest.mark.parametrize("case", ["c1", "c1_1.0", "a0_1.0"])
def test_energy_is_conserved_without_friction_and_torque(case: str) -> None:
    plant, row = plant_of(case, 64)
    q, v, _ = states(64, np.random.default_rng(4))
    before = energy(row, q, v)
    plant.reset(q, v)
    plant.run(np.zeros((64, 2000, 2)))
    np.testing.assert_allclose(energy(row, plant.position, plant.velocity), before, rtol=1e-5, atol=1e-5)


def test_simple_pendulum_is_a_point_mass_with_a_geared_rotor() -> None:
    plant = Plant(Model(load_robot(CONFIGS / "robot" / "simple_pendulum.yaml")), 1000, nthread=1)
    rng = np.random.default_rng(5)
    q, v, torque = (rng.uniform(-4, 4, (1000, 1)) for _ in range(3))
    inertia = 0.6755 * 0.5**2 + GEAR**2 * 6.07e-5
    expected = (torque - 0.6755 * GRAVITY * 0.5 * np.sin(q)) / inertia
    np.testing.assert_allclose(accelerate(plant, q, v, torque), expected, rtol=1e-8, atol=1e-8)


@pytest.mark.parametrize(
    ("name", "mass", "length", "damping"),
    [
        ("energy_shaping", 0.6755, 0.5, 0.35),
        ("gravity_compensation", 0.546, 0.4, 0.1),
        ("ilqr", 0.6755, 0.4, 0.35),
        ("sac", 0.6755, 0.5, 0.1),
    ],
)
def test_published_simple_pendulums(name: str, mass: float, length: float, damping: float) -> None:
    found = simple_pendulum_acceleration(name)
    inertia = mass * length**2 + GEAR**2 * 6.07e-5
    expected = (0.7 - mass * GRAVITY * length * np.sin(1.0) - damping * 2.0) / inertia
    assert found == pytest.approx(expected, rel=1e-8)


def test_published_identified_simple_pendulum() -> None:
    plateau = 0.1839 * np.pi / 2
    expected = (0.7 + 0.0759 - 0.1022 * GRAVITY * np.sin(1.0) - 0.04707 * 2.0 - plateau) / 0.06259
    assert simple_pendulum_acceleration("identified") == pytest.approx(expected, rel=1e-6)


def simple_pendulum_acceleration(name: str) -> float:
    """[rad/s²] at 1 rad and 2 rad/s under a command of 0.7 N m."""
    model = Model(load_robot(CONFIGS / "robot" / "simple_pendulum.yaml"))
    plant = Plant(model, 1, nthread=1)
    published = randomization.load(CONFIGS / "model" / f"published_simple_pendulum_{name}.yaml")
    published.check(model)
    plant.set(published.center(model))
    return float(accelerate(plant, np.array([[1.0]]), np.array([[2.0]]), np.array([[0.7]]))[0, 0])
