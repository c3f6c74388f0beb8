"""How configuration shapes a task: another kind of action, costs, cameras; and the task as it was for what exists."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from robot import config
from robot.config import ConfigError
from robot.observation import ActionConfig, ObservationConfig
from robot.spec import RobotSpec
from sim import drive, symmetry
from sim.model import Model, RobotConfig
from sim.tasks import Task

if TYPE_CHECKING:
    from policies.card import PolicyCard
    from policies.symmetry import Symmetry


class Made(Protocol):
    """A policy, or a bundle."""

    @property
    def observation(self) -> ObservationConfig: ...
    @property
    def action(self) -> ActionConfig: ...


def as_made(task: Task, made: Made) -> Task:
    """The task with the observation and the actions of what was made for it."""
    return replace(task, observation=made.observation, action=made.action)


def shaped(task: Task, spec: RobotSpec, action: Mapping[str, Any], costs: Mapping[str, float]) -> Task:
    """The task with some fields of its action changed, and with costs; ConfigError where an actuator cannot do it.

    With another kind and no scale, an output of 1 asks for as much as the robot has: its torque limit, its velocity
    limit, or the farther end of its travel (half a turn, where it turns for ever).
    """
    if action:
        data = config.to_plain(task.action) | dict(action)
        if data["kind"] != task.action.kind and "scale" not in action:
            data["scale"] = list(_full(data["kind"], spec, data["actuators"]))
        task = replace(task, action=config.convert(ActionConfig, data, "terrafirma train", "action"))
    drive.check_action(task.action, spec, task.name)
    return replace(task, costs=dict(costs)) if costs else task


def _full(kind: str, spec: RobotSpec, actuators: Sequence[str]) -> list[float]:
    """Scale of each actuator with which an output of 1 asks for all that there is."""
    found = []
    for name in actuators:
        actuator = next((a for a in spec.actuators if a.name == name), None)
        if actuator is None:
            raise ConfigError(
                f"action drives actuator '{name}'. {config.nearest(name, [a.name for a in spec.actuators])}"
            )
        joint = spec.joints[spec.joint_names.index(actuator.joint)]
        travel = max(abs(limit - joint.default_position) for limit in joint.position_limits)
        position = travel if np.isfinite(travel) else float(np.pi)
        found.append({"effort": actuator.effort_limit, "velocity": joint.velocity_limit}.get(kind, position))
    return found


def symmetry_of(task: Task, robot: RobotConfig, card: PolicyCard) -> Symmetry:
    """The mirror images that belong to a policy; ConfigError where task or robot have none."""
    from policies.symmetry import Reflection, Symmetry

    if task.mirror is None:
        raise ConfigError(f"symmetry: task '{task.name}' says no mirror; it has no symmetry, or nobody has told it.")
    if card.vision is not None and card.network.sight == "features":
        raise ConfigError(
            "symmetry: what an encoder's features become in a mirror is not known; use network.sight=state."
        )
    model, states = Model(robot), () if card.vision is None else card.vision.states
    actuators = [f"previous_action/{a}" for a in task.action.actuators]
    tables = [
        symmetry.table(names, model, task.mirror)
        for names in ((*card.layout().components, *states, *card.privileged), actuators, task.privileged_names)
    ]
    shown, action, privileged = (Reflection(index=index, sign=sign) for index, sign in tables)
    scale = np.array(task.action.scale)
    if not np.array_equal(scale[list(action.index)], scale):
        raise ConfigError(f"symmetry: action.scale of task '{task.name}' differs between the two sides.")
    return Symmetry(shown=shown, action=action, privileged=privileged)
