"""Screening of pictures: what is wrong or odd in what a camera gave, each with its place.

The checks look at the pictures and their stamps alone, so they serve logs and video files alike; `transfer.screen`
calls them for every `camera.<name>` of an episode. To add one: a function in CHECKS and the row of its kind in
transfer.screen.KINDS. Each statistic is worked out on thumbnails: a minute of pictures takes a fraction of a second.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from robot.log import Channel

Array = npt.NDArray[np.float64]
Flags = npt.NDArray[np.bool_]
Found = tuple[str, int, str]
"""(kind, row of its first occurrence, one sentence with the figures)."""

THUMBNAIL = 16
"""Side of the thumbnails [pixel]."""
GAP_PERIODS = 1.75
"""A camera that is this many periods late has lost a picture."""
FROZEN_S = 0.4
"""A camera that shows one picture for so long, while joints move, is frozen."""
MOVED_RAD = 0.05
"""Joints that moved this far must have changed the picture."""
ROUGH = 6.0
"""A picture with this many times the usual contrast between neighbouring pixels is no picture of the same scene."""
BROKEN_SHARE = 0.12
"""Share of a picture's rows at its bottom that hold one colour, as half-decoded pictures do."""
AGREEMENT = 0.4
"""Size of a negative correlation of colour maps from which on red and blue are called exchanged."""
CONTRAST = 0.008
"""Deviation of a colour map within a picture below which a scene is too grey to tell."""


@dataclass(frozen=True, slots=True)
class Pictures:
    """What the checks see of one camera."""

    t_ns: npt.NDArray[np.int64]
    """(n,)"""
    images: npt.NDArray[np.uint8]
    """(n, h, w, channels)"""
    small: Array
    """(n, THUMBNAIL, THUMBNAIL, channels) mean colours of blocks, in levels of 255."""
    repeats: Flags
    """(n,) the same picture as the one before, bit by bit."""
    period_s: float
    """Usual time between pictures: the camera's own where it is known, else the median [s]."""
    size: tuple[int, int] | None
    """(width, height) that the camera should give; None when nothing says so."""
    moved: Array | None
    """(n,) how far the fastest joint has moved since the picture before [rad]; None without joints."""
    reference: Array | None
    """(THUMBNAIL, THUMBNAIL) median colour map of other episodes of the same camera."""

    def at(self, row: int) -> str:
        """Where a row is, as findings say it."""
        return f"picture {row + 1} (t = {(self.t_ns[row] - self.t_ns[0]) * 1e-9:.3f} s)"


def pictures(
    channel: Channel,
    *,
    rate_hz: float | None = None,
    size: tuple[int, int] | None = None,
    joints: Channel | None = None,
    reference: Array | None = None,
) -> Pictures:
    """The pictures of a channel and what is known of their camera and of the joints that it watches."""
    images, t_ns = channel.values, channel.t_ns
    steps = np.diff(t_ns) * 1e-9
    repeats = np.zeros(len(images), dtype=bool)
    repeats[1:] = [bool(np.array_equal(a, b)) for a, b in zip(images[1:], images[:-1], strict=True)]
    moved = None
    if joints is not None and len(joints.t_ns) > 1:
        origin = int(t_ns[0])
        order = np.argsort(joints.t_ns, kind="stable")
        clock = (joints.t_ns[order] - origin) * 1e-9
        at = [np.interp((t_ns - origin) * 1e-9, clock, q) for q in np.nan_to_num(joints.values[order]).T]
        moved = np.abs(np.diff(np.stack(at, axis=1), axis=0, prepend=np.array(at)[None, :, 0])).max(axis=1)
    return Pictures(
        t_ns=t_ns,
        images=images,
        small=thumbnails(images),
        repeats=repeats,
        period_s=1.0 / rate_hz if rate_hz else float(np.median(steps)) if len(steps) else 0.0,
        size=size,
        moved=moved,
        reference=reference,
    )


