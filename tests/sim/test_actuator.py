"""What actuators make of commands: each effect against figures worked out by hand, and alike for one and for many."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
import pytest

from robot.state import JointCommand
from sim.driver import SimDriver
from sim.model import Model, RobotConfig, find_robot
from sim.plant import Plant
from sim.randomization import Point, Randomization, Term
from sim.servos import COUNT, SERVOS, firmware, friction

Array = npt.NDArray[np.float64]

ROBOTS = ("simple_pendulum", "double_pendulum_c1", "servo_bench", "motor_bench", "so101", "quadruped")
XL = SERVOS["xl330"]
NO_FRICTION = {"joint/servo/damping": 0.0, "joint/servo/frictionloss": 0.0}


@pytest.fixture(scope="module")
def servo() -> Model:
    """One XL330 with a weight."""
    return Model(find_robot("servo_bench"))


def controls(model: Model, values: dict[str, float], command: float, q: float, v: float = 0.0) -> tuple[float, Plant]:
    """The control that the one actuator of a robot gets in a state, and the plant, one physics step later."""
    plant = Plant(model, 1, timestep_s=0.001, nthread=1)
    plant.set({name: np.array([value]) for name, value in values.items()})
    plant.reset(np.array([[q]]), np.array([[v]]))
    plant.advance(np.array([[command]]), 1)
    return float(plant.batch.bind("ctrl")[0, 0]), plant


def run(model: Model, values: dict[str, Array], commands: Array, start: float = 0.0) -> Array:
    """(n, periods, 2 n_joints) positions and velocities under commands (periods, n_joints), the same for all."""
    n, joints = len(next(iter(values.values()))), len(model.spec.joints)
    plant = Plant(model, n, nthread=2)
    plant.seed(5)
    plant.set(values)
    plant.reset(np.tile(model.spec.default_pose + start, (n, 1)), np.zeros((n, joints)))
    rows = []
    for command in commands:
        plant.step(np.tile(command, (n, 1)))
        rows.append(np.concatenate([plant.position, plant.velocity], axis=1))
    return np.stack(rows, axis=1)


# ---- position servos


def test_a_servo_without_effects_gets_its_command_as_it_is(servo: Model) -> None:
    control, plant = controls(servo, {}, command=0.3, q=0.1)
    assert control == 0.3 and not plant.actuators.slow
    assert plant.effort[0, 0] == pytest.approx(0.830949 * 0.2)


def test_the_encoder_counts_and_the_goal_is_a_count_too(servo: Model) -> None:
    step = 0.01
    control, plant = controls(servo, {"actuator/servo/encoder_step": step}, command=0.304, q=0.1074)
    assert control == pytest.approx(0.1074 + (0.30 - 0.11)) and plant.effort[0, 0] == pytest.approx(0.830949 * 0.19)


def test_an_error_within_the_dead_zone_moves_nothing_and_beyond_it_counts_in_full(servo: Model) -> None:
    dead = {"actuator/servo/dead_zone": 0.05}
    assert controls(servo, dead, command=0.14, q=0.1)[1].effort[0, 0] == pytest.approx(0.0, abs=1e-12)
    assert controls(servo, dead, command=0.16, q=0.1)[1].effort[0, 0] == pytest.approx(0.830949 * 0.06)


def test_backlash_is_the_play_operator(servo: Model) -> None:
    """The encoder rests until the joint has crossed half the gap, is dragged along, and lags by half a gap back."""
    plant = Plant(servo, 1, timestep_s=0.001, nthread=1)
    plant.set({"actuator/servo/backlash": np.array([0.02])})
    plant.reset(np.zeros((1, 1)), np.zeros((1, 1)))
    seen = []
    for q in (0.0, 0.005, 0.009, 0.03, 0.05, 0.045, 0.031, 0.02):
        plant.qpos[0, 0] = q
        control = plant.actuators.act(np.zeros((1, 1)), plant.position, plant.velocity, None, 0.001)
        seen.append(q - control[0, 0])
    np.testing.assert_allclose(seen, [0.0, 0.0, 0.0, 0.02, 0.04, 0.04, 0.04, 0.03], atol=1e-12)


def test_the_profile_keeps_its_ceilings_and_arrives(servo: Model) -> None:
    ceilings = {
        "actuator/servo/speed_ceiling": np.array([2.0]),
        "actuator/servo/acceleration_ceiling": np.array([20.0]),
    }
    plant = Plant(servo, 1, timestep_s=0.001, nthread=1)
    plant.set(ceilings)
    plant.reset(np.zeros((1, 1)), np.zeros((1, 1)))
    goal = []
    for _ in range(800):
        plant.qpos[0, 0] = 0.0
        goal.append(plant.actuators.act(np.ones((1, 1)), plant.position, plant.velocity, None, 0.001)[0, 0])
    speed = np.diff(goal) / 0.001
    assert speed.max() == pytest.approx(2.0) and np.abs(np.diff(speed)).max() / 0.001 < 20.0 + 1e-6
    # 0.1 s to speed up, 0.4 s at it, 0.1 s to brake
    assert goal[98] == pytest.approx(0.1, abs=3e-3) and goal[-1] == pytest.approx(1.0, abs=1e-4) and goal[550] < 0.99


def test_motor_constants_and_voltage_scale_the_servo_as_its_electrical_model_says(servo: Model) -> None:
    """tau = kt (V duty - kt speed) / R, of which kp, the limit, and the damping by back-EMF follow."""
    q, v, goal = 0.1, 0.5, 0.25
    kt, ohms, volts = 0.42, 3.1, 6.0
    duty = XL.p_gain * XL.duty_per_rad * (goal - q)
    values = NO_FRICTION | {
        "motor/servo/torque_constant": kt, "motor/servo/resistance": ohms, "supply/bus/voltage": volts,
    }  # fmt: skip
    _, plant = controls(servo, values, goal, q, v)
    # the nominal back-EMF is the joint's damping, which this test took away
    expected = kt * (volts * duty - kt * v) / ohms + XL.back_emf * v
    assert plant.effort[0, 0] == pytest.approx(expected, rel=1e-5)
    saturated = controls(servo, values, 5.0, q)[1]
    assert saturated.effort[0, 0] == pytest.approx(kt * volts / ohms, rel=1e-5)


def test_the_supply_sags_by_its_resistance_times_duty_times_current(servo: Model) -> None:
    ohms, goal, q = 1.5, 0.5, 0.1
    duty = XL.p_gain * XL.duty_per_rad * (goal - q)
    _, plant = controls(servo, NO_FRICTION | {"supply/bus/resistance": ohms}, goal, q)
    volts = XL.resistance * plant.effort[0, 0] / XL.torque_constant / duty
    assert volts == pytest.approx(7.5 - ohms * duty * plant.effort[0, 0] / XL.torque_constant, rel=1e-4)
    assert volts < 7.0


def test_servos_on_one_bus_share_the_sag() -> None:
    model = Model(find_robot("so101"))
    efforts = []
    for others in (0.0, 1.0):
        plant = Plant(model, 1, timestep_s=0.001, nthread=1)
        plant.set({"supply/bus/resistance": np.array([1.0])})
        pose = model.spec.default_pose
        plant.reset(pose[None], np.zeros((1, 6)))
        goal = pose + np.array([0.05, others, -others, others, others, 0.0])
        plant.advance(goal[None], 1)
        efforts.append(plant.effort[0, 0])
    assert efforts[1] < 0.95 * efforts[0]


def test_gains_limit_gear_and_bias_are_those_of_the_servo(servo: Model) -> None:
    base = controls(servo, {}, 0.3, 0.1)[1].effort[0, 0]
    for values, expected in (
        ({"actuator/servo/kp": 2.0}, 0.4),
        ({"actuator/servo/gain": 0.8}, 0.8 * base),
        ({"actuator/servo/bias": 0.02}, base + 0.02),
        ({"actuator/servo/torque_limit": 0.1}, 0.1),
        ({"motor/servo/gear": 1.1 * 288.4}, 1.1 * base),
    ):
        assert controls(servo, values, 0.3, 0.1)[1].effort[0, 0] == pytest.approx(expected, rel=1e-6), values
    damped = controls(servo, {"actuator/servo/kd": 0.1}, 0.3, 0.1, v=1.0)[1]
    assert damped.effort[0, 0] == pytest.approx(base - 0.1, rel=1e-6)


def test_the_gear_is_felt_as_inertia_by_its_square(servo: Model) -> None:
    plant = Plant(servo, 2, nthread=1)
    plant.set({"motor/servo/gear": np.array([288.4, 2 * 288.4]), "motor/servo/rotor_inertia": np.array([3e-8, 3e-8])})
    armature = plant.batch.expand("dof_armature")[:, 0]
    np.testing.assert_allclose(armature, 3e-8 * 288.4**2 * np.array([1.0, 4.0]))


def test_a_position_at_the_end_of_the_travel_is_reached_through_the_backlash_too() -> None:
    """MuJoCo clips controls to the joint's range; a control that stands for an error must not be."""
    model = Model(find_robot("so101"))
    low = np.array([j.position_limits[0] for j in model.spec.joints])
    pose = model.spec.default_pose.copy()
    pose[0] = low[0] + 0.001
    plant = Plant(model, 1, timestep_s=0.001, nthread=1)
    plant.set({"actuator/shoulder_pan/backlash": np.array([0.2])})
    plant.reset(pose[None], np.zeros((1, 6)))
    plant.qpos[0, model.qpos_index[0]] += 0.15  # the encoder has moved by 0.05, so the servo pulls back by that alone
    plant.advance(pose[None], 1)
    assert plant.effort[0, 0] == pytest.approx(-17.8 * 0.05, rel=1e-3)


