"""State: what n simulations look like to a task; Start: where an episode begins.

Both hold the simulator's truth. What a policy sees is robot/observation.py, from sensor readings.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from sim.model import Model

Array = npt.NDArray[np.float64]
NONE = np.zeros((0, 0))


@dataclass(slots=True)
class State:
    """n simulations at the end of a control step; every array has n rows and is only read."""

    position: Array
    """(n, n_joints) [rad], in the RobotSpec's order, as everything with a column a joint."""
    velocity: Array
    """(n, n_joints) [rad/s]."""
    command: Array = field(default_factory=lambda: NONE)
    """(n, n_joints) the command of this step, in the unit of each joint's actuator; 0 on undriven joints."""
    previous_command: Array = field(default_factory=lambda: NONE)
    """(n, n_joints) the command of the step before."""
    action: Array = field(default_factory=lambda: NONE)
    """(n, n_actions) the policy's outputs, in [-1, 1]."""
    previous_action: Array = field(default_factory=lambda: NONE)
    earlier_action: Array = field(default_factory=lambda: NONE)
    """(n, n_actions) the outputs two steps ago; 0 before the episode began, as previous_action."""
    goal: Array = field(default_factory=lambda: NONE)
    """(n, n_goal) as Task.observation.goal names it."""
    effort: Array = field(default_factory=lambda: NONE)
    """(n, n_joints) torque that the motors give [N m]."""
    qpos: Array = field(default_factory=lambda: NONE)
    """(n, nq) all of MuJoCo's positions: free bodies too."""
    qvel: Array = field(default_factory=lambda: NONE)
    """(n, nv)"""
    fields: Mapping[str, Array] = field(default_factory=dict)
    """The MjData fields that the task asked for, as mj_step leaves them: of one physics step ago."""
    fields_before: Mapping[str, Array] = field(default_factory=dict)
    """`fields` at the beginning of the step; kept for tasks with `keeps_before`."""
    age: npt.NDArray[np.int64] = field(default_factory=lambda: np.zeros(0, np.int64))
    """(n,) control steps of the episode so far, this one included; 0 before the first."""
    model: Model | None = None

    def site(self, name: str) -> Array:
        """(n, 3) position of a site in the world [m]; needs the field `site_xpos`."""
        assert self.model is not None
        return self.fields["site_xpos"][:, self.model.mj.site(name).id]

    def sensor(self, name: str) -> Array:
        """(n, k) a sensor of the MJCF; needs the field `sensordata`."""
        assert self.model is not None
        sensor = self.model.mj.sensor(name)
        start = int(sensor.adr[0])
        return self.fields["sensordata"][:, start : start + int(sensor.dim[0])]

    def pose(self, free_joint: str) -> Array:
        """(n, 7) of a free joint: position [m] and quaternion w x y z."""
        assert self.model is not None
        start = int(self.model.mj.joint(free_joint).qposadr[0])
        return self.qpos[:, start : start + 7]

    def twist(self, free_joint: str) -> Array:
        """(n, 6) of a free joint: velocity in the world [m/s], angular velocity in the body [rad/s]."""
        assert self.model is not None
        start = int(self.model.mj.joint(free_joint).dofadr[0])
        return self.qvel[:, start : start + 6]


@dataclass(frozen=True, slots=True)
class Start:
    """Where n episodes begin, and what is asked of them."""

    position: Array
    """(n, n_joints) [rad]"""
    velocity: Array
    """(n, n_joints) [rad/s]"""
    goal: Array | None = None
    """(n, n_goal), None for a task without a goal."""
    poses: Mapping[str, Array] = field(default_factory=dict)
    """Free joint -> (n, 7) position [m] and unit quaternion w x y z; one not named starts as the model has it."""
    twists: Mapping[str, Array] = field(default_factory=dict)
    """Free joint -> (n, 6) velocity [m/s] in the world, angular velocity [rad/s] in the body; default at rest."""
