"""Torque, position and velocity as actions: what each asks of the motors, in the batch and behind the driver."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from robot.config import ConfigError
from robot.observation import ActionConfig, Observation
from robot.safety import Limits
from robot.state import JointCommand
from sim.driver import SimDriver
from sim.model import RobotConfig, find_robot
from sim.randomization import NOMINAL
from sim.state import Start
from sim.tasks import load_task
from sim.vecenv import BatchedEnv

ONE = ("shoulder",)
HOLD = ActionConfig(kind="position", actuators=ONE, scale=(3.0,), kp=(20.0,), kd=(1.0,))
SPIN = ActionConfig(kind="velocity", actuators=ONE, scale=(10.0,), kd=(0.5,))


@pytest.fixture(scope="module")
def pendulum() -> RobotConfig:
    return find_robot("simple_pendulum")


def env(robot: RobotConfig, action: ActionConfig, name: str = "pendulum_swingup") -> BatchedEnv:
    return BatchedEnv(replace(load_task(name), action=action), robot, NOMINAL, 1, start="evaluate", nthread=1)


def at(found: BatchedEnv, angle: float, speed: float) -> None:
    found.reset(start=Start(np.array([[angle]]), np.array([[speed]])))


def test_a_torque_motor_holds_a_position_with_the_actions_gains(pendulum: RobotConfig) -> None:
    """Where kp (target - angle) is what gravity asks for."""
    found = env(pendulum, HOLD)
    at(found, 0.0, 0.0)
    for _ in range(300):
        found.step(np.array([[0.2 / 3.0]]))
    angle, torque = found.state.position[0, 0], found.state.effort[0, 0]
    assert torque == pytest.approx(20.0 * (0.2 - angle), abs=0.05) and 0.05 < angle < 0.2
    assert abs(found.state.velocity[0, 0]) < 0.05


def test_a_torque_motor_holds_a_velocity_within_its_torque_limit(pendulum: RobotConfig) -> None:
    found = env(pendulum, SPIN)
    at(found, 0.0, 0.0)
    found.step(np.array([[1.0]]))
    assert found.state.effort[0, 0] == pytest.approx(1.5), "0.5 x 10 rad/s is cut at the limit"
    at(found, 0.0, 2.0)
    found.step(np.array([[0.2]]))
    assert found.state.effort[0, 0] == pytest.approx(0.5 * (2.0 - found.state.velocity[0, 0]), abs=0.05)


@pytest.mark.parametrize("action", [HOLD, SPIN], ids=["position", "velocity"])
def test_the_driver_does_what_the_batch_did(pendulum: RobotConfig, action: ActionConfig) -> None:
    """The same actions through decode, to_command, the safety limits and the simulated driver."""
    found, driver = env(pendulum, action), SimDriver(pendulum, start=(0.0,))
    at(found, 0.0, 0.0)  # where the first target is, so that no torque is asked for beyond the limits of its rate
    layout = Observation(pendulum.spec, found.observation.config, action)
    limits, period = Limits(pendulum.spec, 0.01), 10_000_000
    for k in range(60):
        output = np.array([[0.12 * np.sin(0.2 * k)]])
        found.step(output)
        joints = driver.read(0.0).joints
        command, _ = limits.apply(layout.to_command(layout.decode(output)[0], driver.now_ns()), joints)
        driver.write(command)
        driver.wait(driver.now_ns() + period)
    last = driver.read(0.0).joints
    np.testing.assert_allclose(last.position, found.state.position[0], atol=0.02)
    np.testing.assert_allclose(last.velocity, found.state.velocity[0], atol=0.15)


def test_a_velocity_command_is_clipped_at_the_joints_limit_and_carries_no_stiffness(pendulum: RobotConfig) -> None:
    fast = replace(SPIN, scale=(100.0,))
    layout = Observation(pendulum.spec, load_task("pendulum_swingup").observation, fast)
    command = layout.to_command(layout.decode(np.array([[1.0]]))[0], 5)
    assert isinstance(command, JointCommand) and command.velocity == pytest.approx(20.0)
    assert (command.kp, command.kd, command.effort) == (0.0, 0.5, 0.0)


def test_the_passive_joint_of_a_pendubot_stays_passive_under_position_actions() -> None:
    robot = find_robot("double_pendulum_c1")
    found = env(robot, replace(HOLD, scale=(1.0,)), "pendubot_swingup")
    found.reset()
    for _ in range(20):
        found.step(np.array([[0.5]]))
    assert found.state.effort[0, 1] == 0.0 < abs(found.state.effort[0, 0])
    command = found.observation.to_command(found.state.command[0], 0)
    assert command.kp[1] == command.kd[1] == 0.0


@pytest.mark.parametrize(
    ("task", "action", "words"),
    [
        ("pendulum_swingup", replace(HOLD, kp=()), r"a torque motor that needs kp above 0 for this: give action\.kp"),
        ("pendulum_swingup", replace(SPIN, kd=()), r"needs kd above 0 for this: give action\.kd"),
        ("arm_reach", ActionConfig(actuators=("elbow_flex",), scale=(1.0,)), "of kind position_pd and takes position"),
        (
            "arm_reach",
            ActionConfig(kind="velocity", actuators=("elbow_flex",), scale=(1.0,), kd=(1.0,)),
            "sends velocity to actuator 'elbow_flex' of robot 'so101', which is of kind position_pd",
        ),
        (
            "arm_reach",
            ActionConfig(kind="position", actuators=("elbow_flex",), scale=(1.0,), kp=(3.0,)),
            r"whose own loop has kp 17\.8 and kd 0: leave action\.kp and action\.kd out",
        ),
    ],
)
def test_what_an_actuator_cannot_do_is_refused(task: str, action: ActionConfig, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        env(find_robot(load_task(task).robot), action, task)


def test_gains_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ConfigError, match="torques need no gains"):
        ActionConfig(actuators=ONE, scale=(1.0,), kp=(1.0,))
    with pytest.raises(ConfigError, match=r"action\.kd is \[1\.0, 2\.0\]; it needs one value"):
        ActionConfig(kind="velocity", actuators=ONE, scale=(1.0,), kd=(1.0, 2.0))
