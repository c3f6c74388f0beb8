"""From a robot's name to a MuJoCo model, and the table of what can be changed in it: TARGETS.

A target is a name such as `joint/elbow/damping`: one physical quantity with a unit and a valid range, which
randomization draws, identification estimates and parameter files set. To add one: a row in TARGETS (its
writer goes here for model fields; for what surrounds the physics it is read by sim/plant.py) and a test.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
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

Array = npt.NDArray[np.float64]


@dataclass(frozen=True, kw_only=True, slots=True)
class SimConfig:
    """The simulator's part of configs/robot/<name>.yaml."""

    mjcf: str
    """File in sim/models, or an absolute path."""
    parameters: dict[str, float] = field(default_factory=dict)
    """Nominal values of targets that differ from the MJCF."""
    timestep_s: float = 0.002
    """Physics step for training [s]; identification is scored at 1 ms whatever stands here."""


@dataclass(frozen=True, kw_only=True, slots=True)
class RobotConfig:
    """configs/robot/<name>.yaml: what the controller knows, and what the simulator knows."""

    spec: RobotSpec
    model: SimConfig


def load_robot(path: Path) -> RobotConfig:
    """Read a robot's YAML file."""
    return config.load(RobotConfig, path)


def find_robot(name: str | Path) -> RobotConfig:
    """A robot by its name or YAML file; ConfigError lists those that exist."""
    return load_robot(specs.find_robot(name))


@dataclass(frozen=True, slots=True)
class Target:
    """What a target's name stands for."""

    unit: str
    low: float
    high: float
    """Valid range, inclusive; a value outside is an error, never clipped."""
    nominal: Callable[[mujoco.MjModel, RobotSpec, str], float]
    """Value in the model as it stands; KeyError when the model has no such object."""
    write: Callable[[Batch, RobotSpec, str, npt.NDArray[np.intp], Array], None] | None
    """(batch, spec, object, ids, values (n,)); None when sim/plant.py applies it outside the physics."""
    derived: bool = False
    """Whether constants derived from it must be recomputed (set_const)."""


def _id(model: mujoco.MjModel, kind: mujoco.mjtObj, name: str) -> int:
    i = mujoco.mj_name2id(model, kind, name)
    if i < 0:
        raise KeyError(name)
    return i


def _body(model: mujoco.MjModel, name: str) -> int:
    return _id(model, mujoco.mjtObj.mjOBJ_BODY, name)


def _dof(model: mujoco.MjModel, name: str) -> int:
    return int(model.jnt_dofadr[_id(model, mujoco.mjtObj.mjOBJ_JOINT, name)])


def _joint_name(spec: RobotSpec, name: str) -> str:
    if name not in spec.joint_names:
        raise KeyError(name)
    return name


def _write_mass(batch: Batch, spec: RobotSpec, name: str, ids: npt.NDArray[np.intp], values: Array) -> None:
    """The inertia about the centre of mass keeps its radii of gyration: it scales with the mass."""
    i = _body(batch.model, name)
    batch.expand("body_mass")[ids, i] = values
    # from the compiled model, never from the present value: draws must not pile up
    batch.expand("body_inertia")[ids, i] = batch.model.body_inertia[i] * (values / batch.model.body_mass[i])[:, None]


def _com(model: mujoco.MjModel, spec: RobotSpec, name: str) -> float:
    return float(np.linalg.norm(model.body_ipos[_body(model, name)]))


def _write_com(batch: Batch, spec: RobotSpec, name: str, ids: npt.NDArray[np.intp], values: Array) -> None:
    i = _body(batch.model, name)
    direction = batch.model.body_ipos[i] / np.linalg.norm(batch.model.body_ipos[i])
    batch.expand("body_ipos")[ids, i] = values[:, None] * direction


def _inertia(model: mujoco.MjModel, spec: RobotSpec, name: str) -> float:
    return float(model.body_inertia[_body(model, name)].max())


def _write_inertia(batch: Batch, spec: RobotSpec, name: str, ids: npt.NDArray[np.intp], values: Array) -> None:
    i = _body(batch.model, name)
    shape = batch.model.body_inertia[i] / batch.model.body_inertia[i].max()
    batch.expand("body_inertia")[ids, i] = values[:, None] * shape


def _rotor(model: mujoco.MjModel, spec: RobotSpec, name: str) -> float:
    actuator = next((a for a in spec.actuators if a.name == name), None)
    if actuator is None:
        raise KeyError(name)
    tendon = mujoco.mj_name2id(model, mujoco.mjtObj.mjOBJ_TENDON, f"rotor_{name}")
    if tendon >= 0:
        return float(model.tendon_armature[tendon])
    return float(model.dof_armature[_dof(model, actuator.joint)] / actuator.gear**2)