# ---- torque motors, voltage motors


def test_a_torque_motor_runs_out_of_torque_at_its_no_load_speed_but_brakes_fully(pendulum: RobotConfig) -> None:
    model = Model(pendulum)
    for v, expected in ((0.0, 1.0), (4.0, 0.9), (8.0, 0.3), (11.0, 0.0), (-8.0, 1.0)):
        plant = controls(model, {"motor/shoulder/no_load_speed": 10.0}, 1.0, 0.0, v)[1]
        assert plant.effort[0, 0] == pytest.approx(expected, abs=1e-12), v


def test_a_voltage_motor_follows_its_constants() -> None:
    model = Model(find_robot("motor_bench"))
    kt, ohms, v = 0.01, 2.0, 5.0
    values = {"motor/motor/torque_constant": kt, "motor/motor/resistance": ohms}
    assert controls(model, values, 0.4, 0.0, v)[1].effort[0, 0] == pytest.approx(kt / ohms * (0.4 - kt * v))
    weak = controls(model, {"supply/bus/voltage": 0.5}, 0.4, 0.0)[1]
    assert weak.effort[0, 0] == pytest.approx(0.00706 * 0.2)


# ---- friction in the plant


def test_load_dependent_friction_in_the_plant_is_bams_m3(servo: Model) -> None:
    """The weight hangs at an angle and the servo holds it: the teeth bear both torques."""
    values = friction("xl330", 3, ["servo"], back_emf=XL.back_emf)
    q, goal = 0.6, 0.7
    _, plant = controls(servo, values, goal, q)
    motor, load = 0.830949 * (goal - q), -0.49 * 9.81 * 0.1 * math.sin(q)
    level = plant.batch.expand("dof_frictionloss")[0, 0]
    assert level == pytest.approx(0.008882 + 0.121665 * abs(motor - load), rel=1e-3)


