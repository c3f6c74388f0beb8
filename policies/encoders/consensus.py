"""Labels that pictures give themselves: what an encoder says of turned copies, made consistent over time and shape.

Three things are known of a body that turns about a pivot, without any label: a turned copy of a picture must get the
turned answer; the end runs on a circle about the pivot, which itself hardly moves in the picture; and the angle is
smooth in time. What the encoder says is averaged over the copies, robustly, and forced to agree with the other two; a
frame where they disagree counts little. The circle is worth most: an encoder that looks for the pivot a little beside
it errs by degrees, and the same way in every copy. Labels of some frames tell where the pivot is, too: taken alone
they would teach how to correct their own poses. Keypoints 0 and 1 are pivot and end.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

from policies.encoders.vision import VisionEncoder
from policies.encoders.warp import Motion, pixels, reduced

Array = npt.NDArray[np.float64]
Images = npt.NDArray[np.uint8]

COPIES = 8
"""Turned copies of each picture."""
SPAN = 3
"""Frames before and after that say how a frame's angle should go on."""
PIVOT_S = 0.5
"""The pivot's place is the median over this long before and after [s]: a camera in the hand drifts slowly."""
TRUSTED = math.radians(4.0)
"""Disagreement of the copies, or with the neighbours in time [rad], at which a frame counts half."""
BESIDE, OFF = 0.06, 0.02
"""Expected of an encoder that was trained elsewhere: how far beside the true pivot it looks for it always, and how far
the end is off in one pose [halves of the picture's height]."""
POSE = math.radians(10.0)
"""Frames within this count together as one pose in the fit of the circle, however long the body rests there."""
STALE = 0.25
"""A picture that differs from the one before by less than this share of the usual is a repeat of it."""


@dataclass(frozen=True, slots=True)
class Consensus:
    """What N pictures say together."""

    keypoints: Array
    """(N, 2, 2) pivot and end, in [-1, 1] of the picture."""
    angle: Array
    """(N,) of the picture [rad]."""
    weight: Array
    """(N,) from 0 to 1: how far it is to be trusted."""
    spread: Array
    """(N,) disagreement among the copies [rad], robust."""


def look(encoder: VisionEncoder, images: Images, copies: int, turn: float, generator: torch.Generator) -> Array:
    """(copies, N, K, 2) keypoints by turned and shifted copies of the pictures (N, 3, n h, n w), turned back.

    The first copy is the picture itself.
    """
    card, out = encoder.card, []
    aspect = card.width / card.height
    with torch.no_grad():
        for copy in range(copies):
            answers = []
            for first in range(0, len(images), 128):
                batch = torch.from_numpy(images[first : first + 128])
                if copy == 0:
                    answers.append(encoder(pixels(reduced(batch, card.height, card.width))).keypoints)
                    continue
                motion = Motion.draw(len(batch), generator, turn=turn, shift=0.06, aspect=aspect)
                moved = motion.images(batch, card.height, card.width)
                answers.append(motion.back(encoder(pixels(moved)).keypoints))
            out.append(torch.cat(answers))
    return torch.stack(out).numpy().astype(np.float64)


def agree(answers: Array, seconds: Array, fresh: npt.NDArray[np.bool_], known: Array, aspect: float = 1.0) -> Consensus:
    """The consensus of look()'s answers (copies, N, K, 2) on frames at `seconds` (N,), in order.

    `fresh` (N,) is False where a frame repeats the one before: it has the place of that one, and says nothing of time.
    `known` (N,) are labels [rad], NaN where there is none; they are taken as they are.
    """
    scale = np.array([aspect, 1.0])
    points = answers[:, :, :2] * scale
    pivot = _slow(np.median(points[:, :, 0], axis=0), seconds)
    beside, length = _circle(np.median(points[:, :, 1], axis=0) - pivot, known)
    told = np.isfinite(known)
    pivot = pivot + beside
    arm = points[:, :, 1] - pivot
    reach = np.hypot(arm[..., 0], arm[..., 1])
    unit = (arm[..., 0] * 1j + arm[..., 1]) / np.maximum(reach, 1e-9)
    middle = _robust_direction(unit)
    spread = np.median(np.abs(np.angle(unit * middle.conj())), axis=0)
    stretch = np.log(np.maximum(np.median(reach, axis=0), 1e-9) / length)
    trust = 1.0 / (1.0 + np.square(spread / TRUSTED)) / (1.0 + np.square(stretch / 0.15))
    trust[told] = 1.0
    angle = np.where(told, known, np.angle(middle))
    smooth = np.array([_of_neighbours(i, seconds, angle, trust, fresh) for i in range(len(angle))])
    apart = np.abs(np.angle(np.exp(1j * (angle - smooth))))
    share = 1.0 / (1.0 + np.square(apart / TRUSTED))
    share[told] = 1.0
    blended = np.angle(share * np.exp(1j * angle) + (1.0 - share) * np.exp(1j * smooth))
    end = pivot + length * np.stack([np.sin(blended), np.cos(blended)], axis=1)
    keypoints = np.stack([pivot, end], axis=1) / scale
    return Consensus(keypoints, blended, trust * share, spread)


