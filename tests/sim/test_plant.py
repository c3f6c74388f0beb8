"""The physics under everything: parameters reach it, stay apart per simulation, and come back to the nominal."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import mujoco
import numpy as np
import numpy.typing as npt
import pytest

from robot.config import ConfigError
from sim.model import Model, RobotConfig, SimConfig
from sim.plant import Plant

Array = npt.NDArray[np.float64]


def swing(plant: Plant, start: float = 0.6, steps: int = 30) -> Array:
    """(nsim, n_joints) where everything has swung to from rest at `start` [rad]."""
    n, joints = plant.nsim, len(plant.spec.joints)
    plant.reset(np.full((n, joints), start), np.zeros((n, joints)))
    for _ in range(steps):
        plant.step(np.zeros((n, joints)))
    return plant.position


def test_a_target_that_is_no_longer_named_is_at_its_nominal_again(double_pendulum: RobotConfig) -> None:
    model = Model(double_pendulum)
    plant = Plant(model, 1, nthread=1)
    before = swing(plant)
    changed = {
        "body/upper/mass": 0.8,
        "body/lower/com": 0.2,
        "body/lower/inertia": 0.01,
        "motor/elbow/rotor_inertia": 2e-4,
        "joint/elbow/damping": 0.05,
        "joint/shoulder/frictionloss": 0.2,
        "joint/shoulder/stribeck_ratio": 2.0,
        "world/gravity/gravity": 5.0,
        "actuator/shoulder/bias": 0.3,
        "timing/command/delay": 0.02,
    }
    plant.set({name: np.array([value]) for name, value in changed.items()})
    assert np.abs(swing(plant) - before).max() > 0.05
    plant.set({})
    np.testing.assert_array_equal(swing(plant), before)


def test_setting_does_not_depend_on_what_was_set_before(pendulum: RobotConfig) -> None:
    """The inertia follows a scaled mass, whether or not an earlier draw had named the inertia."""
    fresh, used = Plant(Model(pendulum), 1, nthread=1), Plant(Model(pendulum), 1, nthread=1)
    used.set({"body/pendulum/inertia": np.array([0.05]), "body/pendulum/mass": np.array([0.3])})
    for plant in (fresh, used):
        plant.set({"body/pendulum/mass": np.array([0.9])})
    np.testing.assert_array_equal(fresh.batch.expand("body_inertia")[:, 1], used.batch.expand("body_inertia")[:, 1])
    np.testing.assert_array_equal(swing(fresh), swing(used))


def test_only_the_named_simulations_change(double_pendulum: RobotConfig) -> None:
    plant = Plant(Model(double_pendulum), 4, nthread=1)
    before = swing(plant)
    ids = np.array([3, 1])  # in any order
    plant.set({"body/lower/mass": np.array([0.9, 0.4])}, ids)
    after = swing(plant)
    np.testing.assert_array_equal(after[[0, 2]], before[[0, 2]])
    assert np.abs(after[[1, 3]] - before[[1, 3]]).min() > 1e-3
    swapped = Plant(Model(double_pendulum), 4, nthread=1)
    swapped.set({"body/lower/mass": np.array([0.4, 0.9])}, np.array([1, 3]))
    np.testing.assert_array_equal(swing(swapped), after)


def test_constants_derived_from_masses_are_those_of_a_model_compiled_with_them(double_pendulum: RobotConfig) -> None:
    model = Model(double_pendulum)
    plant = Plant(model, 1, nthread=1)
    values = {"body/upper/mass": 0.9, "body/lower/com": 0.2, "body/lower/inertia": 0.02}
    plant.set({name: np.array([value]) for name, value in values.items()})
    xml = Path(__file__).parents[2] / "sim" / "models" / "double_pendulum.xml"
    spec = mujoco.MjSpec.from_file(str(xml))
    spec.body("upper").mass = 0.9
    spec.body("lower").ipos, spec.body("lower").inertia = [0, 0, -0.2], [0.02] * 3
    compiled = spec.compile()
    compiled.tendon_armature[:] = 6.07e-5
    compiled.dof_armature[0] = 36 * 6.07e-5
    mujoco.mj_setConst(compiled, mujoco.MjData(compiled))
    found = plant.batch.get_model(0)
    for name in ("dof_M0", "dof_invweight0", "body_subtreemass", "body_invweight0"):
        np.testing.assert_allclose(getattr(found, name), getattr(compiled, name), rtol=1e-9, err_msg=name)


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("body/pendulum/mass", -1.0, "outside its valid range"),
        ("body/pendulum/mass", np.nan, "outside its valid range"),
        ("body/pendulum/massa", 1.0, "Did you mean 'body/<name>/mass'"),
        ("body/arm/mass", 1.0, "has no body 'arm'.*Did you mean 'body/pendulum/mass'"),
        ("joint/elbow/damping", 1.0, "has no joint 'elbow'"),
        ("timing/command/delay", 0.3, "longest simulated"),
    ],
)
def test_a_wrong_target_or_value_is_an_error_that_names_it(
    pendulum: RobotConfig, name: str, value: float, words: str
) -> None:
    plant = Plant(Model(pendulum), 1, nthread=1)
    with pytest.raises(ConfigError, match=words):
        plant.set({name: np.array([value])})


def test_a_wrong_target_among_the_robots_own_parameters_is_refused_when_it_is_loaded(pendulum: RobotConfig) -> None:
    for parameters, words in (
        ({"joint/elbow/damping": 1.0}, "no joint 'elbow'"),
        ({"body/pendulum/mass": -1}, "range"),
    ):
        wrong = dataclasses.replace(pendulum, model=dataclasses.replace(pendulum.model, parameters=parameters))
        with pytest.raises(ConfigError, match=words):
            Model(wrong)


def test_stiction_holds_what_coulomb_friction_can_hold(pendulum: RobotConfig) -> None:
    plant = Plant(Model(pendulum), 3, nthread=1)
    weight = 0.6755 * 9.81 * 0.5 * np.sin(0.1)
    plant.set({"joint/shoulder/frictionloss": weight * np.array([0.0, 0.9, 1.1])})
    moved = 0.1 - swing(plant, start=0.1)[:, 0]
    assert moved[0] > 0.05 and moved[1] > 1e-3 and moved[2] < 1e-3


def test_stribeck_friction_breaks_away_later_than_it_slides(pendulum: RobotConfig) -> None:
    plant = Plant(Model(pendulum), 2, nthread=1)
    plant.set({"joint/shoulder/frictionloss": np.full(2, 0.2), "joint/shoulder/stribeck_ratio": np.array([1.0, 1.5])})
    plant.reset(np.zeros((2, 1)), np.zeros((2, 1)))
    for _ in range(20):
        plant.step(np.full((2, 1), 0.25))  # between Coulomb 0.2 and breakaway 0.3 N m
    assert plant.position[0, 0] > 5 * plant.position[1, 0]


def test_gain_and_bias_act_on_the_torque_that_the_motor_gives(pendulum: RobotConfig) -> None:
    plant = Plant(Model(pendulum), 2, nthread=1)
    plant.set({"actuator/shoulder/gain": np.array([0.8, 1.0]), "actuator/shoulder/bias": np.array([0.1, 0.0])})
    plant.reset(np.zeros((2, 1)), np.zeros((2, 1)))
    plant.step(np.array([[0.5], [0.5]]))
    np.testing.assert_allclose(plant.effort[:, 0], [0.5, 0.5])
    np.testing.assert_allclose(plant.position[0], plant.position[1])
    plant.step(np.array([[9.0], [9.0]]))  # the command is clipped to 1.5 N m before the gain
    np.testing.assert_allclose(plant.effort[:, 0], [1.3, 1.5])


def test_physics_steps_recorded_one_by_one_are_those_of_whole_periods(double_pendulum: RobotConfig) -> None:
    torque = np.random.default_rng(0).uniform(-3, 3, (5, 4, 2))
    plants = [Plant(Model(double_pendulum), 4, nthread=1) for _ in range(2)]
    for plant in plants:
        plant.set({"timing/command/delay": np.full(4, 0.013), "timing/command/lag": np.full(4, 0.01)})
        plant.reset(np.full((4, 2), 0.3), np.zeros((4, 2)))
    for u in torque:
        plants[0].step(u)
        trace = plants[1].step(u, record=True)
        assert trace is not None
        np.testing.assert_array_equal(plants[0].position, trace[0][:, -1])
        np.testing.assert_array_equal(plants[0].velocity, trace[1][:, -1])


def test_a_period_that_is_no_multiple_of_the_physics_step_is_refused(pendulum: RobotConfig) -> None:
    with pytest.raises(ConfigError, match="not a multiple"):
        Plant(Model(pendulum), 1, timestep_s=0.003)


TWO_JOINTS = """<mujoco><compiler inertiafromgeom="false"/><option><flag contact="disable"/></option><worldbody>
<body name="a"><joint name="first" axis="0 1 0"/><inertial pos="0 0 -1" mass="1" diaginertia="1 1 1"/>
<body name="b" pos="0 0 -1"><joint name="second" axis="0 1 0"/><inertial pos="0 0 -1" mass="1" diaginertia="1 1 1"/>
</body></body></worldbody>
<actuator><motor name="pull" joint="second"/><motor name="push" joint="first"/>
<motor name="unused" joint="first"/></actuator></mujoco>"""


def test_joint_and_actuator_order_is_the_specs_whatever_the_mjcf_says(
    tmp_path: Path, double_pendulum: RobotConfig
) -> None:
    path = tmp_path / "two.xml"
    path.write_text(TWO_JOINTS)
    spec = double_pendulum.spec
    found = []
    for order in ((0, 1), (1, 0)):
        names = [("first", "push"), ("second", "pull")]
        joints = tuple(dataclasses.replace(spec.joints[0], name=names[i][0]) for i in order)
        actuators = tuple(dataclasses.replace(spec.actuators[0], name=names[i][1], joint=names[i][0]) for i in order)
        robot = RobotConfig(
            spec=dataclasses.replace(spec, joints=joints, actuators=actuators), model=SimConfig(mjcf=str(path))
        )
        plant = Plant(Model(robot), 1, nthread=1)
        plant.set({"actuator/pull/gain": np.array([0.5])})
        index = list(order)
        plant.reset(np.array([[0.1, 0.2]])[:, index], np.zeros((1, 2)))
        plant.step(np.array([[3.0, -1.0]])[:, index])
        found.append(np.array([plant.position, plant.velocity, plant.effort])[..., np.argsort(index)])
    np.testing.assert_allclose(found[0], found[1], rtol=1e-12)


def test_a_joint_actuator_or_file_that_the_mjcf_lacks_is_refused_by_name(pendulum: RobotConfig) -> None:
    spec = pendulum.spec
    joint = dataclasses.replace(spec.joints[0], name="shoulders")
    actuator = dataclasses.replace(spec.actuators[0], joint="shoulders")
    for changed, words in (
        ({"joints": (joint,), "actuators": (actuator,)}, "joint 'shoulders' is not in .*Did you mean 'shoulder'"),
        ({"actuators": (dataclasses.replace(spec.actuators[0], name="motor"),)}, "actuator 'motor' is not in"),
    ):
        with pytest.raises(ConfigError, match=words):
            Model(dataclasses.replace(pendulum, spec=dataclasses.replace(spec, **changed)))
    with pytest.raises(ConfigError, match="does not exist"):
        Model(dataclasses.replace(pendulum, model=SimConfig(mjcf="nowhere.xml")))
