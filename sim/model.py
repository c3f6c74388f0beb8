"""From a robot's name to a MuJoCo model at its nominal parameters.

What can be changed in it is the table TARGETS in sim/targets, whose names are read here: Model knows which of
them a robot has, and their nominal values.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from importlib import resources
from pathlib import Path

import mujoco
import numpy as np
import numpy.typing as npt
from mujoco.batch import Batch

from robot import config
from robot import spec as specs
from robot.config import ConfigError, nearest
from robot.spec import RobotSpec
from sim import engine
from sim.drive import close_loops
from sim.targets import TARGETS, check_range, split, unit_of
from sim.targets.terrain import roughen

Array = npt.NDArray[np.float64]


@dataclass(frozen=True, kw_only=True, slots=True)
class SimConfig:
    """The simulator's part of configs/robot/<name>.yaml."""

    mjcf: str
    """File beside the robot's YAML or in sim/models, an absolute path, or the MJCF itself (it begins with `<`)."""
    parameters: dict[str, float] = field(default_factory=dict)
    """Nominal values of targets that differ from the MJCF."""
    timestep_s: float = 0.002
    """Physics step for training [s]; identification is scored at 1 ms whatever stands here."""
    servo: str = ""
    """Type of the position servos, a row of sim.servos.SERVOS: gives them motor constants and a supply."""


@dataclass(frozen=True, kw_only=True, slots=True)
class RobotConfig:
    """configs/robot/<name>.yaml: what the controller knows, and what the simulator knows."""

    spec: RobotSpec
    model: SimConfig


def load_robot(path: Path) -> RobotConfig:
    """Read a robot's YAML file."""
    robot = config.load(RobotConfig, path)
    return replace(robot, model=replace(robot.model, mjcf=beside(robot.model.mjcf, path)))


def beside(mjcf: str, path: Path) -> str:
    """`model.mjcf` of the robot's file at `path`: made absolute where it names a file that stands beside that."""
    if mjcf.lstrip().startswith("<"):
        return mjcf
    model = Path(path).resolve().parent / mjcf
    return str(model) if model.is_file() else mjcf


def find_robot(name: str | Path) -> RobotConfig:
    """A robot by its name or YAML file; ConfigError lists those that exist."""
    return load_robot(specs.find_robot(name))


def _compile(robot: RobotConfig) -> tuple[mujoco.MjModel, str]:
    """The robot's MJCF as a model, and the name of where it stands."""
    text = robot.model.mjcf
    written_out = text.lstrip().startswith("<")
    path = Path(str(resources.files("sim"))) / "models" / text  # which is `text` itself where that is absolute
    source = f"the MJCF of '{robot.spec.name}'" if written_out else path.name
    if not written_out and not path.exists():
        raise ConfigError(f"robot '{robot.spec.name}': model.mjcf is {path}, which does not exist.")
    try:
        if written_out:
            return mujoco.MjModel.from_xml_string(text), source
        return mujoco.MjModel.from_xml_path(str(path)), source
    except ValueError as error:
        raise ConfigError(f"{source if written_out else path}: MuJoCo refuses it ({error}).") from error


class Model:
    """A robot's compiled MjModel with its nominal parameters."""

    def __init__(self, robot: RobotConfig) -> None:
        self.robot, self.spec = robot, robot.spec
        engine.stop_clock()
        self.mj, source = _compile(robot)
        engine.spare_islands(self.mj)
        roughen(self.mj)
        joint_names = [self.mj.joint(i).name for i in range(self.mj.njnt)]
        actuator_names = [self.mj.actuator(i).name for i in range(self.mj.nu)]
        self._require("joint", self.spec.joint_names, joint_names, source)
        self._require("actuator", [a.name for a in self.spec.actuators], actuator_names, source)
        self.mj.opt.timestep = robot.model.timestep_s
        joints = [self.mj.joint(j).id for j in self.spec.joint_names]
        self.qpos_index = self.mj.jnt_qposadr[joints].astype(np.intp)
        self.dof_index = self.mj.jnt_dofadr[joints].astype(np.intp)
        self.ctrl_index = np.array([self.mj.actuator(a.name).id for a in self.spec.actuators], dtype=np.intp)
        close_loops(self.mj, self.spec)
        self._nominal: dict[str, float] = {}
        self._objects: dict[Callable[[Model], tuple[str, ...]], tuple[str, ...]] = {}
        for name, value in robot.model.parameters.items():
            self.nominal(name)  # refuses a name that this robot lacks
            check_range(name, np.array([value]))
        self._apply(robot.model.parameters)

    def _apply(self, parameters: Mapping[str, float]) -> None:
        """Make the parameters the model's own values: the compiled model is the nominal."""
        if not parameters:
            return
        from sim.parameters import Parameters  # it needs the class above

        batch = Batch(self.mj, 1, 1)
        Parameters(self, batch).set({t: np.array([v]) for t, v in parameters.items()}, np.zeros(1, dtype=np.intp))
        self.mj = batch.get_model(0)
        self._nominal = dict(parameters)

    def _require(self, what: str, wanted: Sequence[str], have: Sequence[str], source: str) -> None:
        missing = next((name for name in wanted if name not in have), None)
        if missing is not None:
            raise ConfigError(
                f"robot '{self.spec.name}': {what} '{missing}' is not in {source}. {nearest(missing, have)}"
            )

    def objects(self, kind: tuple[str, str]) -> tuple[str, ...]:
        """Names of the objects of this robot that have a target (kind, quantity)."""
        find = TARGETS[kind].objects  # which several quantities share
        if find not in self._objects:
            self._objects[find] = find(self)
        return self._objects[find]

    def nominal(self, name: str) -> float:
        """Nominal value of a target; ConfigError when this robot has no such object."""
        if name not in self._nominal:
            kind, obj = split(name)
            if obj not in self.objects(kind):
                hint = nearest(name, self._alike(kind, obj))
                raise ConfigError(f"target '{name}': {self._missing(kind, obj)} {hint}")
            self._nominal[name] = TARGETS[kind].nominal(self, obj)
        return self._nominal[name]

    def _missing(self, kind: tuple[str, str], obj: str) -> str:
        """Why this robot lacks a target, in a sentence."""
        applies = TARGETS[kind].applies
        if applies and any(obj in self.objects(other) for other in TARGETS if other[0] == kind[0]):
            return f"{kind[0]} '{obj}' of robot '{self.spec.name}' cannot feel it: it applies to {applies}."
        return f"robot '{self.spec.name}' has no {kind[0]} '{obj}'."

    def _alike(self, kind: tuple[str, str], obj: str) -> list[str]:
        """Targets that may have been meant: of the same object, or else the same quantity of others."""
        own = [f"{k}/{obj}/{q}" for k, q in TARGETS if k == kind[0] and obj in self.objects((k, q))]
        return own or [f"{kind[0]}/{o}/{kind[1]}" for o in self.objects(kind)]

    def available(self) -> list[str]:
        """Every target that this robot has."""
        return [f"{kind}/{obj}/{quantity}" for kind, quantity in TARGETS for obj in self.objects((kind, quantity))]


Values = Mapping[str, Array]
"""target name -> one value per simulation, (n,)."""

__all__ = [
    "TARGETS", "Array", "Model", "RobotConfig", "SimConfig", "Values", "check_range", "find_robot", "load_robot",
    "split", "unit_of",
]  # fmt: skip
