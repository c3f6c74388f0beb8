"""What a target does: a rollout at the nominal beside one that differs in this target alone.

Both have the same seed, start states, commands and random streams, so all that differs is the target's effect: on the
states, on what the sensors read, on the torques, or on the images. A randomization whose term changes nothing here
is refused (terrafirma doctor robot=R dr=NAME); a test measures the targets that each robot has.
"""

from __future__ import annotations

import functools
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from sim.frames import Frames
from sim.model import TARGETS, Model, RobotConfig, split
from sim.plant import Plant
from sim.randomization import Randomization
from sim.render import Camera
from sim.sensor import Sensors
from sim.starts import COUNT, Starts, loose, ordinary_starts, touching_starts
from sim.targets import appearance
from sim.visual import SHAPE_FIELDS, Visual

Array = npt.NDArray[np.float64]
Values = Mapping[str, float | Array]
"""Target -> its value, or one a simulation, (COUNT,)."""
Signals = dict[str, Array]
"""Name -> (time, simulation, component)."""

SECONDS, STEPS = 0.8, (40, 80)
"""Length of a rollout, and the fewest and most control steps that it has."""
EVENTS, LONGEST = 20.0, 15
"""How many pushes a rollout should see over all simulations, and how many times as long it is made for that at most."""
EXPOSURES = 3
"""Draws of a picture whose shutter is open for a while."""
FILMED_S = 0.4
"""Time after which the robot's cameras are looked through."""
LEAST = 1e-6
"""Standardized difference below which there is nothing but rounding."""
IMAGE_SIZE = 64
DRAWS = 64
"""Draws of which the lowest and the highest are tried."""
UNITS = {
    "position": "rad", "velocity": "rad/s", "torque": "N m", "free bodies": "m, rad", "images": "of 255",
    "reading of joint.position": "rad", "reading of joint.velocity": "rad/s", "reading of joint.effort": "N m",
    "reading of imu.gyro": "rad/s", "reading of imu.accel": "m/s^2", "reading of imu.orientation": "1",
}  # fmt: skip
CONDIM = {("geom", "friction"): 3, ("geom", "torsional"): 4, ("geom", "rolling"): 6}
"""Dimensions that a contact needs to show a target."""


@dataclass(frozen=True, slots=True)
class Effect:
    """What one target does."""

    target: str
    nominal: float
    changed: tuple[float, ...]
    """The values at which it was tried."""
    signal: str
    """Where the difference was largest in comparison."""
    difference: float
    """The largest difference there, in `unit`."""
    unit: str
    standardized: float
    """The same in standard deviations of that signal over the rollout at the nominal."""
    touched: bool = True
    """Whether states were found in which it can show, where it takes a contact."""

    @property
    def felt(self) -> bool:
        """Whether it does anything, here or where it is meant to."""
        return self.standardized > LEAST or TARGETS[split(self.target)[0]].logs_only


