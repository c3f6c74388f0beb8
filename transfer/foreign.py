"""A policy that was trained elsewhere, as a bundle: from a Stable-Baselines3 zip or from an ONNX file, and a card.

The card is a YAML file that says what the file cannot: for which robot, what the observation holds and in which order,
what an output of full scale commands, and at which rate. What the network lacks of the bundle's interface is put about
it: scaling of the observation where the card has statistics, division by the bound of its action space, and a clip.

    robot: simple_pendulum
    task: pendulum_swingup              # of terrafirma, then it is simulated; or a name of your own
    control_rate_hz: 100
    observation: {features: [joint_cos, joint_sin, joint_velocity]}
    action: {actuators: [shoulder], scale: [1.5]}
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from robot import bundle
from robot.config import ConfigError
from robot.controller import Controller
from robot.monitor import Monitor
from robot.network import open_session
from robot.observation import ActionConfig, Observation, ObservationConfig
from robot.spec import RobotSpec
from robot.verification import TOLERANCE, difference
from sim.evaluate import EpisodeStats, rollout_success
from sim.model import RobotConfig
from sim.randomization import Randomization
from sim.tasks import Task
from transfer import foreign_graph as graphs
from transfer import sb3_file
from transfer.cli import GateRefused
from transfer.foreign_graph import Reference
from transfer.shaping import as_made

Array = npt.NDArray[np.float32]

MET = 1000
"""Observations of simulated episodes that are kept for golden vectors and monitor."""
DRAWN = 256
"""Readings that are drawn where no task tells which ones come."""
TURNS = np.pi
"""What a joint without limits is drawn within [rad]."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ForeignCard:
    """What has to be told about a policy from elsewhere."""

    robot: str
    """Name, or YAML file."""
    task: str
    """A task of terrafirma, in which it is simulated; or a name of one's own, and then it is not."""
    control_rate_hz: float
    observation: ObservationConfig
    """Features in the order in which the network was trained on them; no history and no cameras."""
    action: ActionConfig
    bound: tuple[float, ...] = (1.0,)
    """What the network says to ask for `action.scale`: the bound of its action space, of each output or of all."""
    mean: tuple[float, ...] = ()
    """Of each component of the observation, where it was trained on normalized ones (VecNormalize: obs_rms.mean)."""
    deviation: tuple[float, ...] = ()
    """Likewise (VecNormalize: the root of obs_rms.var + epsilon)."""
    activation: Literal["tanh", "relu", "elu"] | None = None
    """Of a Stable-Baselines3 policy; default: what its file tells, or the algorithm's own."""
    input: str = ""
    """Of an ONNX file: which input is the observation; may be left out where there is one."""
    output: str = ""
    """Likewise, which output is the action."""
    licence: str = "not stated"

    def __post_init__(self) -> None:
        if not self.control_rate_hz > 0.0:
            raise ConfigError(f"control_rate_hz is {self.control_rate_hz}; it must be above 0.")
        if self.observation.history or self.observation.cameras:
            raise ConfigError("observation: a foreign policy reads a vector; it can have no history and no cameras.")
        outputs = len(self.action.actuators)
        if len(self.bound) not in (1, outputs) or min(self.bound) <= 0.0:
            raise ConfigError(f"bound is {list(self.bound)}; one number above 0 is needed, or {outputs}.")
        if not all(math.isfinite(v) for v in (*self.bound, *self.mean)):
            raise ConfigError("bound and mean: every number must be finite.")
        if not all(math.isfinite(d) and d > 0.0 for d in self.deviation):
            raise ConfigError(
                f"deviation is {list(self.deviation)}; each must be above 0 (the root of obs_rms.var + epsilon): else "
                "the network is shown infinite numbers, or mirrored ones."
            )


@dataclass(frozen=True, slots=True)
class Foreign:
    """A foreign policy with the bundle's interface."""

    graph: bytes
    spec: RobotSpec
    card: ForeignCard
    said: Reference

    @property
    def period_s(self) -> float:
        return 1.0 / self.card.control_rate_hz

    def controller(self) -> Controller:
        """What runs it."""
        card = self.card
        return Controller(open_session(self.graph), self.spec, card.observation, card.action, self.period_s)

    def parity(self, observation: Array) -> float:
        """The largest |a - b| / max(|a|, 1) between the bundle's network and the foreign one, its bound and a clip."""
        expected = np.clip(self.said(observation) / np.array(self.card.bound), -1.0, 1.0)
        return difference(expected, act(self.controller(), observation))

    def write(
        self, out: Path, observation: Array, lineage: Mapping[str, Any], gate: Mapping[str, Any], key: Path | None
    ) -> float:
        """Write the bundle; returns the parity. `observation` (n, D) become golden vectors and monitor.

        GateRefused, and nothing is written, when the network does not compute what the foreign one does.
        """
        error, controller = self.parity(observation), self.controller()
        if not error <= TOLERANCE:
            raise GateRefused(f"export: the bundle's network differs from the foreign one by {error:.2g}.")
        golden = observation[:100]
        bundle.write(
            out,
            onnx=self.graph,
            spec=self.spec,
            task=self.card.task,
            observation=self.card.observation,
            action=self.card.action,
            control_period_s=self.period_s,
            golden_inputs={"observation": golden},
            golden_outputs={"action": act(controller, golden)},
            monitor=Monitor.fit(controller.encoder.components, observation),
            variant="foreign",
            licence=self.card.licence,
            lineage=lineage,
            gate=gate,
            key=key,
        )
        return error


