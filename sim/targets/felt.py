"""Which objects of a robot feel a change at all: a pendulum's mass moved along its axle changes no motion.

Rows whose effect depends on the mechanism use felt() for their `objects`, so that a target that cannot do anything
is refused by name instead of being drawn in vain.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import TYPE_CHECKING

import mujoco
import numpy as np
from mujoco.batch import Batch

from sim.targets.target import Write

if TYPE_CHECKING:
    from sim.model import Model

STATES = 4
LEAST = 1e-6
"""Relative change of an acceleration below which nobody could tell."""
FLOOR = 1e-4
"""Accelerations are compared with at least this share of the largest."""


def felt(
    write: Write, candidates: Callable[[Model], tuple[str, ...]], probe: Callable[[Model, str], float]
) -> Callable[[Model], tuple[str, ...]]:
    """Those candidates for which writing probe(model, name) changes accelerations at random states.

    Found once for each compiled model and remembered by its bytes: environments are made again and again.
    """
    known: dict[bytes, tuple[str, ...]] = {}

    def objects(model: Model) -> tuple[str, ...]:
        names = candidates(model)
        if not names:
            return ()
        compiled = _digest(model.mj)
        if compiled not in known:
            known[compiled] = moved_by(model, names)
        return known[compiled]

    def moved_by(model: Model, names: tuple[str, ...]) -> tuple[str, ...]:
        mj, n = model.mj, len(names) + 1
        batch = Batch(mj, STATES * n, 1)
        rng = np.random.default_rng(0)
        for i, name in enumerate(names):
            ids = np.arange(i + 1, STATES * n, n, dtype=np.intp)
            write(batch, model, name, ids, np.full(STATES, probe(model, name)))
        qpos = mj.qpos0 + rng.uniform(-1.0, 1.0, (STATES, 1, mj.nq))
        batch.bind("qpos").reshape(STATES, n, mj.nq)[:] = qpos
        batch.bind("qvel").reshape(STATES, n, mj.nv)[:] = rng.uniform(-3.0, 3.0, (STATES, 1, mj.nv))
        batch.bind("qfrc_applied").reshape(STATES, n, mj.nv)[:] = rng.uniform(-1.0, 1.0, (STATES, 1, mj.nv))
        acceleration = batch.bind("qacc_smooth").reshape(STATES, n, mj.nv)
        batch.set_const()
        batch.forward()
        size = np.abs(acceleration[:, :1])
        change = np.abs(acceleration[:, 1:] - acceleration[:, :1]) / np.maximum(size, FLOOR * size.max())
        return tuple(name for name, moved in zip(names, change.max(axis=(0, 2)), strict=True) if moved > LEAST)

    return objects


def _digest(mj: mujoco.MjModel) -> bytes:
    """Tells one compiled model from another, whatever they were compiled from."""
    whole = np.empty(mujoco.mj_sizeModel(mj), dtype=np.uint8)
    mujoco.mj_saveModel(mj, None, whole)
    return hashlib.blake2b(whole.tobytes(), digest_size=16).digest()
