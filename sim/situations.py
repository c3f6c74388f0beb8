"""States worth a picture: n short simulations of a robot under random commands, with rare events made on purpose.

Each simulation begins somewhere in the robot's range, clear of contacts, runs for a moment under a random command, and
yields one state. To add an event: its row in EVENTS; its `prepare` changes starts and commands so that it will happen,
and `flag` names the measured label by which the moment is chosen.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import mujoco
import numpy as np
import numpy.typing as npt

from sim.model import Model
from sim.plant import Plant
from sim.tasks import Task

Array = npt.NDArray[np.float64]
Flags = npt.NDArray[np.bool_]
Ids = npt.NDArray[np.intp]

MOMENTS = 4
"""States looked at in each simulation."""
MOMENT_S = 0.02
NEAR_LIMIT = 0.02
"""Share of a joint's travel that counts as being at its limit."""
SATURATED = 0.98
"""Share of the effort limit that counts as saturation."""
CLEAR_M = 1e-3
"""Penetration [m] above which a start is not clear of contacts."""
CANDIDATES = 8
STANDING = 0.8
"""Share of the starts at which a robot with a free base touches the ground."""
PULL_RAD = 0.1
"""How far from where they are position-controlled joints are asked to go."""


@dataclass(slots=True)
class Begin:
    """Starts and commands of n simulations; events change them in place."""

    qpos: Array
    """(n, nq)"""
    qvel: Array
    """(n, nv)"""
    command: Array
    """(n, n_joints) held throughout, in the unit of each actuator."""


@dataclass(slots=True)
class States:
    """n states, and what is true of them."""

    qpos: Array
    qvel: Array
    effort: Array
    """(n, n_joints) [N m]"""
    command: Array
    """(n, n_joints)"""
    flags: dict[str, Flags] = field(default_factory=dict)
    """Label -> (n,): `at_limit`, `impact`, `saturated`, `contact`."""


