"""Friction levels are BAM's M1 to M6: figures worked out by hand from the published equations."""

from __future__ import annotations

import math
from dataclasses import fields
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from sim import randomization
from sim.friction import Friction, load_level, stribeck_level
from sim.model import Model, find_robot
from sim.plant import Plant
from sim.servos import FRICTION, SERVOS, friction

Array = npt.NDArray[np.float64]

CONFIGS = Path(__file__).parents[2] / "configs"
VELOCITY, MOTOR, LOAD = 0.8, 0.3, -0.2
"""[rad/s], [N m]: the motor holds a load."""


def coefficients(n: int, **values: float) -> Friction:
    table = {f.name: values.get(f.name, 0.0) for f in fields(Friction)}
    table |= {k: values.get(k, v) for k, v in (("stribeck_velocity", 0.1), ("stribeck_exponent", 2.0))}
    return Friction(**{k: np.full((n, 1), v) for k, v in table.items()})


def level(motor: float = MOTOR, load: float = LOAD, velocity: float = VELOCITY, **values: float) -> float:
    v, m, e = (np.array([[x]]) for x in (velocity, motor, load))
    return float(load_level(v, m, e, coefficients(1, **values))[0, 0])


S = math.exp(-((0.8 / 2.0) ** 1.5))
STICKY = {"stribeck_velocity": 2.0, "stribeck_exponent": 1.5}


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ({"coulomb": 0.05}, 0.05),  # M1
        ({"coulomb": 0.05, "stribeck": 0.02} | STICKY, 0.05 + S * 0.02),  # M2
        # M3: 0.3 + 0.2 N m on the teeth
        ({"coulomb": 0.05, "motor_friction": 0.1, "load_friction": 0.1}, 0.05 + 0.1 * 0.5),
        (
            {"coulomb": 0.05, "stribeck": 0.02, "motor_friction": 0.1, "load_friction": 0.1, "motor_stribeck": 0.2,
             "load_stribeck": 0.2} | STICKY,
            0.05 + 0.1 * 0.5 + S * (0.02 + 0.2 * 0.5),
        ),  # M4
        (
            {"coulomb": 0.05, "stribeck": 0.02, "motor_friction": 0.1, "load_friction": 0.3, "motor_stribeck": 0.2,
             "load_stribeck": 0.4} | STICKY,
            0.05 + (0.1 * 0.3 + 0.3 * 0.2) + S * (0.02 + 0.2 * 0.3 + 0.4 * 0.2),
        ),  # M5
        (
            {"coulomb": 0.05, "motor_quadratic": 0.7, "load_quadratic": 0.5} | STICKY,
            0.05 + S * 0.5 * 0.2**2,
        ),  # M6: the motor is the stronger, so the load's square counts
    ],
)  # fmt: skip
def test_each_of_the_six_models_gives_the_figure_worked_out_by_hand(values: dict[str, float], expected: float) -> None:
    assert level(**values) == pytest.approx(expected, rel=1e-12)


def test_the_quadratic_part_is_of_the_weaker_side_and_only_while_they_oppose() -> None:
    quadratic = {"motor_quadratic": 0.7, "load_quadratic": 0.5} | STICKY
    assert level(0.3, -0.4, **quadratic) == pytest.approx(S * 0.7 * 0.3**2)
    assert level(0.3, 0.2, **quadratic) == 0.0
    assert level(0.3, -0.3, **quadratic) == 0.0


def test_without_load_the_level_is_the_stribeck_curve() -> None:
    curve = coefficients(3, coulomb=0.2, stribeck=0.1)
    found = stribeck_level(np.array([[0.0], [0.1], [5.0]]), curve)
    np.testing.assert_allclose(found[:, 0], [0.3, 0.2 + 0.1 / math.e, 0.2], rtol=1e-12)


def test_levels_do_not_depend_on_how_many_are_computed() -> None:
    rng = np.random.default_rng(0)
    table = {f.name: rng.uniform(0.1, 2.0, (257, 3)) for f in fields(Friction)}
    v, m, e = rng.normal(size=(3, 257, 3))
    together = load_level(v, m, e, Friction(**table))
    for i in (0, 5, 128, 256):
        alone = load_level(
            v[i : i + 1], m[i : i + 1], e[i : i + 1], Friction(**{k: x[i : i + 1] for k, x in table.items()})
        )
        np.testing.assert_array_equal(together[i], alone[0])


