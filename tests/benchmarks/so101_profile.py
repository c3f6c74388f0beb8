"""Which ceiling of acceleration do the SO-101's recordings show? Goals through the profile, late by a pure delay.

    TERRAFIRMA_REAL_LOGS=<recordings> python tests/benchmarks/so101_profile.py

No physics and no fit: for each motion, ceilings as multiples of that of the acceleration register at 254, and none; the
best of twenty delays; RMS over the five arm joints [mrad], each joint's mean taken off. What the loop itself lags is in
the delay, so the figures tell ceilings apart, and are no prediction errors.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from held_out import folder, recordings

from robot.log import EpisodeLog
from sim.model import find_robot
from sim.profile import follow
from sim.servos import SERVOS

Array = npt.NDArray[np.float64]
STEP_S, LONGEST_S, FASTEST = 0.005, 120.0, 5.2
REGISTER = SERVOS["sts3215"].accelerations[0]
CEILINGS = {"none": None, "127": 0.5 * REGISTER, "254": REGISTER, "508": 2.0 * REGISTER}


def profile_of(goals: Array, ceiling: float | None) -> Array:
    """(n, 5) where the firmware leads the joints [rad]."""
    if ceiling is None:
        return goals
    at, speed, out = goals[0].copy(), np.zeros(goals.shape[1]), np.empty_like(goals)
    for k, goal in enumerate(goals):
        at, speed = follow(goal, at, speed, FASTEST, ceiling, STEP_S)
        out[k] = at
    return out


def best(log: EpisodeLog, joints: tuple[str, ...], ceiling: float | None) -> tuple[float, float]:
    """Least RMS [mrad] over delays, and that delay [ms]."""
    state, command = log["joint.position"], log["command.position"]
    t, q = state.seconds(), state.ordered(joints)[:, :5]
    grid = np.arange(0.0, min(t[-1], LONGEST_S), STEP_S)
    row = np.searchsorted((command.t_ns - state.t_ns[0]) * 1e-9, grid, "right") - 1
    led = profile_of(command.ordered(joints)[np.maximum(row, 0), :5], ceiling)
    inside = (t > 1.0) & (t < grid[-1])
    found = []
    for late in np.arange(0.0, 0.2, 0.01):
        error = q[inside] - np.stack([np.interp(t[inside] - late, grid, led[:, j]) for j in range(5)], axis=1)
        found.append((1e3 * float((error - error.mean(axis=0)).std()), 1e3 * float(late)))
    return min(found)


def main() -> None:
    """Print a line for each motion."""
    spec = find_robot("so101").spec
    for log in recordings(sorted(p for p in folder("so101").iterdir() if p.is_dir()), spec):
        cells = {name: best(log, spec.joint_names, ceiling) for name, ceiling in CEILINGS.items()}
        print(log.name, *(f"{name}: {rms:.1f} at {late:.0f} ms" for name, (rms, late) in cells.items()), sep="   ")


if __name__ == "__main__":
    main()
