"""A linear-quadratic hold of a task's unstable pose: gains from the simulator, its region by simulation.

The simulator is linearized at the pose over one control period, without dry friction; the discrete algebraic Riccati
equation gives gain and cost. Control is made expensive: the least gains that hold at all have the largest region, and
bear the most delay. A delay that the law has in its middle is made up for by foretelling the state over it. The region
is the largest level set of the cost within which the saturated feedback came to rest from every one of STARTS random
states near the pose, without any delay and with that one.
"""

from __future__ import annotations

import math
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
from sim.near_pose import NearPose
from sim.plant import Plant
from sim.randomization import Randomization
from sim.state import Start
from sim.tasks import Task
from sim.vecenv import BatchedEnv
from transfer.attraction import ellipsoid

Array = npt.NDArray[np.float64]
Flags = npt.NDArray[np.bool_]

STEP = 1e-4
"""Of the finite differences [rad], [rad/s], and of the action."""
STARTS, SECONDS = 512, 1.5
TURNED = 0.5 * math.pi
"""Angle off the pose from which a joint has turned away [rad]."""
SPEEDS = 3.0
"""Speeds at which the feedback may take over, in units of those that the task allows at its end."""
EXACT = ("joint_cos", "joint_sin", "joint_velocity", "previous_action")
PERFECT = ("sensor/joint.velocity/noise", "sensor/joint.velocity/resolution", "sensor/joint.position/resolution")
DRY = ("/frictionloss", "/stribeck_ratio", "/stribeck_velocity", "/motor_friction")
"""What dry friction is told by."""
DISTURBING = ("/frictionloss", "/push", "/push_rate", "/delay", "/lag")
"""Targets that are left out."""
EXPENSE = 1e3
"""Weight of full actions against states at the edge of the task's own region."""


