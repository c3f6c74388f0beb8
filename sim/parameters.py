"""Parameters: the targets in force in n simulations.

It writes the model fields of a mujoco Batch through the rows of sim.targets, and keeps the values of the outer
targets for those who simulate them. Every set() starts from the nominal, so draws never pile up over resets.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from mujoco.batch import Batch

from sim.model import Model
from sim.targets import TARGETS, Array, Ids, Target, check_ranges, split

RANK = {key: i for i, key in enumerate(TARGETS)}


@dataclass(frozen=True, slots=True)
class _Known:
    """A target's name, looked up once."""

    key: tuple[str, str]
    object: str
    column: int
    target: Target
    nominal: float


class Parameters:
    """What stands in a Batch of a Model at something else than the nominal, and the outer targets beside it."""

    def __init__(self, model: Model, batch: Batch) -> None:
        self.model, self.batch = model, batch
        self.values: dict[str, Array] = {}
        """Every target that was ever set: name -> (nsim,), in force now."""
        self.outer: dict[tuple[str, str], Array] = {
            key: np.array([[model.nominal(f"{key[0]}/{o}/{key[1]}") for o in model.objects(key)]]).repeat(batch.nsim, 0)
            for key, target in TARGETS.items()
            if target.write is None
        }
        """Outer targets: (kind, quantity) -> (nsim, n_objects), columns as model.objects(key); the same arrays always,
        read live by those who simulate the effect."""
        self._known: dict[str, _Known] = {}
        self._base: dict[str, Array] = {}
        self._derived = False

    def set(self, values: Mapping[str, Array], ids: Ids) -> None:
        """Put targets in force for some simulations; every target not named is at its nominal again.

        values: target -> (len(ids),) or a number. ConfigError for an unknown target or a value outside its range;
        nothing has changed then.
        """
        wanted = {t: _column(v, len(ids)) for t, v in values.items()}
        for name in wanted:
            self._look_up(name)
        if wanted:
            check_ranges(tuple(wanted), np.stack(list(wanted.values()), axis=1))
        self._restore(ids)
        for name in sorted(wanted, key=lambda n: RANK[self._known[n].key]):
            self._write(self._known[name], ids, wanted[name])
            self.values[name][ids] = wanted[name]
        if self._derived:
            self.batch.set_const(np.sort(ids).astype(np.int32))

    def _look_up(self, name: str) -> None:
        if name in self._known:
            return
        key, obj = split(name)
        nominal = self.model.nominal(name)
        target = TARGETS[key]
        self._known[name] = _Known(key, obj, self.model.objects(key).index(obj), target, nominal)
        self.values[name] = np.full(self.batch.nsim, nominal)
        self._derived |= target.derived
        for field in target.fields:
            source = self.model.mj.opt if field.startswith("opt.") else self.model.mj
            base = np.array(getattr(source, field.removeprefix("opt.")))
            if base.size:
                self._base[field] = base

    def _restore(self, ids: Ids) -> None:
        """Every target that was ever set to its nominal."""
        for field, base in self._base.items():
            self.batch.expand(field)[ids] = base
        for name, known in self._known.items():
            self.values[name][ids] = known.nominal
            if known.target.write is None:
                self.outer[known.key][ids, known.column] = known.nominal

    def _write(self, known: _Known, ids: Ids, values: Array) -> None:
        if known.target.write is None:
            self.outer[known.key][ids, known.column] = values
        else:
            known.target.write(self.batch, self.model, known.object, ids, values)


def _column(value: Array | float, n: int) -> Array:
    """A value for each of n simulations, (n,)."""
    values = np.asarray(value, dtype=np.float64)
    return values if values.shape == (n,) else np.broadcast_to(values, (n,))