def thumbnails(images: npt.NDArray[np.uint8]) -> Array:
    """(n, THUMBNAIL, THUMBNAIL, channels) mean colours of images (n, h, w, channels); smaller ones keep their size."""
    n, height, width = images.shape[:3]
    rows = np.linspace(0, height, min(THUMBNAIL, height), endpoint=False).astype(np.intp)
    columns = np.linspace(0, width, min(THUMBNAIL, width), endpoint=False).astype(np.intp)
    out = np.empty((n, len(rows), len(columns), images.shape[3]))
    area = np.diff([*rows, height])[:, None, None] * np.diff([*columns, width])[None, :, None]
    for i, image in enumerate(images):
        sums = np.add.reduceat(np.add.reduceat(image.astype(np.float32), rows, axis=0), columns, axis=1)
        out[i] = sums / area
    return out


def screen(seen: Pictures) -> Iterator[Found]:
    """Everything odd in one camera's pictures, in the order of CHECKS."""
    for check in CHECKS:
        yield from check(seen)


def _size(seen: Pictures) -> Iterator[Found]:
    height, width = seen.images.shape[1:3]
    if seen.size is not None and (width, height) != seen.size:
        wanted = f"{seen.size[0]} x {seen.size[1]}"
        yield "image_size", 0, f"the pictures are {width} x {height}; the robot's file says {wanted} for this camera."
    if seen.images.shape[3] != 3:
        yield "image_size", 0, f"the pictures have {seen.images.shape[3]} channel(s); the robot's cameras give RGB."


def _missing(seen: Pictures) -> Iterator[Found]:
    steps = np.diff(seen.t_ns) * 1e-9
    late = np.flatnonzero(steps > GAP_PERIODS * seen.period_s)
    if seen.period_s > 0.0 and late.size:
        lost = int(np.sum(np.round(steps[late] / seen.period_s) - 1))
        worst = int(late[np.argmax(steps[late])])
        yield (
            "missing_frames",
            worst + 1,
            f"about {lost} of {len(seen.t_ns) + lost} pictures are missing; the longest gap is "
            f"{steps[worst] * 1e3:.0f} ms at {1.0 / seen.period_s:.0f} pictures a second.",
        )


def _frozen(seen: Pictures) -> Iterator[Found]:
    """One picture again and again: frozen when the joints move meanwhile, else only told."""
    start = 0
    single, frozen = 0, []
    for row in range(1, len(seen.repeats) + 1):
        if row < len(seen.repeats) and seen.repeats[row]:
            continue
        seconds = float(seen.t_ns[row - 1] - seen.t_ns[start]) * 1e-9
        travel = None if seen.moved is None else float(seen.moved[start + 1 : row].sum())
        if travel is None:
            single += row - 1 - start
        elif travel > MOVED_RAD and seconds >= FROZEN_S:
            frozen.append((start, seconds, travel))
        elif travel > MOVED_RAD:
            single += row - 1 - start
        start = row
    if frozen:
        begin, seconds, travel = max(frozen, key=lambda f: f[1])
        detail = f"the picture stays the same for {seconds:.2f} s while a joint travels {travel:.2f} rad"
        yield "frozen_camera", begin, f"{detail}; {len(frozen)} such stretch(es)."
    if single:
        first = int(np.argmax(seen.repeats))
        yield "repeated_image", first, f"{single} picture(s) repeat the one before, so their stamps are stale."


def _corrupt(seen: Pictures) -> Iterator[Found]:
    """Pictures of one colour, with a broken-off lower part, or full of noise, where the others are not."""
    flat = np.ptp(seen.images.reshape(len(seen.images), -1), axis=1) == 0
    tail = _broken_rows(seen.images)
    broken = ~flat & (tail > BROKEN_SHARE) & (tail > np.median(tail) + BROKEN_SHARE)
    rough = _roughness(seen.images)
    # where a part of the picture is destroyed the rest still is as usual: compare with the episode's own median
    noisy = ~flat & (rough > ROUGH * max(float(np.median(rough)), 0.5))
    for what, flags in (("of one colour", flat), ("broken off at the bottom", broken), ("noise", noisy)):
        if flags.any() and not (what == "of one colour" and flags.all() and len(flags) < 2):
            share = f"{int(flags.sum())} of {len(flags)} picture(s)"
            yield "corrupt_image", int(np.argmax(flags)), f"{share} are {what}, unlike the others."