def test_friction_that_grows_with_the_load_holds_what_coulomb_friction_lets_go(servo: Model) -> None:
    weight = {"actuator/servo/torque_limit": np.zeros(2)}  # the motor is off
    values = weight | {
        "joint/servo/frictionloss": np.full(2, 0.2 * 0.49 * 9.81 * 0.1),
        "joint/servo/damping": np.zeros(2),
        "joint/servo/load_friction": np.array([0.0, 0.95]),
    }
    end = run(servo, values, np.zeros((40, 1)), start=0.8)[:, -1, 0]
    assert end[0] < 0.3 and end[1] > 0.78


def test_stribeck_friction_with_the_motors_off_slides_to_the_same_place_for_one_and_many(servo: Model) -> None:
    values = friction("xl330", 2, ["servo"], back_emf=XL.back_emf)
    one = run(servo, {k: np.array([v]) for k, v in values.items()}, np.full((60, 1), 0.4))
    many = run(servo, {k: np.full(9, v) for k, v in values.items()}, np.full((60, 1), 0.4))
    np.testing.assert_array_equal(np.tile(one, (9, 1, 1)), many)


# ---- one and many, driver and batch


def effects(robot: str) -> dict[str, float]:
    """Every effect at once that a robot can have."""
    model = Model(find_robot(robot))
    names = [a.name for a in model.spec.actuators]
    values = {f"actuator/{a}/gain": 0.9 for a in names if model.spec.actuators[0].kind != "dcmotor"}
    if robot in ("so101", "servo_bench"):
        servo = SERVOS[model.robot.model.servo]
        values |= firmware(servo, names) | {"supply/bus/resistance": 0.4, f"actuator/{names[0]}/backlash": 0.01}
        values |= {f"actuator/{names[-1]}/acceleration_ceiling": 30.0}
    joint = model.spec.joint_names[0]
    values |= {f"joint/{joint}/{q}": v for q, v in (("motor_friction", 0.1), ("stribeck_friction", 0.01))}
    return values | {"timing/command/delay": 0.004, "timing/command/lag": 0.01}


