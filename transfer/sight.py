"""How far off a vision encoder is in a robot's episodes: what sim/sight.py replays when no picture is drawn.

Measured on rendered episodes of the task, each with an appearance of its own from the same law as the encoder's
training pictures, which saw other draws of it.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from robot import folders
from sim import randomization
from sim.model import Model, RobotConfig
from sim.randomization import Randomization
from sim.rollouts import roll_out
from sim.sight import Coordinates, SightErrors
from sim.tasks import Task
from sim.vecenv import BatchedEnv

if TYPE_CHECKING:
    from policies.encoders.vision import VisionEncoder
    from policies.policy import PolicyCard

SECONDS = 3.0
"""Length of each episode in which errors are measured [s]."""


def with_appearance(law: Randomization, task: Task) -> Randomization:
    """`law`, and for a task with cameras what configs/dr/<robot>_appearance.yaml adds to it."""
    path = folders.look_up("dr", f"{task.robot}_appearance") if task.observation.cameras else None
    if path is None:
        return law
    known = set(law.targets)
    added = tuple(t for t in randomization.load(path).terms if not known & set(t.targets))
    return replace(law, terms=(*law.terms, *added))


def measure(
    vision: VisionEncoder,
    card: PolicyCard,
    task: Task,
    robot: RobotConfig,
    law: Randomization,
    seed: int,
    episodes: int,
) -> SightErrors:
    """What an encoder told minus the truth, in episodes of mixed excitation under `law`, its appearances included."""
    import torch

    from policies.sight import Sight

    sight, states, camera = Sight(vision, card.network).eval(), vision.card.states, vision.card.cameras[0]
    coordinates = Coordinates(Model(robot), states)

    @torch.no_grad()
    def watch(env: BatchedEnv) -> npt.NDArray[np.float64]:
        told = sight({name: torch.from_numpy(images) for name, images in env.pictures.items()}).numpy()
        return coordinates.difference(coordinates.of_state(told), coordinates.of(env.pictured[camera]))

    errors = roll_out(task, robot, law, simulations=episodes, seconds=SECONDS, seed=seed, watch=watch).watched
    assert errors is not None
    return SightErrors(vision.card.cameras, states, errors)
