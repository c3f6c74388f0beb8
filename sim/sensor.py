"""What lies between the physics and a reading: joint zero, noise, quantization. Batched numpy."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]


def quantize(value: Array, resolution: float) -> Array:
    """Round to the middle of the nearest count, as a 2^n-1 scale over a symmetric range does (zero reads half a count).

    `resolution` is the step in the value's unit; 0 leaves the value as it is. Matches the MIT CAN logs, whose
    zero reads plus or minus half a count.
    """
    if resolution <= 0.0:
        return value
    return (np.floor(value / resolution) + 0.5) * resolution


def read(value: Array, resolution: float, noise: Array | float, rng: np.random.Generator) -> Array:
    """A noisy, quantized reading of `value` (n, n_joints); `noise` is a standard deviation that broadcasts."""
    if np.any(noise):
        value = value + np.asarray(noise) * rng.standard_normal(value.shape)
    return quantize(value, resolution)
