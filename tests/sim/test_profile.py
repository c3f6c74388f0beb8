"""The profile of a servo's goal: its ceilings, its braking, and the frequency at which it cannot follow a sine."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest

from sim.model import Model, find_robot
from sim.plant import Plant
from sim.profile import follow
from sim.servos import SERVOS

Array = npt.NDArray[np.float64]

STEP_S = 0.001


def profiled(goals: Array, fastest: float, most: float) -> tuple[Array, Array]:
    """Positions and speeds after each step towards goals (n,)."""
    at, speed = np.zeros(1), np.zeros(1)
    rows = []
    for goal in goals:
        at, speed = follow(np.array([goal]), at, speed, fastest, most, STEP_S)
        rows.append((at[0], speed[0]))
    return np.array(rows)[:, 0], np.array(rows)[:, 1]


def test_a_step_is_a_triangle_of_speed_that_ends_at_the_goal() -> None:
    position, speed = profiled(np.full(400, 0.24), fastest=100.0, most=39.0)
    assert np.abs(np.diff(speed)).max() <= 39.0 * STEP_S + 1e-9
    assert speed.max() == pytest.approx(np.sqrt(39.0 * 0.24), rel=0.03)
    assert position[-1] == pytest.approx(0.24, abs=1e-4) and position.max() < 0.242


def test_a_ceiling_of_speed_is_held() -> None:
    position, speed = profiled(np.full(600, 2.0), fastest=5.2, most=1e6)
    assert speed.max() == pytest.approx(5.2) and position[299] == pytest.approx(5.2 * 0.3, rel=1e-6)


@pytest.mark.parametrize(("hertz", "kept"), [(2.5, True), (2.95, True), (3.4, False)])
def test_a_sine_of_015_rad_streamed_at_50_hz_breaks_down_at_3_hz(hertz: float, kept: bool) -> None:
    """As the recorded arm does, whose amplitude falls at 3.05 Hz in all of its joints alike."""
    t = STEP_S * np.arange(4000)
    goals = 0.15 * np.sin(2 * np.pi * hertz * 0.02 * np.floor(t / 0.02))
    position, _ = profiled(goals, fastest=100.0, most=SERVOS["sts3215"].accelerations[0])
    amplitude = 0.5 * np.ptp(position[1500:])
    assert (amplitude > 0.145) == kept and amplitude > 0.05


def test_commands_before_a_window_lead_the_profile() -> None:
    """A window that begins within a motion goes on with it."""
    model = Model(find_robot("servo_bench"))
    values = {"actuator/servo/acceleration_ceiling": np.array([10.0]), "actuator/servo/error_kd": np.array([0.03])}
    goals = np.where(np.arange(400) < 50, 0.0, 0.8)[None, :, None]
    whole = Plant(model, 1, timestep_s=STEP_S, period_s=STEP_S, nthread=1)
    whole.set(values)
    whole.reset(np.zeros((1, 1)), np.zeros((1, 1)))
    positions, velocities = whole.run(goals, record=True) or (np.zeros(0), np.zeros(0))
    later = Plant(model, 1, timestep_s=STEP_S, period_s=STEP_S, nthread=1)
    later.set(values)
    later.reset(positions[:, 199], velocities[:, 199])
    later.rehearse(goals[:, :200])
    resumed, _ = later.run(goals[:, 200:], record=True) or (np.zeros(0), np.zeros(0))
    assert resumed[0, :, 0] == pytest.approx(positions[0, 200:, 0], abs=1e-3)
    later.reset(positions[:, 199], velocities[:, 199])
    unled, _ = later.run(goals[:, 200:], record=True) or (np.zeros(0), np.zeros(0))
    assert np.abs(unled - positions[:, 200:]).max() > 0.02


def test_a_d_gain_on_the_error_leads_with_the_profile_and_damps_without_one() -> None:
    model = Model(find_robot("servo_bench"))
    plant = Plant(model, 2, timestep_s=STEP_S, period_s=STEP_S, nthread=1)
    ceiling = np.array([2.0, 1e3])  # the second has no profile
    plant.set({"actuator/servo/error_kd": np.full(2, 0.05), "actuator/servo/speed_ceiling": ceiling})
    plant.reset(np.zeros((2, 1)), np.full((2, 1), 0.5))
    control = plant.actuators.act(np.full((2, 1), 1.0), np.zeros((2, 1)), np.full((2, 1), 0.5), None, STEP_S)
    lead = 0.05 / 0.830949
    assert control[:, 0] == pytest.approx([0.002 + lead * (2.0 - 0.5), 1.0 - lead * 0.5], rel=1e-9)


def test_a_servo_without_torque_swings_as_freely_as_its_gearbox_lets_it() -> None:
    """NaN is an open bridge: no loop, and no back-EMF in the joint's damping."""
    model = Model(find_robot("servo_bench"))
    plant = Plant(model, 1, timestep_s=STEP_S, period_s=STEP_S, nthread=1)
    plant.set({"joint/servo/frictionloss": np.zeros(1)})
    plant.reset(np.ones((1, 1)), np.zeros((1, 1)))
    free, _ = plant.run(np.full((1, 1500, 1), np.nan), record=True) or (np.zeros(0), np.zeros(0))
    assert free.min() < -0.6  # damping 0.0037; with the back-EMF's 0.041 it would barely pass the bottom
    plant.reset(np.ones((1, 1)), np.zeros((1, 1)))
    held, _ = plant.run(np.ones((1, 1500, 1)), record=True) or (np.zeros(0), np.zeros(0))
    assert held.min() > 0.4
