"""What an encoder looks at: integrated gradients over any input, occlusion maps over images.

Both take the network as a plain function, so that a new kind of encoder needs nothing here: say which outputs are to
be explained, and what an input without information looks like.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional

Array = npt.NDArray[np.float64]
Function = Callable[[Tensor], Tensor]

MOST_STEPS = 256
"""Points on the path at which the refinement gives up and the gap is reported as it is."""
AT_ONCE = 128
"""Inputs, those of all points together, that a network is given at a time."""


@dataclass(frozen=True, slots=True)
class Attribution:
    """Integrated gradients of K outputs over N inputs."""

    values: Array
    """(K, N, ...) share of each input number in `output(input) - output(baseline)`; they add up to it."""
    difference: Array
    """(K, N) that difference, from two plain evaluations."""
    steps: int
    """Points on the path that were needed."""

    @property
    def gap(self) -> Array:
        """(K,) how far the sums are from the differences: root mean square over that of the differences.

        0 where an output never differs: there is nothing to explain.
        """
        sums = self.values.reshape(*self.difference.shape, -1).sum(axis=2)
        size = np.sqrt(np.square(self.difference).mean(axis=1))
        missed = np.sqrt(np.square(sums - self.difference).mean(axis=1))
        return np.where(size > 1e-9, missed / np.maximum(size, 1e-9), 0.0)


def integrated_gradients(
    function: Function, inputs: Tensor, baseline: Tensor, *, tolerance: float = 0.02, steps: int = 32
) -> Attribution:
    """Attribute `function` (N, ...) -> (N, K) at `inputs` (N, ...) against `baseline`, which broadcasts to them.

    The path is refined by doubling `steps` until the sums agree with the differences within `tolerance`, or
    MOST_STEPS is reached: look at Attribution.gap before believing a figure. The points crowd at the baseline, where a
    normalized or regressing network changes fastest. Source: Sundararajan et al., Axiomatic Attribution, ICML 2017.
    """
    baseline = baseline.expand_as(inputs).detach()
    with torch.no_grad():
        difference = (function(inputs) - function(baseline)).T.numpy().astype(np.float64)
    while True:
        found = Attribution(_path_integral(function, inputs.detach(), baseline, steps), difference, steps)
        if found.gap.max(initial=0.0) <= tolerance or 2 * steps > MOST_STEPS:
            return found
        steps *= 2


def _path_integral(function: Function, inputs: Tensor, baseline: Tensor, steps: int) -> Array:
    """(K, N, ...) by Gauss-Legendre quadrature in u, the path's place being u cubed.

    Many points at a time: a network on a few inputs costs little more than its operations cost to begin.
    """
    nodes, weights = np.polynomial.legendre.leggauss(steps)
    u = 0.5 * (nodes + 1.0)
    places, weights = torch.from_numpy(u**3).to(inputs.dtype), 0.5 * weights * 3.0 * u**2
    away = inputs - baseline
    at_once = max(AT_ONCE // len(inputs), 1)
    total: Array = np.zeros(())
    for begin in range(0, steps, at_once):
        some = slice(begin, begin + at_once)
        at = (baseline + places[some].reshape(-1, *(1,) * away.ndim) * away).requires_grad_(True)
        outputs = torch.vmap(function)(at)  # (points, N, K)
        count = outputs.shape[2]
        for_each = [
            torch.autograd.grad(outputs[..., k].sum(), at, retain_graph=k + 1 < count)[0].numpy().astype(np.float64)
            for k in range(count)
        ]
        total = total + np.stack([np.tensordot(weights[some], gradients, axes=1) for gradients in for_each])
    return total * away.numpy().astype(np.float64)


def occlusion(function: Function, images: Tensor, patch: int, stride: int) -> Array:
    """(N, rows, columns) how far the outputs of `function` (N, 3, h, w) uint8 -> (N, K) move when a patch is hidden.

    A square of side `patch` [pixel] takes the mean colour of its image, at every `stride` pixels; the distance is
    Euclidean over the K outputs, so give outputs of one unit. Every pixel is hidden at least once.
    Source: Zeiler and Fergus, Visualizing and Understanding Convolutional Networks, ECCV 2014.
    """
    height, width = images.shape[2:]
    tops, lefts = _corners(height, patch, stride), _corners(width, patch, stride)
    colour = images.float().mean(dim=(2, 3), keepdim=True).round().to(torch.uint8)
    out = np.zeros((len(images), len(tops), len(lefts)))
    with torch.no_grad():
        whole = function(images)
        for i, top in enumerate(tops):
            for j, left in enumerate(lefts):
                hidden = images.clone()
                hidden[:, :, top : top + patch, left : left + patch] = colour
                out[:, i, j] = (function(hidden) - whole).norm(dim=1).numpy()
    return out


def _corners(size: int, patch: int, stride: int) -> list[int]:
    last = max(size - patch, 0)
    return sorted({*range(0, last + 1, stride), last})


def spread_over(maps: Array, height: int, width: int) -> Array:
    """Occlusion maps (N, rows, columns) -> (N, height, width), smooth, each from 0 to 1."""
    grown = functional.interpolate(torch.from_numpy(maps)[:, None], (height, width), mode="bilinear")[:, 0].numpy()
    peak = grown.max(axis=(1, 2), keepdims=True)
    return np.asarray(grown / np.maximum(peak, 1e-9), dtype=np.float64)