def _write_rotor(batch: Batch, spec: RobotSpec, name: str, ids: npt.NDArray[np.intp], values: Array) -> None:
    """On the tendon `rotor_<actuator>` where the rotor couples two joints, else gear² x value on the joint."""
    tendon = mujoco.mj_name2id(batch.model, mujoco.mjtObj.mjOBJ_TENDON, f"rotor_{name}")
    if tendon >= 0:
        batch.expand("tendon_armature")[ids, tendon] = values
        return
    actuator = next(a for a in spec.actuators if a.name == name)
    batch.expand("dof_armature")[ids, _dof(batch.model, actuator.joint)] = values * actuator.gear**2


def _dof_field(field_name: str, column: int | None = None) -> tuple[Callable[..., float], Callable[..., None]]:
    def read(model: mujoco.MjModel, spec: RobotSpec, name: str) -> float:
        return float(getattr(model, field_name)[_dof(model, name)])

    def write(batch: Batch, spec: RobotSpec, name: str, ids: npt.NDArray[np.intp], values: Array) -> None:
        batch.expand(field_name)[ids, _dof(batch.model, name)] = values

    return read, write


def _gravity(model: mujoco.MjModel, spec: RobotSpec, name: str) -> float:
    if name != "gravity":
        raise KeyError(name)
    return float(-model.opt.gravity[2])


def _write_gravity(batch: Batch, spec: RobotSpec, name: str, ids: npt.NDArray[np.intp], values: Array) -> None:
    batch.expand("opt.gravity")[ids, 2] = -values


def _of_joint(value: float) -> Callable[..., float]:
    def nominal(model: mujoco.MjModel, spec: RobotSpec, name: str) -> float:
        _joint_name(spec, name)
        return value

    return nominal


def _of_actuator(value: float) -> Callable[..., float]:
    def nominal(model: mujoco.MjModel, spec: RobotSpec, name: str) -> float:
        if name not in [a.name for a in spec.actuators]:
            raise KeyError(name)
        return value

    return nominal


def _of_command(value: float) -> Callable[..., float]:
    def nominal(model: mujoco.MjModel, spec: RobotSpec, name: str) -> float:
        if name != "command":
            raise KeyError(name)
        return value

    return nominal


def _sensor_noise(model: mujoco.MjModel, spec: RobotSpec, name: str) -> float:
    sensor = next((s for s in spec.sensors if s.signal == name), None)
    if sensor is None:
        raise KeyError(name)
    return sensor.noise


TARGETS: dict[tuple[str, str], Target] = {
    # (kind, quantity): the name in between is the object's. Order matters: mass is written before inertia.
    ("body", "mass"): Target(
        "kg", 1e-6, 1e4, lambda m, s, n: float(m.body_mass[_body(m, n)]), _write_mass, derived=True
    ),
    ("body", "com"): Target("m", 0.0, 10.0, _com, _write_com, derived=True),  # distance along the nominal direction
    ("body", "inertia"): Target("kg m^2", 1e-14, 1e4, _inertia, _write_inertia, derived=True),  # largest principal
    ("motor", "rotor_inertia"): Target("kg m^2", 0.0, 1.0, _rotor, _write_rotor, derived=True),
    ("joint", "damping"): Target("N m s/rad", 0.0, 1e3, *_dof_field("dof_damping")),
    ("joint", "frictionloss"): Target("N m", 0.0, 1e3, *_dof_field("dof_frictionloss")),
    ("joint", "stribeck_ratio"): Target("1", 1.0, 10.0, _of_joint(1.0), None),  # breakaway / Coulomb friction
    ("joint", "stribeck_velocity"): Target("rad/s", 1e-3, 10.0, _of_joint(0.1), None),
    ("world", "gravity"): Target("m/s^2", 0.0, 100.0, _gravity, _write_gravity),
    ("actuator", "gain"): Target("1", 0.0, 10.0, _of_actuator(1.0), None),  # delivered / commanded torque
    ("actuator", "bias"): Target("N m", -100.0, 100.0, _of_actuator(0.0), None),
    ("timing", "shift"): Target("samples", 0.0, 10.0, _of_command(0.0), None),  # log rows a command comes late
    ("timing", "delay"): Target("s", 0.0, 0.5, _of_command(0.0), None),
    ("timing", "lag"): Target("s", 0.0, 0.5, _of_command(0.0), None),  # first-order
    ("sensor", "noise"): Target("", 0.0, 1e3, _sensor_noise, None),
    ("sensor", "offset"): Target("rad", -10.0, 10.0, _of_joint(0.0), None),  # reading minus truth: the joint zero
}