class Situations:
    """Makes States of one robot, n at a time."""

    def __init__(self, model: Model, n: int, task: Task | None = None, nthread: int = 1) -> None:
        """With a `task` simulations begin where its training episodes do, else anywhere in the robot's range."""
        self.model, self.n, self.task = model, n, task
        step = model.robot.model.timestep_s
        self.plant = Plant(model, n, period_s=step * max(1, round(MOMENT_S / step)), nthread=nthread)
        self._ncon = self.plant.batch.bind("ncon")
        self._probe = mujoco.MjData(model.mj)
        joints = model.spec.joints
        limits = np.array([j.position_limits for j in joints])
        self.limited = np.flatnonzero(np.isfinite(limits).all(axis=1))
        self.low, self.high = np.where(np.isfinite(limits), limits, [[-np.pi, np.pi]]).T
        self._rest = model.spec.default_pose
        self.by_position = self.plant.rest_command(np.ones((1, len(joints))))[0] > 0.0
        """(n_joints,) whether commands are positions."""
        self._free = [int(model.mj.jnt_qposadr[i]) for i in range(model.mj.njnt) if model.mj.jnt_type[i] == 0]
        base = int(model.mj.body_rootid[model.mj.jnt_bodyid[model.mj.joint(joints[0].name).id]])
        self.base = next((i for i in self._free if int(model.mj.jnt_bodyid[self._joint_at(i)]) == base), None)
        """Where in qpos the robot's own free joint begins; None for a robot that stands fast."""
        contacts = not model.mj.opt.disableflags & mujoco.mjtDisableBit.mjDSBL_CONTACT.value
        self.touches = bool(contacts and model.mj.geom_contype.any())
        """Whether anything can touch anything."""

    def _joint_at(self, address: int) -> int:
        return int(np.flatnonzero(self.model.mj.jnt_qposadr == address)[0])

    def draw(self, events: npt.NDArray[np.str_], rng: np.random.Generator) -> States:
        """One state a simulation; `events` (n,) names of EVENTS, or "" for an ordinary one.

        The parameters in force in `self.plant` are the caller's.
        """
        begin = self._begin(rng)
        for name, event in EVENTS.items():
            if (ids := np.flatnonzero(events == name)).size:
                event.prepare(self, begin, ids, rng)
        self._start(begin)
        return self._choose(self._run(begin), events, rng)

    def _begin(self, rng: np.random.Generator) -> Begin:
        mj, spec, n = self.model.mj, self.model.spec, self.n
        qpos, qvel = np.tile(mj.qpos0, (n, 1)), np.zeros((n, mj.nv))
        if self.task is not None:
            start = self.task.explore(rng, n)
            qpos[:, self.model.qpos_index], qvel[:, self.model.dof_index] = start.position, start.velocity
            for name, pose in start.poses.items():
                at = int(mj.joint(name).qposadr[0])
                qpos[:, at : at + 7] = pose
            for name, twist in start.twists.items():
                at = int(mj.joint(name).dofadr[0])
                qvel[:, at : at + 6] = twist
        else:
            speed = np.array([j.velocity_limit for j in spec.joints])
            qvel[:, self.model.dof_index] = 0.2 * speed * rng.uniform(-1.0, 1.0, (n, len(speed)))
            self._scatter(qpos, rng)
        command = self.plant.rest_command(qpos[:, self.model.qpos_index])
        command += rng.uniform(-1.0, 1.0, command.shape) * np.where(self.by_position, PULL_RAD, spec.effort_limits)
        return Begin(qpos, qvel, command)

    def _scatter(self, qpos: Array, rng: np.random.Generator) -> None:
        """Poses all over the range, those of limited joints denser near the default, and clear of contacts where one of
        some candidates is."""
        for i in range(self.n):
            best = None
            for _ in range(CANDIDATES):
                candidate = self.pose(qpos[i], rng)
                depth = self.penetration(candidate)
                if best is None or depth < best[0]:
                    best = depth, candidate
                if depth <= CLEAR_M:
                    break
            assert best is not None
            qpos[i] = best[1]
            if self.base is not None and self.touches and rng.random() < STANDING:
                qpos[i] = self.lowered(best[1])

    def lowered(self, qpos: Array) -> Array:
        """(nq,) with the robot's free base let down until something touches."""
        assert self.base is not None
        down = np.zeros(len(qpos))
        down[self.base + 2] = -1.0
        return self.towards(qpos, qpos + down)

    def towards(self, clear: Array, hit: Array) -> Array:
        """(nq,) the last state on the straight way from `clear` to `hit` that touches nothing, to 1/256 of it."""
        for _ in range(8):
            middle = 0.5 * (clear + hit)
            clear, hit = (middle, hit) if self.penetration(middle) <= 0.0 else (clear, middle)
        return clear

    def pose(self, start: Array, rng: np.random.Generator) -> Array:
        """(nq,) a random pose, clear of contacts or not."""
        out = start.copy()
        anywhere = rng.uniform(self.low, self.high)
        share = np.ones(len(anywhere))
        share[self.limited] = rng.random()
        out[self.model.qpos_index] = self._rest + share * (anywhere - self._rest)
        for at in self._free:
            own, turn = at == self.base, np.empty(4)
            out[at : at + 2] += rng.uniform(-0.1, 0.1, 2)
            tilt = rng.uniform(-0.3, 0.3, 2) if own else np.zeros(2)
            out[at + 2] += rng.uniform(0.0, 0.15) if own else 0.0
            mujoco.mju_euler2Quat(turn, np.array([rng.uniform(-np.pi, np.pi), *tilt]), "zyx")
            out[at + 3 : at + 7] = turn
        return out

    def penetration(self, qpos: Array) -> float:
        """Depth [m] of the deepest contact in a state; 0 without one."""
        if not self.touches:
            return 0.0
        data = self._probe
        data.qpos[:] = qpos
        mujoco.mj_kinematics(self.model.mj, data)
        mujoco.mj_comPos(self.model.mj, data)
        mujoco.mj_collision(self.model.mj, data)
        return max(0.0, -float(data.contact.dist.min())) if data.ncon else 0.0

    def _start(self, begin: Begin) -> None:
        index, dofs = self.model.qpos_index, self.model.dof_index
        self.plant.reset(begin.qpos[:, index], begin.qvel[:, dofs])
        self.plant.qpos[:], self.plant.qvel[:] = begin.qpos, begin.qvel

    def _run(self, begin: Begin) -> States:
        """The states at all moments, (n, MOMENTS, ...), with their flags."""
        plant, mj, shape = self.plant, self.model.mj, (self.n, MOMENTS)
        out = States(
            np.empty((*shape, mj.nq)), np.empty((*shape, mj.nv)), np.empty((*shape, len(self.model.spec.joints))),
            begin.command,
        )  # fmt: skip
        touching = np.zeros((self.n, MOMENTS + 1), dtype=np.int64)
        plant.batch.forward(stage=mujoco.mjtStage.mjSTAGE_POS.value)
        touching[:, 0] = self._ncon
        for k in range(MOMENTS):
            plant.step(begin.command)
            out.qpos[:, k], out.qvel[:, k], out.effort[:, k] = plant.qpos, plant.qvel, plant.effort
            touching[:, k + 1] = self._ncon
        out.flags = {
            "at_limit": self._at_limit(out.qpos[..., self.model.qpos_index]),
            "impact": np.diff(touching, axis=1) > 0,
            "contact": touching[:, 1:] > 0,
            "saturated": self._saturated(out.effort),
        }
        return out

    def _at_limit(self, position: Array) -> Flags:
        margin = NEAR_LIMIT * (self.high - self.low)
        at = (position <= self.low + margin) | (position >= self.high - margin)
        return np.asarray(at[..., self.limited].any(axis=-1))

    def _saturated(self, effort: Array) -> Flags:
        limits = self.model.spec.effort_limits
        return np.asarray(((np.abs(effort) >= SATURATED * limits) & (limits > 0.0)).any(axis=-1))

    def _choose(self, run: States, events: npt.NDArray[np.str_], rng: np.random.Generator) -> States:
        """Of each simulation the first moment at which its event happens, or any."""
        moment = rng.integers(0, MOMENTS, self.n)
        for name, event in EVENTS.items():
            if event.flag in run.flags:
                happens = run.flags[event.flag] & (events == name)[:, None]
                moment = np.where(happens.any(axis=1), happens.argmax(axis=1), moment)
        pick = np.arange(self.n), moment
        flags = {name: values[pick] for name, values in run.flags.items()}
        return States(run.qpos[pick], run.qvel[pick], run.effort[pick], run.command, flags)


