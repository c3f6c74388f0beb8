"""The profile in which a position servo's firmware moves its goal: no faster than its ceilings, and braking in time.

sim/actuator.py steps it beside the physics. It depends on the goals alone, so logs that are played back may have it
worked out beforehand (transfer/playback.py). Batched numpy; arrays are of one shape, (n, n_actuators) say.

Fast recordings of an STS3215 that is sent goals at 50 Hz show the ceiling of its acceleration register:
docs/identification.md.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]


def follow(
    goal: Array, at: Array, speed: Array, fastest: Array | float, most: Array | float, step_s: float
) -> tuple[Array, Array]:
    """Where the profile is after `step_s`, and its speed there.

    `goal` is what was commanded [rad], `at` and `speed` the profile now; `fastest` [rad/s] and `most` [rad/s²] are the
    ceilings. The profile brakes so that it stands still at the goal, which it takes for the end of the motion.
    """
    gap = goal - at
    size = np.abs(gap)
    wanted = np.minimum(np.minimum(np.sqrt(2.0 * most * size), fastest), size / step_s)
    room = most * step_s
    speed = speed + np.minimum(np.maximum(np.sign(gap) * wanted - speed, -room), room)
    return at + speed * step_s, speed