def split(name: str) -> tuple[tuple[str, str], str]:
    """`joint/elbow/damping` -> (("joint", "damping"), "elbow"); ConfigError lists the kinds that exist."""
    parts = name.split("/")
    if len(parts) != 3 or (parts[0], parts[2]) not in TARGETS:
        known = [f"{kind}/<name>/{quantity}" for kind, quantity in TARGETS]
        raise ConfigError(f"target '{name}' is unknown. {nearest(name, known)}")
    return (parts[0], parts[2]), parts[1]


def unit_of(name: str) -> str:
    """Unit of a target."""
    return TARGETS[split(name)[0]].unit


class Model:
    """A robot's compiled MjModel with its nominal parameters."""

    def __init__(self, robot: RobotConfig) -> None:
        self.robot, self.spec = robot, robot.spec
        path = Path(robot.model.mjcf)
        if not path.is_absolute():
            path = Path(str(resources.files("sim"))) / "models" / path
        if not path.exists():
            raise ConfigError(f"robot '{self.spec.name}': model.mjcf is {path}, which does not exist.")
        try:
            self.mj = mujoco.MjModel.from_xml_path(str(path))
        except ValueError as error:
            raise ConfigError(f"{path}: MuJoCo refuses it ({error}).") from error
        joint_names = [self.mj.joint(i).name for i in range(self.mj.njnt)]
        actuator_names = [self.mj.actuator(i).name for i in range(self.mj.nu)]
        self._require("joint", self.spec.joint_names, joint_names, path)
        self._require("actuator", [a.name for a in self.spec.actuators], actuator_names, path)
        self.mj.opt.timestep = robot.model.timestep_s
        joints = [self.mj.joint(j).id for j in self.spec.joint_names]
        self.qpos_index = self.mj.jnt_qposadr[joints].astype(np.intp)
        self.dof_index = self.mj.jnt_dofadr[joints].astype(np.intp)
        self.ctrl_index = np.array([self.mj.actuator(a.name).id for a in self.spec.actuators], dtype=np.intp)
        self._nominal: dict[str, float] = {}
        for name, value in robot.model.parameters.items():
            self.nominal(name)  # refuses a name that this robot lacks
            check_range(name, np.array([value]))
        self._nominal |= robot.model.parameters

    def _require(self, what: str, wanted: Sequence[str], have: Sequence[str], path: Path) -> None:
        missing = next((name for name in wanted if name not in have), None)
        if missing is not None:
            raise ConfigError(
                f"robot '{self.spec.name}': {what} '{missing}' is not in {path.name}. {nearest(missing, have)}"
            )

    def nominal(self, name: str) -> float:
        """Nominal value of a target; ConfigError when this robot has no such object."""
        if name not in self._nominal:
            kind, obj = split(name)
            try:
                self._nominal[name] = TARGETS[kind].nominal(self.mj, self.spec, obj)
            except KeyError as error:
                raise ConfigError(
                    f"target '{name}': robot '{self.spec.name}' has no {kind[0]} '{obj}'. "
                    f"{nearest(name, self.available())}"
                ) from error
        return self._nominal[name]

    def available(self) -> list[str]:
        """Every target that this robot has."""
        model = self.mj
        objects = {
            "body": [model.body(i).name for i in range(1, model.nbody) if model.body_mass[i] > 0],
            "joint": list(self.spec.joint_names),
            "motor": [a.name for a in self.spec.actuators],
            "actuator": [a.name for a in self.spec.actuators],
            "world": ["gravity"],
            "timing": ["command"],
        }
        names = []
        for kind, quantity in TARGETS:
            listed = objects.get(kind) or (
                [s.signal for s in self.spec.sensors] if quantity == "noise" else list(self.spec.joint_names)
            )
            names += [f"{kind}/{obj}/{quantity}" for obj in listed]
        return names


def check_range(name: str, values: Array) -> None:
    """ConfigError when a value lies outside the target's valid range, or is not finite."""
    target = TARGETS[split(name)[0]]
    bad = ~((values >= target.low) & (values <= target.high))
    if bad.any():
        raise ConfigError(
            f"target '{name}': {values[bad][0]:g} {target.unit} is outside its valid range "
            f"[{target.low:g}, {target.high:g}]."
        )


Values = Mapping[str, Array]
"""target name -> one value per simulation, (n,)."""