def test_published_figures_of_the_servos_agree_with_each_other() -> None:
    sts, xl = SERVOS["sts3215"], SERVOS["xl330"]
    assert sts.stall_torque == pytest.approx(3.350, abs=5e-4)
    assert sts.kp() == pytest.approx(17.80, abs=5e-3) and sts.kp(16) == pytest.approx(8.90, abs=5e-3)
    assert sts.back_emf + FRICTION["sts3215"][0]["damping"] == pytest.approx(0.6077, abs=1e-4)
    assert sts.speed_ceiling == pytest.approx(5.2155, abs=1e-4)
    assert xl.duty_per_rad == pytest.approx(0.0028774, abs=1e-7) and xl.kp() == pytest.approx(0.830949, abs=1e-5)
    m6 = friction("xl330", 6, ["a"], back_emf=0.1)
    assert m6["joint/a/damping"] == pytest.approx(0.10536) and m6["joint/a/motor_quadratic"] == 0.009972
    with pytest.raises(IndexError):
        friction("sts3215", 2, ["a"])


def bench(number: int, seconds: float) -> tuple[Array, Array]:
    """(time, 1) angles of the servo's bench under a raised sine: the plant's, and those of BAM's own equations."""
    xl, config = SERVOS["xl330"], find_robot("servo_bench")
    values = friction("xl330", number, ["servo"], back_emf=xl.back_emf)
    plant = Plant(Model(config), 1, timestep_s=0.001, period_s=0.001, nthread=1)
    plant.set({name: np.array([value]) for name, value in values.items()})
    plant.reset(np.zeros((1, 1)), np.zeros((1, 1)))
    goal = 1.2 * np.sin(np.arange(round(1000 * seconds)) * 0.003)
    trace = plant.run(goal[None, :, None], record=True)
    assert trace is not None
    table = {name.split("/")[2]: value for name, value in values.items()}
    coulomb, viscous = table.pop("frictionloss"), table.pop("damping") - xl.back_emf
    law = coefficients(1, coulomb=coulomb, stribeck=table.pop("stribeck_friction", 0.0), **table)
    q, v, inertia, dt, angles = 0.0, 0.0, 0.49 * 0.01 + 0.001814, 2e-4, []
    for k in range(round(seconds / dt)):
        duty = float(np.clip(xl.p_gain * xl.duty_per_rad * (goal[k // 5] - q), -1.0, 1.0))
        motor = xl.stall_torque * duty - xl.back_emf * v
        load = -0.49 * 9.81 * 0.1 * math.sin(q)
        most = viscous * abs(v) + float(load_level(np.array([[v]]), np.array([[motor]]), np.array([[load]]), law)[0, 0])
        stop = -(inertia * v / dt + motor + load)
        v += dt * (motor + load + min(max(stop, -most), most)) / inertia
        q += dt * v
        if k % 5 == 4:
            angles.append(q)
    return trace[0][0, :, 0], np.array(angles)


@pytest.mark.parametrize("number", [1, 2, 4, 6])
def test_the_plant_moves_as_bams_own_equations_do(number: int) -> None:
    """Euler steps of 0.2 ms with the friction as BAM states it: the stopping torque, clipped to the budget."""
    plant, equations = bench(number, 1.5)
    assert np.ptp(equations) > 0.5
    assert np.abs(plant - equations).max() < 0.003


def test_published_parameter_sets_of_servo_robots_are_the_tables() -> None:
    for name, robot in (("so101_p16", "so101"), ("servo_bench_m6", "servo_bench")):
        published = randomization.load(CONFIGS / "model" / f"published_{name}.yaml")
        values = {k: float(v[0]) for k, v in published.center(Model(find_robot(robot))).items()}
        if robot == "so101":
            assert set(values.values()) == {8.9} and SERVOS["sts3215"].kp(16) == pytest.approx(8.9, abs=5e-3)
        else:
            expected = friction("xl330", 6, ["servo"], back_emf=SERVOS["xl330"].back_emf)
            assert {k: values[k] for k in expected} == pytest.approx(expected, rel=1e-5)
            assert values["motor/servo/rotor_inertia"] * 288.4**2 == pytest.approx(0.001808)