class Rig:
    """A robot under test: some simulations, excited in all joints at once."""

    def __init__(self, robot: RobotConfig, seed: int = 0) -> None:
        self.model, self.spec, self._seed = Model(robot), robot.spec, seed
        self._plant = Plant(self.model, COUNT, nthread=1)
        self._sensors = Sensors(self.model, self._plant.outer, COUNT, self._plant.timestep)
        self._ordinary = ordinary_starts(self.model, np.random.default_rng(seed))
        self._cameras: dict[str, Camera] = {}
        self._plain: tuple[object, Starts, Signals] | None = None

    def effect(self, target: str, changed: Sequence[float], base: Values) -> Effect:
        """What `target` does at some values, everything else as in `base`; base itself may name it."""
        key, obj = split(target)
        seen = key in appearance.ROWS
        starts = self._ordinary if seen else self._starts(key, obj, base)
        steps = self._length(target, changed, base)
        filmed = key == ("camera", "latency")
        exposed = key == ("camera", "shutter")
        images = functools.partial(self._images, EXPOSURES if exposed else 1)
        signals = self._film if filmed else images if seen else functools.partial(self._rollout, steps)
        same = (seen, filmed, exposed, steps, *((name, np.asarray(value).tobytes()) for name, value in base.items()))
        if self._plain is None or self._plain[0] != same or self._plain[1] is not starts:
            self._plain = same, starts, signals(base, starts)
        found = [_largest(self._plain[2], signals({**base, target: value}, starts)) for value in changed]
        standardized, signal, difference = max(found)
        nominal = self.model.nominal(target)
        touched = starts is not self._ordinary or seen or not self._needs_touch(key, obj)
        return Effect(target, nominal, tuple(changed), signal, difference, UNITS[signal], standardized, touched)

    def _length(self, target: str, changed: Sequence[float], base: Values) -> int:
        """Control steps of a rollout: longer for pushes that are few."""
        steps, (key, obj) = _steps(self._plant.period), split(target)
        if not TARGETS[key].rare:
            return steps
        name = f"{key[0]}/{obj}/push_rate"
        rate = np.max({**base, target: np.asarray(changed)}.get(name, self.model.nominal(name)))  # [1/s]
        seen = float(rate) * steps * self._plant.period * COUNT
        return steps * int(np.clip(np.ceil(EVENTS / max(seen, 1e-9)), 1, LONGEST))

    def _needs_touch(self, key: tuple[str, str], obj: str) -> bool:
        return key[0] == "geom" or (key[0] == "body" and loose(self.model, obj))

    def _starts(self, key: tuple[str, str], obj: str, base: Values) -> Starts:
        """States from which the target can be seen: for geoms and loose bodies in touch, where such are found."""
        if not self._needs_touch(key, obj):
            return self._ordinary
        self._set(base)
        mj, moving, rng = self._plant.batch.get_model(0), key[0] == "body", np.random.default_rng(self._seed)
        geom = mj.geom(int(mj.body_geomadr[mj.body(obj).id])).name if moving else obj
        return touching_starts(self.model, mj, geom, CONDIM.get(key, 1), rng, moving) or self._ordinary

    def _set(self, values: Values) -> None:
        self._plant.set({name: np.broadcast_to(value, (COUNT,)) for name, value in values.items()})

    def _begin(self, values: Values, starts: Starts) -> None:
        plant = self._plant
        plant.seed(self._seed)
        self._set(values)
        plant.reset(starts.position, starts.velocity, None, starts.poses, starts.twists)

    def _rollout(self, steps: int, values: Values, starts: Starts) -> Signals:
        """States, readings and torques over time."""
        plant, rng = self._plant, np.random.default_rng(self._seed)
        self._begin(values, starts)
        self._sensors.refresh()
        self._sensors.reset(plant.truth(), np.arange(COUNT))
        rows: list[dict[str, Array]] = []
        for command in _commands(self.model, starts.position, plant.period, steps, self._seed):
            plant.step(command, record="truth" if self._sensors.delayed else False)
            if self._sensors.delayed:
                for j in range(plant.substeps):
                    self._sensors.push({signal: values[:, j] for signal, values in plant.trace.items()})
            else:
                self._sensors.push(plant.truth())
            read = self._sensors.read(rng, self._sensors.signals, slice(None), plant.period)
            row = {f"reading of {signal}": np.array(value) for signal, value in read.items()}
            row |= {"position": plant.position, "velocity": plant.velocity, "torque": plant.effort.copy()}
            rows.append(row | {"free bodies": self._free()})
        return {name: np.stack([row[name] for row in rows]) for name in rows[0]}

    def _free(self) -> Array:
        """(n, k) positions of everything that is no joint of the robot."""
        others = np.setdiff1d(np.arange(self.model.mj.nq), self.model.qpos_index)
        return self._plant.qpos[:, others]

    def _film(self, values: Values, starts: Starts) -> Signals:
        """What the robot's own cameras let see after some motion, at their rate and with their latency."""
        plant, names = self._plant, tuple(c.name for c in self.spec.cameras)
        self._begin(values, starts)
        frames = Frames(self.model, names, COUNT, plant.period, nthread=1)
        frames.reset(plant.qpos, np.arange(COUNT))
        steps = int(np.ceil(FILMED_S / plant.period))
        for command in _commands(self.model, starts.position, plant.period, steps, self._seed):
            plant.step(command)
            frames.push(plant.qpos)
        frames.update(np.full(COUNT, steps), plant.outer, np.random.default_rng(self._seed))
        return {"images": np.concatenate([i.reshape(1, COUNT, -1) for i in frames.inputs.values()], axis=2) * 1.0}

    def _images(self, exposures: int, values: Values, starts: Starts) -> Signals:
        """One image a simulation by each camera of the MJCF, the mean of some `exposures` while the robot moves; the
        rays' renderer works everywhere."""
        self._begin(values, starts)
        if not self._cameras:
            visual, size = Visual(self.model, 1), (IMAGE_SIZE, IMAGE_SIZE)
            names = [self.model.mj.camera(i).name for i in range(self.model.mj.ncam)]
            self._cameras = {n: Camera(self.model, n, *size, renderer="ray", nthread=1, visual=visual) for n in names}
        plant, taken = self._plant, []
        fields = {field for name in values for field in TARGETS[split(name)[0]].fields} & set(SHAPE_FIELDS)
        for camera in self._cameras.values():
            rng = np.random.default_rng(self._seed)
            if exposures > 1:
                look = camera.look(plant.outer)
                rgb = camera.expose(plant.qpos, plant.qvel, look, rng, exposures, plant.batch, fields)
            else:
                rgb = camera.render(plant.qpos, ("rgb",), plant.outer, rng=rng, source=plant.batch, fields=fields)[
                    "rgb"
                ]
            taken.append(rgb.reshape(COUNT, -1))
        return {"images": np.stack(taken).astype(np.float64)}


