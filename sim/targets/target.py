"""What a row of the table of targets says, and the look-ups that rows share."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import mujoco
import numpy as np
import numpy.typing as npt
from mujoco.batch import Batch

if TYPE_CHECKING:
    from sim.model import Model

Array = npt.NDArray[np.float64]
Ids = npt.NDArray[np.intp]
Write = Callable[[Batch, "Model", str, Ids, Array], None]


@dataclass(frozen=True, slots=True)
class Target:
    """What a target's name stands for."""

    unit: str
    low: float
    high: float
    """Valid range, inclusive; a value outside is an error, never clipped."""
    objects: Callable[[Model], tuple[str, ...]]
    """Names of the objects that it applies to in this robot: those whose motion, readings or images it can change."""
    nominal: Callable[[Model, str], float]
    """Value in the model as it stands, of one of its objects."""
    write: Write | None = None
    """(batch, model, object, ids, values (n,)) into per-simulation model fields; None for an *outer* target, whose
    values stand in Parameters.outer for whoever simulates the effect."""
    fields: tuple[str, ...] = ()
    """Model fields that `write` touches. They are put back to the nominal before each set(), so `write` may build on
    what earlier rows of the table have written, and draws still never pile up."""
    derived: bool = False
    """Whether constants derived from it must be recomputed (set_const)."""
    applies: str = ""
    """Which objects it applies to, in words, for the error that names another."""
    step: float = 0.0
    """A change that is felt, added to a nominal of which half would not be; see probes()."""
    needs: tuple[tuple[str, float], ...] = ()
    """(quantity, value) of the same object without which it is not felt: without pushes, their rate is nothing. A
    whole target, with {} for the object, names something else; what the robot lacks does not count."""

    rare: bool = False
    """Whether it shows only now and then, so that a short rollout may miss it."""
    logs_only: bool = False
    """Whether it acts where a log is played back, and in no rollout."""

    def probes(self, nominal: float) -> tuple[float, ...]:
        """Valid values clearly away from the nominal: half as much more and less, or a step where that is more."""
        change = max(0.5 * abs(nominal), self.step or 0.05 * min(1.0, self.high))
        return tuple(v for v in (nominal + change, nominal - change) if self.low <= v <= self.high)


def body_id(model: Model, name: str) -> int:
    return int(mujoco.mj_name2id(model.mj, mujoco.mjtObj.mjOBJ_BODY, name))


def geom_id(model: Model, name: str) -> int:
    return int(mujoco.mj_name2id(model.mj, mujoco.mjtObj.mjOBJ_GEOM, name))


def joint_id(model: Model, name: str) -> int:
    return int(mujoco.mj_name2id(model.mj, mujoco.mjtObj.mjOBJ_JOINT, name))


def dof_of(model: Model, joint: str) -> int:
    """First degree of freedom of a joint."""
    return int(model.mj.jnt_dofadr[joint_id(model, joint)])


def joints(model: Model) -> tuple[str, ...]:
    """The joints of the RobotSpec."""
    return tuple(model.spec.joint_names)


def actuators(model: Model) -> tuple[str, ...]:
    """The actuators of the RobotSpec."""
    return tuple(a.name for a in model.spec.actuators)


def moving_bodies(model: Model) -> tuple[str, ...]:
    """Named bodies with a mass that some joint moves."""
    mj = model.mj
    moving = (i for i in range(1, mj.nbody) if mj.body_mass[i] > 0 and mj.body_weldid[i] > 0)
    return tuple(mj.body(i).name for i in moving if mj.body(i).name)


def only(name: str) -> Callable[[Model], tuple[str, ...]]:
    """Targets of something that every robot has once, under this name."""
    return lambda model: (name,)


def constant(value: float) -> Callable[[Model, str], float]:
    """A nominal that is the same for all."""
    return lambda model, name: value