def hold_of(
    task: Task, robot: RobotConfig, law: Randomization, observation: ObservationConfig, stiction: bool = False
) -> HoldCard:
    """The hold of task.pose for a policy with this observation, at the middle of `law`.

    With `stiction` the dry friction of joints that the task does not drive is in the equations, where it keeps them
    from falling on their own; that of driven joints is made up for; and the region is fitted (transfer/attraction.py).
    ConfigError when the task has no pose to hold, the observation tells no angles and rates, or nothing holds it.
    """
    if not task.pose:
        raise ConfigError(f"task '{task.name}' has no pose to hold: give network.hold=false.")
    model = Model(robot)
    middle = law.center(model)
    values = {k: v for k, v in middle.items() if not k.endswith(DISTURBING)}
    if stiction:
        driven = [f"/{a.joint}/" for a in robot.spec.actuators if a.name in task.action.actuators]
        dry = {k: v for k, v in middle.items() if k.endswith(DRY)}
        values = {k: v for k, v in values.items() if k not in dry}
        values |= {k: v for k, v in dry.items() if not any(joint in k for joint in driven)}
    a, b = linearized(task, model, values)
    weights = 1.0 / np.square(np.concatenate([task.pose_within, task.pose_speed]))
    expense = EXPENSE * np.eye(b.shape[1])
    value = solve_discrete_are(a, b, np.diag(weights), expense)
    gain = np.linalg.solve(expense + b.T @ value @ b, b.T @ value @ a)
    delay = float(middle.get("timing/command/delay", np.zeros(1))[0])
    ahead = round(delay / task.control_period_s)
    exact = HoldCard(
        joints=robot.spec.joint_names,
        actuators=task.action.actuators,
        rates="velocity",
        pose=task.pose,
        estimate=_rows(estimate(a, b, "velocity", ahead)),
        gain=_rows(gain),
        value=_rows(value),
        within=(*(task.pose_reach or task.pose_within), *(SPEEDS * v for v in task.pose_speed)),
        region=0.0,
        friction=_dry(task, robot, middle) if stiction else (),
    )
    rates = "change" if "joint_change" in observation.features else "velocity"
    told = estimate(a, b, rates, ahead)
    if not stiction:
        return replace(exact, rates=rates, estimate=_rows(told), region=region(exact, task, robot, values, delay))
    if rates == "change":
        told = _foretold(_mean_rates(len(a) // 2, b, task), a, b, ahead)
    return replace(_held(exact, task, robot, law), rates=rates, estimate=_rows(told))


def _held(card: HoldCard, task: Task, robot: RobotConfig, law: Randomization) -> HoldCard:
    """The card with the region in which it holds robots drawn from the law."""
    rng = np.random.default_rng(0)

    def held(starts: Array) -> Flags:
        drawn = Arranged.of("hold", law.draw(Model(robot), rng, len(starts)))
        return _comes_to_rest(task, robot, drawn, card, starts)

    form, level = ellipsoid(np.array(card.within), held, rng)
    if not level:
        raise ConfigError(
            f"no feedback brings {robot.spec.name} to rest near the pose of '{task.name}' in nearly all robots of "
            f"'{law.name}': give network.stiction=false, or a posterior (posterior=), which is narrower."
        )
    return replace(card, value=_rows(form), region=level)


def _dry(task: Task, robot: RobotConfig, values: dict[str, Array]) -> tuple[float, ...]:
    """What it takes to move each driven joint from rest, as a share of its full action."""
    found = []
    for name, scale in zip(task.action.actuators, task.action.scale, strict=True):
        joint = next(a.joint for a in robot.spec.actuators if a.name == name)
        told = {k.rsplit("/", 1)[1]: float(v[0]) for k, v in values.items() if k.startswith(f"joint/{joint}/")}
        found.append(told.get("frictionloss", 0.0) * told.get("stribeck_ratio", 1.0) / scale)
    return tuple(found)


def _mean_rates(n: int, b: Array, task: Task) -> Array:
    """(2 n, 2 n + A): velocities as the mean over the last step.

    To go back a step by the equations, as estimate() does, would undo what friction took from a joint that slid.
    """
    return np.hstack([np.diag(np.repeat([1.0, 1.0 / task.control_period_s], n)), np.zeros((2 * n, b.shape[1]))])


def near(card: HoldCard, share: float, bonus: float = 0.0) -> NearPose | None:
    """Training starts in and about the hold's region, and a reward for being near; None where neither is asked for."""
    if not share and not bonus:
        return None
    values, vectors = np.linalg.eigh(np.array(card.value))
    axes = np.sqrt(card.region / values)[:, None] * vectors.T
    return NearPose(card.pose, _rows(axes), share, bonus)


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


def estimate(a: Array, b: Array, rates: str, ahead: int) -> Array:
    """(2 n, 2 n + A): the state `ahead` control steps later, from angles, rates and previous actions, which go on.

    Of a velocity nothing is to be done. Of a change of the angles over the last control step: that step backwards,
    x_before = A^-1 (x - B u), says how the change follows from the state, and is solved for the velocity.
    """
    n, actions = len(a) // 2, b.shape[1]
    if rates == "velocity":
        return _foretold(np.hstack([np.eye(2 * n), np.zeros((2 * n, actions))]), a, b, ahead)
    back = np.linalg.inv(a)[:n]  # (n, 2 n)
    # change = angle - back (x - B u) = (I - back_q) angle - back_v velocity + back B u
    solve = -np.linalg.inv(back[:, n:])
    velocity = np.hstack([-solve @ (np.eye(n) - back[:, :n]), solve, -solve @ back @ b])
    return _foretold(np.vstack([np.hstack([np.eye(n), np.zeros((n, n + actions))]), velocity]), a, b, ahead)


def _foretold(now: Array, a: Array, b: Array, steps: int) -> Array:
    for _ in range(steps):
        now = a @ now
        now[:, -b.shape[1] :] += b
    return now


def region(card: HoldCard, task: Task, robot: RobotConfig, values: dict[str, Array], delay_s: float) -> float:
    """The cost below which every start within the card's bounds came to rest, in a robot with these targets.

    `card` reads velocities, which are measured without noise here.
    """
    rng, n = np.random.default_rng(0), len(card.pose)
    starts = rng.uniform(-1.0, 1.0, (STARTS, 2 * n)) * rng.random((STARTS, 1)) * np.array(card.within)
    if task.pose_reach:
        starts = np.concatenate([starts, along(card, rng)])
    held = np.ones(len(starts), dtype=bool)
    for late in dict.fromkeys((0.0, delay_s)):
        known = values | {"timing/command/delay": np.full(1, late)} | {name: np.zeros(1) for name in PERFECT}
        law = Arranged.of("hold", {name: np.repeat(value, len(starts)) for name, value in known.items()})
        held &= _comes_to_rest(task, robot, law, card, starts)
    cost = np.einsum("ni,ij,nj->n", starts, np.array(card.value), starts)
    return float(cost[~held].min(initial=cost.max()) * (1.0 - 1e-9))


def along(card: HoldCard, rng: np.random.Generator) -> Array:
    """(STARTS, 2 n) states within the card's bounds along level sets of the cost.

    Where these are thin sheets, states that are spread evenly hardly ever lie near one.

    The costs are 1 to 1000 times that at which the feedback first asks for all a motor can do.
    """
    value, gain = np.array(card.value), np.array(card.gain)
    full = 1.0 / np.max(np.einsum("ai,ij,aj->a", gain, np.linalg.inv(value), gain))
    root = np.linalg.inv(np.linalg.cholesky(value))  # x' value x is |u|^2 for x = u root
    found: list[Array] = []
    while sum(map(len, found)) < STARTS:
        u = rng.standard_normal((STARTS, len(value)))
        u *= np.sqrt(full * 10.0 ** rng.uniform(0.0, 3.0, (STARTS, 1))) / np.linalg.norm(u, axis=1, keepdims=True)
        x = u @ root
        found.append(x[(np.abs(x) <= np.array(card.within)).all(axis=1)])
    return np.concatenate(found)[:STARTS]


@torch.no_grad()
def _comes_to_rest(task: Task, robot: RobotConfig, law: Randomization, card: HoldCard, starts: Array) -> Flags:
    """(len(starts),) whether the feedback alone brings each start to the pose, without a turn on the way."""
    seen, count = replace(task, observation=replace(task.observation, features=EXACT)), len(starts)
    env = BatchedEnv(seen, robot, law, count, start="evaluate", autoreset=False)
    everywhere = replace(card, region=math.inf, within=(math.inf,) * len(card.within))
    hold, n = Hold(everywhere, env.observation.components), len(card.joints)
    pose, nothing, held = np.array(card.pose), torch.zeros(count, len(card.actuators)), np.ones(count, dtype=bool)
    inputs = env.reset(start=Start(pose + starts[:, :n], starts[:, n:]))
    for _ in range(round(SECONDS / task.control_period_s)):
        inputs = env.step(hold(torch.from_numpy(inputs["observation"]), nothing).numpy()).inputs
        held &= (np.abs(env.state.position - pose) < TURNED).all(axis=1)
    return held & env.task.inside(env.state)


def _rows(matrix: Array) -> tuple[tuple[float, ...], ...]:
    return tuple(tuple(float(x) for x in row) for row in matrix)