def _largest(plain: Signals, changed: Signals) -> tuple[float, str, float]:
    """(standardized, signal, difference) of the largest standardized difference."""
    found = []
    for name, before in plain.items():
        if not before.size:
            continue
        difference = np.abs(changed[name] - before)
        spread = before.std() if name == "images" else before.std(axis=(0, 1))
        # a signal that hardly moves at the nominal is not compared with nothing
        share = difference / np.maximum(spread, 1e-6 + 1e-3 * np.max(spread))
        at = np.unravel_index(np.argmax(share), share.shape)
        found.append((float(share[at]), name, float(difference[at])))
    return max(found)


def _steps(period_s: float) -> int:
    """Control steps of a rollout."""
    return int(np.clip(round(SECONDS / period_s), *STEPS))


def _commands(model: Model, position: Array, period_s: float, steps: int, seed: int) -> Array:
    """(steps, n, n_joints) sines of 1 to 4 Hz, each joint with its own, in the unit of its actuator's kind."""
    rng, spec = np.random.default_rng(seed), model.spec
    shape = (1, *position.shape)
    angle = 2 * np.pi * (rng.uniform(1.0, 4.0, shape) * period_s * np.arange(steps)[:, None, None] + rng.random(shape))
    commands = np.zeros((steps, *position.shape))
    for joint, actuator in zip(spec.driven, spec.actuators, strict=True):
        wave = np.sin(angle[:, :, joint])
        voltage = model.mj.actuator(actuator.name).ctrlrange[1] or 24.0
        limit = {
            "torque": 0.8 * actuator.effort_limit,
            "velocity": 0.5 * spec.joints[joint].velocity_limit,
            "dcmotor": 0.8 * voltage,
            # so far that the torque reaches its limit
            "position_pd": max(0.5, 1.2 * actuator.effort_limit / actuator.kp) if actuator.kp else 0.5,
        }[actuator.kind]
        commands[:, :, joint] = limit * wave + (position[:, joint] if actuator.kind == "position_pd" else 0.0)
    return commands


def needed(model: Model, target: str) -> dict[str, float | Array]:
    """What must stand at something for a target to be felt, among what the robot has; by Target.needs."""
    key, obj = split(target)
    found: dict[str, float | Array] = {}
    for what, value in TARGETS[key].needs:
        name = what.format(obj) if "/" in what else f"{key[0]}/{obj}/{what}"
        other, object_name = split(name)
        if object_name in model.objects(other):
            found[name] = value
    return found


def effects(robot: RobotConfig, randomization: Randomization, seed: int = 0) -> list[Effect]:
    """What each target of a randomization does at its lowest and highest of some draws, among draws of the others.

    ConfigError when it names a target that the robot lacks.
    """
    rig, rng = Rig(robot, seed), np.random.default_rng(seed)
    randomization.check(rig.model)
    base, drawn = (randomization.draw(rig.model, rng, n) for n in (COUNT, DRAWS))
    found = []
    for target in randomization.targets:
        around: dict[str, float | Array] = {**base, target: rig.model.nominal(target)}
        extremes = sorted({float(drawn[target].min()), float(drawn[target].max())})
        found.append(rig.effect(target, extremes, around))
    return found


def survey(robot: RobotConfig, seed: int = 0, one_each: bool = False) -> list[Effect]:
    """What half as much more of each target that the robot has does, or half as much less where that does nothing.

    `one_each`: of one object of each quantity alone, another one in each robot: a hash picks it.
    """
    rig, found = Rig(robot, seed), []
    for key, row in TARGETS.items():
        objects = rig.model.objects(key)
        if one_each and objects:
            objects = (objects[zlib.crc32(f"{robot.spec.name}{key}".encode()) % len(objects)],)
        for obj in objects:
            name = "/".join((key[0], obj, key[1]))
            base = needed(rig.model, name)
            tried = (rig.effect(name, [value], base) for value in row.probes(rig.model.nominal(name)))
            effect = next(tried, None)
            if effect is not None:
                found.append(effect if effect.felt else next(tried, effect))
    return found
