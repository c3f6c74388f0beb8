"""Costs that can be laid on any task by configuration: of effort, energy, and of actions that jump.

    terrafirma train task=arm_reach reward={action_rate: 0.01, energy: 0.005}

Each is a share of what the robot can do at all, between 0 and 1, and enters the reward as weight x (1 - cost): never
below 0, so that ending an episode early is no gain. Their sums stand in the learning curve as term/cost/<name>.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
import numpy.typing as npt

from robot.config import ConfigError, nearest
from robot.observation import ActionConfig
from robot.spec import RobotSpec
from sim.state import State

Array = npt.NDArray[np.float64]


class Costs:
    """The costs of one task on one robot."""

    def __init__(self, weights: Mapping[str, float], spec: RobotSpec, action: ActionConfig) -> None:
        """ConfigError for a cost that does not exist, or a weight below 0."""
        for name, weight in weights.items():
            if name not in COSTS:
                raise ConfigError(f"reward.{name} is no cost. {nearest(name, list(COSTS))}")
            if not weight >= 0.0:
                raise ConfigError(f"reward.{name} is {weight}; a weight is at least 0.")
        driven = [j for j, a in zip(spec.driven, spec.actuators, strict=True) if a.name in action.actuators]
        self.driven = np.array(driven, dtype=np.intp)
        self.effort = spec.effort_limits[self.driven]
        self.speed = np.array([spec.joints[j].velocity_limit for j in driven])
        self._weights = {name: weight for name, weight in weights.items() if weight}

    def terms(self, state: State) -> dict[str, Array]:
        """cost/<name> -> (n,) its share of the reward."""
        return {f"cost/{k}": w * (1.0 - np.minimum(COSTS[k](self, state), 1.0)) for k, w in self._weights.items()}


def _action_rate(costs: Costs, state: State) -> Array:
    """Change of the outputs; 1 where all of them jump from end to end."""
    return np.square(0.5 * (state.action - state.previous_action)).mean(axis=1)


def _smoothness(costs: Costs, state: State) -> Array:
    """Second difference of the outputs; 1 where all of them jump to and fro."""
    bend = state.action - 2.0 * state.previous_action + state.earlier_action
    return np.square(0.25 * bend).mean(axis=1)


def _torque(costs: Costs, state: State) -> Array:
    """Mean square of the torques as shares of their limits."""
    return np.square(state.effort[:, costs.driven] / costs.effort).mean(axis=1)


def _energy(costs: Costs, state: State) -> Array:
    """Mechanical power without recuperation, as a share of full torque at full speed."""
    power = np.abs(state.effort[:, costs.driven] * state.velocity[:, costs.driven])
    return (power / (costs.effort * costs.speed)).mean(axis=1)


COSTS: dict[str, Callable[[Costs, State], Array]] = {
    "action_rate": _action_rate,
    "smoothness": _smoothness,
    "torque": _torque,
    "energy": _energy,
}
"""name -> (n,) cost."""
