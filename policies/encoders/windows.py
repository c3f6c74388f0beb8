"""WindowData: windows of past, present and future cut from trajectories, simulated or recorded.

Encoders are trained, probed and adapted on these; where the trajectories came from is not visible here. A
history row holds an observation and the action that followed it, as robot.observation.Observation keeps it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np
import numpy.typing as npt

Float = npt.NDArray[np.float32]
Ids = npt.NDArray[np.intp]


@dataclass(frozen=True, kw_only=True, slots=True)
class WindowData:
    """N windows. H past steps, F future steps, D components, A actions, K = D + A, P parameters."""

    history: Float
    """(N, H, K), newest row last, 0 before the episode began."""
    mask: Float
    """(N, H), 1 where the row is real."""
    observation: Float
    """(N, D) at the window's present."""
    action: Float
    """(N, F, A) from the present on."""
    future: Float
    """(N, F, D) observations after each of those actions."""
    base: Float | None = None
    """(N, F, D) what a simulator foretells of the same, open loop from the present: predictions stand on it."""
    group: Ids
    """(N,) which simulation or log a window is from: splits and intervals go by it, windows of one overlap."""
    parameters: npt.NDArray[np.float64]
    """(N, P) physical parameters of that simulation; P is 0 for recordings."""
    names: tuple[str, ...] = ()
    """Names of the parameters."""
    units: tuple[str, ...] = ()
    simulator: Mapping[str, float] | None = None
    """Target -> value of the simulator that made `base`; those not named are at the robot's nominal."""
    equations: Mapping[str, npt.NDArray[np.float64]] | None = None
    """Buffer of policies.encoders.foreseen.Foreseen -> coefficients and their slopes; None where not known."""

    def __len__(self) -> int:
        return len(self.observation)

    def take(self, rows: npt.NDArray[np.bool_] | Ids) -> WindowData:
        """Some of the windows."""
        return replace(self, **{name: array[rows] for name, array in self.arrays().items()})

    def arrays(self) -> dict[str, Any]:
        """Field -> array of N rows, of those that are there."""
        rows = {
            f.name: getattr(self, f.name)
            for f in fields(self)
            if f.name not in ("names", "units", "simulator", "equations")
        }
        return {name: array for name, array in rows.items() if array is not None}

    def earlier(self, count: int) -> tuple[Float, Float]:
        """The actions (N, count, A) just before the present, oldest first, and (N, count) 1 where there was one."""
        known = self.history[:, -count:, self.observation.shape[1] :], self.mask[:, -count:]
        short = count - known[1].shape[1]
        return np.pad(known[0], ((0, 0), (short, 0), (0, 0))), np.pad(known[1], ((0, 0), (short, 0)))

    def split(self, share: float, rng: np.random.Generator) -> tuple[WindowData, WindowData]:
        """(rest, held out): about `share` of the groups, and at least one of two or more, is held out whole."""
        groups = np.unique(self.group)
        count = min(max(round(share * len(groups)), 1), max(len(groups) - 1, 0))
        held = np.isin(self.group, rng.permutation(groups)[:count])
        return self.take(~held), self.take(held)


def cut(
    observation: Float,
    action: Float,
    start: npt.NDArray[np.bool_],
    *,
    history: int,
    horizon: int,
    count: int,
    rng: np.random.Generator,
    group: int = 0,
    parameters: npt.NDArray[np.float64] | None = None,
    names: tuple[str, ...] = (),
    units: tuple[str, ...] = (),
) -> WindowData:
    """Cut `count` windows at random rows of each of n trajectories.

    observation (n, T, D), action (n, T, A) that followed each, start (n, T) true where an episode begins;
    parameters (n, P). Windows never reach over a start; a trajectory without room for one gives none. `group` is
    the number of the first trajectory.
    """
    n, length = observation.shape[:2]
    if length <= horizon:
        raise ValueError(f"trajectories of {length} rows are too short for a horizon of {horizon} steps")
    row = np.arange(length)
    began = np.maximum.accumulate(np.where(start, row, 0), axis=1)
    ends = began[:, horizon:] == began[:, : length - horizon]  # no start within the horizon
    weights = ends / np.maximum(ends.sum(axis=1, keepdims=True), 1)
    usable = np.flatnonzero(ends.any(axis=1))
    drawn = [rng.choice(length - horizon, count, p=weights[i]) for i in usable]
    t = np.concatenate([*drawn, np.zeros(0, dtype=np.intp)])
    who = np.repeat(usable, count)
    past = t[:, None] + np.arange(-history, 0)
    mask = past >= began[who, t][:, None]
    rows = np.concatenate([observation, action], axis=2)[who[:, None], np.maximum(past, 0)] * mask[..., None]
    ahead = t[:, None] + np.arange(horizon)
    labels = np.zeros((n, 0)) if parameters is None else parameters
    return WindowData(
        history=rows.astype(np.float32),
        mask=mask.astype(np.float32),
        observation=observation[who, t],
        action=action[who[:, None], ahead],
        future=observation[who[:, None], ahead + 1],
        group=group + who,
        parameters=labels[who],
        names=names,
        units=units,
    )


def join(parts: Sequence[WindowData]) -> WindowData:
    """One data set of several with the same layout and parameters, all of them with a base or none."""
    arrays = [part.arrays() for part in parts]
    joined: dict[str, Any] = {name: np.concatenate([a[name] for a in arrays]) for name in arrays[0]}
    return replace(parts[0], **joined)