def commands_for(model: Model, periods: int) -> Array:
    wave = np.sin(0.2 * np.arange(periods))[:, None] * np.linspace(0.5, 1.0, len(model.spec.joints))
    kinds = {a.kind for a in model.spec.actuators}
    return model.spec.default_pose + 0.2 * wave if kinds == {"position_pd"} else 0.8 * wave


@pytest.mark.parametrize("robot", ROBOTS)
def test_a_simulation_is_the_same_alone_and_among_others_with_and_without_effects(robot: str) -> None:
    model = Model(find_robot(robot))
    values, commands = effects(robot), commands_for(model, 25)
    values |= {"timing/command/jitter": 0.008, "timing/command/drop": 0.2}
    rng = np.random.default_rng(0)
    spread = {k: v * rng.uniform(0.5, 1.0, 7) for k, v in values.items()}
    spread = {k: np.concatenate([[v], [model.nominal(k)], spread[k]]) for k, v in values.items()}
    many = run(model, spread, commands)
    np.testing.assert_array_equal(run(model, {k: np.array([v]) for k, v in values.items()}, commands)[0], many[0])
    nominal = run(model, {"timing/command/delay": np.zeros(2)}, commands)
    np.testing.assert_array_equal(nominal[1], many[1], err_msg="one without effects, among others that have them")
    assert np.isfinite(many).all() and np.abs(many[0] - many[1]).max() > 1e-3


@pytest.mark.parametrize("robot", ROBOTS)
def test_the_driver_is_the_plant_bit_by_bit_where_both_take_the_same_steps(robot: str) -> None:
    config = find_robot(robot)
    model, values = Model(config), effects(robot)
    law = Randomization(name="all", terms=tuple(Term(targets=(k,), law=Point(values=(v,))) for k, v in values.items()))
    driver = SimDriver(config, law)
    plant = Plant(model, 1, timestep_s=0.001, nthread=1)
    plant.set({k: np.array([v]) for k, v in values.items()})
    plant.reset(model.spec.default_pose[None], np.zeros((1, len(model.spec.joints))), poses=driver._home)
    gains = {q: np.zeros(len(model.spec.joints)) for q in ("kp", "kd")}
    for j, a in zip(model.spec.driven, model.spec.actuators, strict=True):
        if a.kind == "position_pd":
            gains["kp"][j], gains["kd"][j] = a.kp, a.kd
    limit = np.where(model.spec.effort_limits > 0, model.spec.effort_limits, np.inf)
    volts = 1.0 / 0.00706 if robot == "motor_bench" else 1.0
    period = round(model.spec.control_period_s * 1e9)
    for k, command in enumerate(commands_for(model, 25)):
        driver.wait(k * period)
        np.testing.assert_array_equal(driver._plant.position, plant.position, err_msg=f"period {k}")
        np.testing.assert_array_equal(driver._plant.velocity, plant.velocity)
        if gains["kp"].any():
            position, effort, wanted = command, np.zeros_like(command), command
        else:
            effort = np.clip(0.5 * command / volts, -limit, limit)
            position, wanted = np.zeros_like(command), effort * volts
        driver.write(
            JointCommand(
                names=model.spec.joint_names, t_ns=0, position=position, velocity=np.zeros_like(command),
                effort=effort, **gains,
            )
        )  # fmt: skip
        plant.step(wanted[None])


def test_counts_are_those_of_a_twelve_bit_encoder() -> None:
    np.testing.assert_allclose(4096 * COUNT, 2 * math.pi)
    assert firmware(XL, ["servo"]) == {
        "actuator/servo/encoder_step": COUNT, "actuator/servo/dead_zone": 0.0,
        "actuator/servo/torque_limit": XL.stall_torque,
    }  # fmt: skip