def read(path: Path, card: ForeignCard, spec: RobotSpec) -> Foreign:
    """A policy from a .zip of Stable-Baselines3 or an .onnx file; ConfigError says what does not fit."""
    layout = Observation(spec, card.observation, card.action)
    sizes = layout.size, layout.action_size
    for name, numbers in (("mean", card.mean), ("deviation", card.deviation)):
        if numbers and len(numbers) != layout.size:
            raise ConfigError(f"{name} has {len(numbers)} values; the observation has {layout.size}.")
    if path.suffix == ".zip":
        actor = sb3_file.read(path, card.activation)
        model, said = graphs.of_layers(actor), graphs.of_numpy(actor)
        given, action = graphs.ports(path, model, "", "")
    elif path.suffix == ".onnx":
        model = graphs.load(path)
        given, action = graphs.ports(path, model, card.input, card.output)
        said = graphs.session(path, model, given.name, action.name)
    else:
        raise ConfigError(f"foreign={path}: neither a .zip of Stable-Baselines3 nor an .onnx file.")
    for what, port, size, told in (("reads", given, sizes[0], "observation"), ("gives", action, sizes[1], "action")):
        width = graphs.width(port)
        if width != size:
            values = f"{width} values" if width else "no fixed number of values"
            raise ConfigError(f"foreign={path}: '{port.name}' {what} {values}; the card's {told} has {size}.")
    mean = np.array(card.mean or np.zeros(sizes[0]), np.float32)
    deviation = np.array(card.deviation or np.ones(sizes[0]), np.float32)
    bound = np.broadcast_to(np.array(card.bound, np.float32), sizes[1:]).copy()
    graph = graphs.framed(model, given.name, action.name, mean=mean, deviation=deviation, bound=bound)
    return Foreign(graph, spec, card, lambda row: said(((row - mean) / deviation).astype(np.float32)))


def act(controller: Controller, observation: Array) -> Array:
    """(n, A) what the network says, row by row: a foreign file may be made for a batch of one alone."""
    rows = [controller.infer({"observation": observation[i : i + 1]})["action"] for i in range(len(observation))]
    return np.concatenate(rows)


def simulated(
    foreign: Foreign, task: Task, robot: RobotConfig, law: Randomization, n: int, seed: int
) -> tuple[Array, EpisodeStats]:
    """Observations (rows, D) that it met in n episodes of a task, and how these ended.

    ConfigError when the task has another robot or control period than the card.
    """
    card, controller = foreign.card, foreign.controller()
    if task.robot != foreign.spec.name or abs(task.control_period_s - foreign.period_s) > 1e-9:
        raise ConfigError(
            f"card: task '{task.name}' is of robot '{task.robot}' at {1 / task.control_period_s:g} Hz, the card says "
            f"'{foreign.spec.name}' at {card.control_rate_hz:g} Hz; a `task:` of another name is not simulated."
        )
    met: list[Array] = []

    def decide(inputs: Mapping[str, npt.NDArray[Any]]) -> Array:
        met.append(inputs["observation"].copy())
        return act(controller, met[-1])

    stats = rollout_success(decide, as_made(task, card), robot, law, n, seed)
    rows = np.concatenate(met)
    return rows[np.random.default_rng(seed).permutation(len(rows))[:MET]], stats


def drawn(foreign: Foreign, rng: np.random.Generator, n: int = DRAWN) -> Array:
    """(n, D) observations of readings anywhere within the robot's limits."""
    spec, card = foreign.spec, foreign.card
    low, high = np.array([np.clip(j.position_limits, -TURNS, TURNS) for j in spec.joints]).T
    speed = np.array([min(j.velocity_limit, 20.0) for j in spec.joints])
    orientation = rng.normal(size=(n, 4))
    signals = {
        "joint.position": rng.uniform(low, high, (n, len(low))),
        "joint.velocity": rng.uniform(-speed, speed, (n, len(low))),
        "joint.effort": rng.uniform(-1.0, 1.0, (n, len(low))) * spec.effort_limits,
        "imu.gyro": rng.normal(size=(n, 3)),
        "imu.accel": rng.normal(size=(n, 3)) + np.array([0.0, 0.0, 9.81]),
        "imu.orientation": orientation / np.linalg.norm(orientation, axis=1, keepdims=True),
        "goal": rng.normal(size=(n, len(card.observation.goal))),
    }
    return Observation(spec, card.observation, card.action, n).encode(signals)["observation"]
