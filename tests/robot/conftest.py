"""Robots, bundles and drivers that the onboard tests share."""

from __future__ import annotations

import pytest

from robot.spec import ActuatorSpec, CameraSpec, JointSpec, RobotSpec, SensorSpec


@pytest.fixture
def two_link() -> RobotSpec:
    """Two driven joints, the second with finite travel, no IMU, one small camera."""
    return RobotSpec(
        name="two_link",
        joints=(
            JointSpec(name="shoulder", velocity_limit=10.0),
            JointSpec(name="elbow", velocity_limit=10.0, position_limits=(-2.0, 2.0), default_position=0.5),
        ),
        actuators=(
            ActuatorSpec(name="shoulder", joint="shoulder", effort_limit=2.0, effort_rate_limit=100.0),
            ActuatorSpec(name="elbow", joint="elbow", effort_limit=1.0, effort_rate_limit=100.0),
        ),
        sensors=(
            SensorSpec(signal="joint.position"),
            SensorSpec(signal="joint.velocity"),
            SensorSpec(signal="joint.effort"),
        ),
        cameras=(CameraSpec(name="side", width=16, height=12),),
        control_period_s=0.01,
        watchdog_s=0.05,
    )