def _to_limit(made: Situations, begin: Begin, ids: Ids, rng: np.random.Generator) -> None:
    """One joint at an end of its travel, and pushed against it."""
    spec = made.model.spec
    for i in ids:
        joint, side = int(rng.choice(made.limited)), rng.random() < 0.5
        end = made.high[joint] if side else made.low[joint]
        begin.qpos[i, made.model.qpos_index[joint]] = end
        begin.qvel[i, made.model.dof_index[joint]] = 0.0
        push = (1.0 if side else -1.0) * spec.effort_limits[joint]
        begin.command[i, joint] = end if made.by_position[joint] else push


def _to_impact(made: Situations, begin: Begin, ids: Ids, rng: np.random.Generator) -> None:
    """A robot that stands free falls on its feet; another one is about to hit something, and driven there."""
    model, index = made.model, made.model.qpos_index
    for i in ids:
        if made.base is not None:
            begin.qpos[i] = made.lowered(begin.qpos[i])
            begin.qpos[i, made.base + 2] += rng.uniform(0.001, 0.02)
            continue
        hit = begin.qpos[i].copy()
        hit[index] = max((made.pose(hit, rng) for _ in range(2 * CANDIDATES)), key=made.penetration)[index]
        begin.qpos[i] = made.towards(begin.qpos[i], hit)
        way = hit[index] - begin.qpos[i, index]
        way /= max(float(np.abs(way).max()), 1e-9)
        begin.qvel[i, model.dof_index] = way
        begin.command[i] = np.where(made.by_position, begin.qpos[i, index] + 0.3 * way, way * model.spec.effort_limits)
        begin.qpos[i, index] -= 0.02 * way


def _to_saturation(made: Situations, begin: Begin, ids: Ids, rng: np.random.Generator) -> None:
    """Motors asked for all that they have."""
    spec = made.model.spec
    side = rng.choice([-1.0, 1.0], (len(ids), len(spec.joints)))
    far = np.where(side > 0.0, made.high, made.low)
    begin.command[ids] = np.where(made.by_position, far, side * spec.effort_limits)


def _as_it_is(made: Situations, begin: Begin, ids: Ids, rng: np.random.Generator) -> None:
    """Nothing about the state: the picture makes the event."""


@dataclass(frozen=True, slots=True)
class Event:
    """A rare event, and how it is brought about."""

    prepare: Callable[[Situations, Begin, Ids, np.random.Generator], None]
    flag: str
    """Label that is measured, and true where the event happened."""
    applies: Callable[[Situations], bool]
    """Whether this robot can have it."""


EVENTS: Mapping[str, Event] = {
    "limit": Event(_to_limit, "at_limit", lambda made: bool(made.limited.size)),
    "impact": Event(_to_impact, "impact", lambda made: made.touches),
    "saturation": Event(_to_saturation, "saturated", lambda made: bool(made.model.spec.effort_limits.any())),
    "occlusion": Event(_as_it_is, "occluded", lambda made: True),
}