def _broken_rows(images: npt.NDArray[np.uint8]) -> Array:
    """(n,) share of the rows, counted from the bottom, that hold the very colour of the last pixel."""
    same = (images == images[:, -1:, -1:]).all(axis=(2, 3))[:, ::-1]
    return np.where(same.all(axis=1), 1.0, np.argmin(same, axis=1) / images.shape[1])


def _roughness(images: npt.NDArray[np.uint8]) -> Array:
    """(n,) mean absolute difference of neighbouring pixels [levels of 255]."""
    return np.array([np.abs(np.diff(i.astype(np.int16), axis=1)).mean() for i in images])


def _swapped(seen: Pictures) -> Iterator[Found]:
    """Red and blue exchanged: against other episodes of the camera, or from one picture to the next.

    A statistical test on the map of (red - blue) / brightness, which does not care for exposure: exchanged colours turn
    its pattern over, so its correlation with what the camera otherwise sees becomes negative. In a grey scene nobody
    can tell, and nothing is said.
    """
    if seen.small.shape[3] != 3 or len(seen.small) < 2:
        return
    maps = colour_maps(seen.small)
    if seen.reference is not None and seen.reference.shape == maps.shape[1:]:
        against = _correlation(maps, seen.reference[None])
        told = np.isfinite(against)
        if told.mean() > 0.5 and np.mean(against[told] < 0.0) > 0.95 and np.median(against[told]) < -AGREEMENT:
            detail = f"the pattern of red and blue correlates by {np.median(against[told]):+.2f} with that of this"
            yield "swapped_channels", 0, f"{detail} camera's other episodes: BGR was recorded as RGB, or the reverse."
    with np.errstate(invalid="ignore"):
        jumps = np.flatnonzero(_correlation(maps[1:], maps[:-1]) < -AGREEMENT)
    if jumps.size:
        detail = f"red and blue change places from one picture to the next, {jumps.size} time(s)."
        yield "swapped_channels", int(jumps[0]) + 1, detail


def colour_maps(small: Array) -> Array:
    """(n, rows, columns) of thumbnails (n, rows, columns, 3): red minus blue as a share of the brightness."""
    return np.asarray((small[..., 0] - small[..., 2]) / (small.sum(axis=3) + 15.0))


def _correlation(maps: Array, other: Array) -> Array:
    """(n,) correlation of colour maps with others; NaN where one of both is too grey to tell."""
    a, b = (m - m.mean(axis=(1, 2), keepdims=True) for m in (maps, other))
    spread = [np.sqrt(np.square(m).mean(axis=(1, 2))) for m in (a, b)]
    with np.errstate(invalid="ignore", divide="ignore"):
        found = (a * b).mean(axis=(1, 2)) / (spread[0] * spread[1])
    return np.where(np.minimum(*np.broadcast_arrays(*spread)) > CONTRAST, found, np.nan)


CHECKS: tuple[Callable[[Pictures], Iterator[Found]], ...] = (_size, _missing, _frozen, _corrupt, _swapped)


def reference_of(channels: list[Channel]) -> Array | None:
    """Colour map of a camera, the median over those of its episodes, for `pictures`; None when there are none."""
    return median_map(
        [colour_maps(thumbnails(c.values)).mean(axis=0) for c in channels if len(c.values) and c.values.shape[3] == 3]
    )


def median_map(maps: list[Array]) -> Array | None:
    """The median of colour maps; None when there are none, or they are of different sizes."""
    if not maps or any(m.shape != maps[0].shape for m in maps):
        return None
    return np.asarray(np.median(np.stack(maps), axis=0))


def swapped(channel: Channel, reference: Array) -> Iterator[Found]:
    """Whether red and blue are exchanged in a camera's pictures, by the colour map of its other episodes."""
    return _swapped(pictures(channel, reference=reference))