def _circle(arm: Array, known: Array) -> tuple[Array, float]:
    """Of ends (N, 2) about where the pivot is looked for: the true pivot (2,), and the radius of the ends' circle.

    Least squares of |arm| = radius + direction . pivot, and where the angle is `known` (N,) [rad] or NaN of
    across . arm = across . pivot, with an expectation on the pivot (BESIDE, OFF): without motion or labels it stays
    where it is looked for. Robust: what is off by more counts less.
    """
    reach = np.maximum(np.hypot(arm[:, 0], arm[:, 1]), 1e-9)
    direction = arm / reach[:, None]
    told = np.isfinite(known)
    across = np.stack([np.cos(known[told]), -np.sin(known[told]), np.zeros(told.sum())], axis=1)
    design = np.concatenate([np.concatenate([direction, np.ones((len(arm), 1))], axis=1), across])
    wanted = np.concatenate([reach, (across[:, :2] * arm[told]).sum(axis=1)])
    share = np.concatenate([pose_shares(np.arctan2(arm[:, 0], arm[:, 1])), np.ones(told.sum())])
    found = np.array([0.0, 0.0, np.median(reach)])
    prior = np.diag([1.0 / BESIDE**2, 1.0 / BESIDE**2, 0.0])
    for _ in range(8):
        apart = (wanted - design @ found) / OFF
        weights = share / (1.0 + np.square(apart)) / OFF**2
        found = np.linalg.solve(design.T @ (weights[:, None] * design) + prior, design.T @ (weights * wanted))
    return found[:2], float(found[2])


def pose_shares(angle: Array) -> Array:
    """(N,) one over the number of frames in about the same pose."""
    pose = np.round(angle / POSE).astype(np.intp)
    _, which, count = np.unique(pose, return_inverse=True, return_counts=True)
    return np.asarray(1.0 / count[which])


def _robust_direction(unit: npt.NDArray[np.complex128]) -> npt.NDArray[np.complex128]:
    """(N,) of unit numbers (copies, N): the mean, with copies far from it counting less and less."""
    middle = np.median(unit.real, axis=0) + 1j * np.median(unit.imag, axis=0)
    for _ in range(5):
        middle = middle / np.maximum(np.abs(middle), 1e-9)
        apart = np.angle(unit * middle.conj())
        weights = 1.0 / (1.0 + np.square(apart / TRUSTED))
        middle = (weights * unit).sum(axis=0)
    return np.asarray(middle / np.maximum(np.abs(middle), 1e-9))


def _of_neighbours(i: int, seconds: Array, angle: Array, trust: Array, fresh: npt.NDArray[np.bool_]) -> float:
    """The angle [rad] that the frames around frame `i` let expect there: a parabola in time, robustly fitted."""
    near = np.arange(max(0, i - SPAN), min(len(angle), i + SPAN + 1))
    near = near[(near != i) & fresh[near]]
    if len(near) < 4 or not fresh[i]:
        return float(angle[i])
    around = near[np.abs(near - i).argsort()[:2]]
    reference = np.angle(np.exp(1j * angle[around]).mean())
    apart = np.angle(np.exp(1j * (angle[near] - reference)))
    basis = np.stack([np.ones(len(near)), seconds[near] - seconds[i], np.square(seconds[near] - seconds[i])], axis=1)
    weights = trust[near] + 1e-3
    fitted = np.zeros(3)
    for _ in range(4):
        fitted = np.linalg.lstsq(basis * weights[:, None], apart * weights, rcond=None)[0]
        weights = (trust[near] + 1e-3) / (1.0 + np.square((apart - basis @ fitted) / TRUSTED))
    return float(reference + fitted[0])


def _slow(places: Array, seconds: Array) -> Array:
    """(N, 2) medians over PIVOT_S before and after."""
    return np.stack([np.median(places[np.abs(seconds - t) <= PIVOT_S], axis=0) for t in seconds])


def repeats(images: Images) -> npt.NDArray[np.bool_]:
    """(N,) whether a picture (N, ..., h, w) shows the very one before it, as a recorder that missed a frame writes.

    Its change is next to nothing where the frames before and after it do change; in a still scene nothing is told.
    """
    flat = images.reshape(len(images), -1).astype(np.int16)
    step = np.array([np.abs(a - b).mean() for a, b in zip(flat[1:], flat[:-1], strict=True)])
    out = np.zeros(len(images), dtype=bool)
    for i in range(1, len(step) - 1):
        usual = min(step[i - 1], step[i + 1])
        out[i + 1] = step[i] < STALE * usual
    return out
