"""A linear-quadratic hold of a task's unstable pose: gains from the simulator, its region by simulation.

The simulator is linearized at the pose over one control period, without delay and dry friction; the discrete algebraic
Riccati equation gives gain and cost. The region is the largest level set of that cost from which the saturated feedback
came to rest from every one of STARTS random states on it.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import numpy.typing as npt
import torch
from scipy.linalg import solve_discrete_are

from policies.hold import Hold, HoldCard
from robot.config import ConfigError
from robot.observation import Observation, ObservationConfig
from sim.arranged import Arranged
from sim.model import Model, RobotConfig
from sim.plant import Plant
from sim.randomization import Randomization
from sim.state import Start
from sim.tasks import Task
from sim.vecenv import BatchedEnv

Array = npt.NDArray[np.float64]

STEP = 1e-4
"""Of the finite differences [rad], [rad/s], and of the action."""
STARTS, SECONDS, HALVINGS = 128, 2.0, 12
LEVELS = (1e-3, 1e3)
"""Between which the region's cost is looked for."""
PERFECT = ("sensor/joint.velocity/noise", "sensor/joint.velocity/resolution", "sensor/joint.position/resolution")
DISTURBING = ("/frictionloss", "/push", "/push_rate", "/delay", "/lag")
"""Targets that are left out."""
REST = 1e-2
"""Share of the region's cost below which it has come to rest."""


def hold_of(task: Task, robot: RobotConfig, law: Randomization, observation: ObservationConfig) -> HoldCard:
    """The hold of task.pose for a policy with this observation, at the middle of `law`.

    ConfigError when the task has no pose to hold, or the observation tells no angles and rates.
    """
    if not task.pose:
        raise ConfigError(f"task '{task.name}' has no pose to hold: give network.hold=false.")
    model = Model(robot)
    values = {k: v for k, v in law.center(model).items() if not k.endswith(DISTURBING)}
    a, b = linearized(task, model, values)
    weights = 1.0 / np.square(np.concatenate([task.pose_within, task.pose_speed]))
    value = solve_discrete_are(a, b, np.diag(weights), np.eye(b.shape[1]))
    gain = np.linalg.solve(np.eye(b.shape[1]) + b.T @ value @ b, b.T @ value @ a)
    exact = HoldCard(
        joints=robot.spec.joint_names,
        actuators=task.action.actuators,
        rates="velocity",
        pose=task.pose,
        estimate=_rows(estimate(a, b, "velocity")),
        gain=_rows(gain),
        value=_rows(value),
        region=0.0,
    )
    rates = "change" if "joint_change" in observation.features else "velocity"
    return replace(
        exact, rates=rates, estimate=_rows(estimate(a, b, rates)), region=region(exact, task, robot, values)
    )


def linearized(task: Task, model: Model, values: dict[str, Array]) -> tuple[Array, Array]:
    """A (2 n, 2 n) and B (2 n, A) of one control period about rest in task.pose, by central differences."""
    n, actions = len(task.pose), len(task.action.actuators)
    size = 2 * n + actions
    change = np.concatenate([np.eye(size), -np.eye(size)]) * STEP
    plant = Plant(model, 2 * size, period_s=task.control_period_s, nthread=1)
    plant.set({k: np.repeat(v, 2 * size) for k, v in values.items()})
    plant.reset(np.array(task.pose) + change[:, :n], change[:, n : 2 * n])
    command = Observation(model.spec, task.observation, task.action, 2 * size).decode(change[:, 2 * n :])
    plant.advance(command, plant.substeps)
    after = np.concatenate([plant.position, plant.velocity], axis=1)
    slope = (after[:size] - after[size:]).T / (2.0 * STEP)
    return slope[:, : 2 * n], slope[:, 2 * n :]


def estimate(a: Array, b: Array, rates: str) -> Array:
    """(2 n, 2 n + A): the state from angles, rates and previous actions.

    Of a velocity nothing is to be done. Of a change of the angles over the last control step: that step backwards,
    x_before = A^-1 (x - B u), says how the change follows from the state, and is solved for the velocity.
    """
    n, actions = len(a) // 2, b.shape[1]
    if rates == "velocity":
        return np.hstack([np.eye(2 * n), np.zeros((2 * n, actions))])
    back = np.linalg.inv(a)[:n]  # (n, 2 n)
    # change = angle - back (x - B u) = (I - back_q) angle - back_v velocity + back B u
    solve = -np.linalg.inv(back[:, n:])
    velocity = np.hstack([-solve @ (np.eye(n) - back[:, :n]), solve, -solve @ back @ b])
    return np.vstack([np.hstack([np.eye(n), np.zeros((n, n + actions))]), velocity])


def region(card: HoldCard, task: Task, robot: RobotConfig, values: dict[str, Array]) -> float:
    """The largest cost from which every start came to rest in a robot with these targets; by bisection of its logarithm.

    `card` reads velocities, which are measured without noise here.
    """
    value, rng = np.array(card.value), np.random.default_rng(0)
    sphere = rng.standard_normal((STARTS, len(value)))
    sphere /= np.linalg.norm(sphere, axis=1, keepdims=True)
    surface = sphere @ np.linalg.inv(np.linalg.cholesky(value))  # x' value x = 1
    values = values | {name: np.zeros(1) for name in PERFECT}
    law = Arranged.of("hold", {name: np.repeat(value, STARTS) for name, value in values.items()})
    seen = task.seen_as(replace(task.observation, features=("joint_cos", "joint_sin", "joint_velocity", "previous_action")))
    env = BatchedEnv(seen, robot, law, STARTS, start="evaluate", autoreset=False)
    low, high = np.log(LEVELS)
    for _ in range(HALVINGS):
        middle = 0.5 * (low + high)
        rests = _comes_to_rest(env, replace(card, region=np.inf), np.sqrt(np.exp(middle)) * surface, np.exp(middle))
        low, high = (middle, high) if rests else (low, middle)
    return float(np.exp(low))


@torch.no_grad()
def _comes_to_rest(env: BatchedEnv, card: HoldCard, starts: Array, cost: float) -> bool:
    hold, n = Hold(card, env.observation.components), len(card.joints)
    nothing = torch.zeros(env.num_envs, len(card.actuators))
    inputs = env.reset(start=Start(np.array(card.pose) + starts[:, :n], starts[:, n:]))
    for _ in range(round(SECONDS / env.task.control_period_s)):
        inputs = env.step(hold(torch.from_numpy(inputs["observation"]), nothing).numpy()).inputs
    x = np.concatenate([env.state.position - np.array(card.pose), env.state.velocity], axis=1)
    left = np.einsum("ni,ij,nj->n", x, np.array(card.value), x)
    return bool((left < REST * cost).all())


def _rows(matrix: Array) -> tuple[tuple[float, ...], ...]:
    return tuple(tuple(float(x) for x in row) for row in matrix)
