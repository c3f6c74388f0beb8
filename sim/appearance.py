"""What the appearance targets do: to the scene before it is drawn, and to the images after.

Values come as Parameters.outer holds them, whoever drew them; at the nominal every effect changes nothing. To add one:
its row in sim/targets/appearance.py, and its function here in SCENE_EFFECTS (it changes a Shot) or IMAGE_EFFECTS (it
changes images), in the order in which light meets them.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from sim import clutter
from sim.model import Model
from sim.patterns import TEXELS, patterns
from sim.targets.appearance import PATTERNS
from sim.visual import PROP_SIZES, Array, Ids, Shot, Visual

Images = npt.NDArray[np.float32]
Outer = Mapping[tuple[str, str], Array]

NORMALS = 1 << 20
"""Size of the table from which sensor noise is taken."""
AT_ONCE = 8
"""Images that are changed together, few enough to stay in the processor's cache."""
REACH = 3.0
"""Standard deviations at which a blur is cut off."""


class Look:
    """The appearance targets of n images by one camera, as `outer` holds them for the simulations `ids`."""

    def __init__(self, model: Model, camera: str, outer: Outer, ids: Ids | slice = slice(None)) -> None:
        self._model, self._outer, self._ids = model, outer, ids
        self._column = model.objects(("camera", "x")).index(camera)

    def camera(self, quantity: str) -> Array:
        """(n,) a quantity of this camera."""
        return self._outer["camera", quantity][self._ids, self._column]

    def of(self, kind: str, quantity: str) -> Array:
        """(n, n_objects) a quantity of all objects of a kind."""
        return self._outer[kind, quantity][self._ids]

    def names(self, kind: str, quantity: str) -> tuple[str, ...]:
        return self._model.objects((kind, quantity))

    def colours(self, kind: str) -> npt.NDArray[np.float32]:
        """(n, n_objects, 3)"""
        return np.stack([self.of(kind, c) for c in ("red", "green", "blue")], axis=-1).astype(np.float32)


def _numbers(values: Array) -> npt.NDArray[np.int64]:
    """Pattern numbers of a target's values: rounded down."""
    return np.minimum(values, len(PATTERNS) - 1).astype(np.int64)


def move_camera(shot: Shot, look: Look, visual: Visual) -> None:
    """Turn the camera about its own axes (pitch, then yaw, then roll), and shift it along those of its mount."""
    x, y, z = (look.camera(a) for a in ("pitch", "yaw", "roll"))
    shift = np.stack([look.camera(a) for a in ("x", "y", "z")], axis=1)
    shot.camera_position += np.einsum("nij,nj->ni", shot.camera_matrix, shift)
    shot.camera_matrix = shot.camera_matrix @ _rotation(x, 0) @ _rotation(y, 1) @ _rotation(z, 2)


def _rotation(angle: Array, axis: int) -> Array:
    """(n, 3, 3) about a coordinate axis."""
    out = np.tile(np.eye(3), (len(angle), 1, 1))
    a, b = (axis + 1) % 3, (axis + 2) % 3
    out[:, a, a] = out[:, b, b] = np.cos(angle)
    out[:, a, b], out[:, b, a] = -np.sin(angle), np.sin(angle)
    return out


def change_lens(shot: Shot, look: Look, visual: Visual) -> None:
    shot.fovy = look.camera("fovy").copy()
    shot.principal = np.stack([look.camera("principal_x"), look.camera("principal_y")], axis=1)


def change_lights(shot: Shot, look: Look, visual: Visual) -> None:
    moved = visual.light_ids(look.names("light", "x"))
    shot.light_position[:, moved] += np.stack([look.of("light", a) for a in "xyz"], axis=-1)
    shot.light_intensity = look.of("light", "intensity").copy()


def change_surfaces(shot: Shot, look: Look, visual: Visual) -> None:
    geoms = visual.geom_ids(look.names("geom", "red"))
    shot.geom_rgba[:, geoms, :3] = look.colours("geom")
    shot.geom_pattern[:, geoms] = _numbers(look.of("geom", "texture"))


def change_background(shot: Shot, look: Look, visual: Visual) -> None:
    shot.background = look.colours("scene")[:, 0]
    shot.background_pattern = _numbers(look.of("scene", "texture")[:, 0])
    shot.clutter = look.of("scene", "clutter")[:, 0].copy()


def place_props(shot: Shot, look: Look, visual: Visual) -> None:
    """Props where they are asked for in the picture, in the frame of the camera."""
    distance, size = look.of("prop", "distance"), look.of("prop", "size")
    height = 2.0 * distance * np.tan(np.radians(shot.fovy) / 2.0)[:, None]  # of the image, there [m]
    width = height * shot.aspect
    u = look.of("prop", "u") - shot.principal[:, :1]
    v = look.of("prop", "v") - shot.principal[:, 1:]
    local = np.stack([u * width, -v * height, -distance], axis=-1)
    place = shot.camera_position[:, None] + np.einsum("nij,npj->npi", shot.camera_matrix, local)
    turns = dict(zip(look.names("prop", "turn"), look.of("prop", "turn").T, strict=True))
    shot.geom_position[:, visual.props] = place
    for i, name in enumerate(look.names("prop", "size")):
        geom = visual.props.start + i
        shot.geom_size[:, geom] = (size[:, i] * height[:, i])[:, None] * PROP_SIZES[name]
        turn = turns.get(name, np.zeros(len(shot)))
        shot.geom_matrix[:, geom] = shot.camera_matrix @ _rotation(turn, 2) @ _rotation(turn, 0)
    shot.geom_rgba[:, visual.props, :3] = look.colours("prop")


SCENE_EFFECTS: tuple[Callable[[Shot, Look, Visual], None], ...] = (
    move_camera,
    change_lens,
    change_lights,
    change_surfaces,
    change_background,
    place_props,
)


@dataclass(frozen=True, slots=True)
class ImageEffect:
    """A change of finished images, made only to those for which some of its `quantities` is not `at_rest`."""

    quantities: tuple[str, ...]
    """Of the camera."""
    apply: Callable[[Images, Mapping[str, Array], np.random.Generator], Images]
    """(images (n, h, w, 3) with 1 as full scale, quantity -> (n,), generator) -> images, maybe the same array."""
    at_rest: float = 0.0
    also: tuple[str, ...] = ()
    """Quantities that say how, and alone do nothing."""


def expose(images: Images, values: Mapping[str, Array], rng: np.random.Generator) -> Images:
    images *= np.exp2(values["exposure"]).astype(np.float32)[:, None, None, None]
    return images


def balance(images: Images, values: Mapping[str, Array], rng: np.random.Generator) -> Images:
    for channel, quantity in ((0, "gain_red"), (2, "gain_blue")):
        images[..., channel] *= values[quantity].astype(np.float32)[:, None, None]
    return images


def saturate(images: Images, values: Mapping[str, Array], rng: np.random.Generator) -> Images:
    grey = images.mean(axis=3, keepdims=True)
    images -= grey
    images *= values["saturation"].astype(np.float32)[:, None, None, None]
    images += grey
    return images


def defocus(images: Images, values: Mapping[str, Array], rng: np.random.Generator) -> Images:
    import cv2

    out = np.empty_like(images)
    for i, share in enumerate(values["defocus"]):
        sigma = max(share * images.shape[1], 1e-3)
        size = 2 * int(np.ceil(REACH * sigma)) + 1
        cv2.GaussianBlur(images[i], (size, size), sigma, dst=out[i], borderType=cv2.BORDER_REPLICATE)
    return out


def shake(images: Images, values: Mapping[str, Array], rng: np.random.Generator) -> Images:
    """Blur along a line: the camera moved evenly while the shutter was open."""
    import cv2

    out = np.empty_like(images)
    for i, (share, angle) in enumerate(zip(values["shake"], values["shake_direction"], strict=True)):
        cv2.filter2D(
            images[i], -1, line_kernel(share * images.shape[1], angle), dst=out[i], borderType=cv2.BORDER_REPLICATE
        )
    return out


def line_kernel(length: float, angle: float) -> Images:
    """(k, k) weights, summing to 1, of a line of `length` pixels in a direction [rad], anticlockwise from the right."""
    reach = int(np.ceil(length / 2.0)) + 1
    side, t = 2 * reach + 1, np.linspace(-0.5 * length, 0.5 * length, 4 * reach + 1)
    x, y = reach + t * np.cos(angle), reach - t * np.sin(angle)
    column, row = np.floor(x).astype(np.intp), np.floor(y).astype(np.intp)
    kernel = np.zeros(side * side)
    for down in (0, 1):
        for right in (0, 1):
            weight = np.abs(1 - down - (y - row)) * np.abs(1 - right - (x - column))
            kernel += np.bincount((row + down) * side + column + right, weight, minlength=side * side)
    return (kernel / kernel.sum()).reshape(side, side).astype(np.float32)


@functools.cache
def _normals() -> npt.NDArray[np.float32]:
    """Standard normal numbers, always the same; an image takes a stretch that begins somewhere in them."""
    return np.random.default_rng(11).standard_normal(NORMALS, dtype=np.float32)


def add_noise(images: Images, values: Mapping[str, Array], rng: np.random.Generator) -> Images:
    """Gaussian noise of the sensor: a part that is always there, and one that grows with the root of the light."""
    size, table = images[0].size, _normals()
    begins = rng.integers(0, NORMALS, len(images))
    for i, begin in enumerate(begins):
        fits = begin + size <= NORMALS
        drawn = table[begin : begin + size] if fits else np.resize(np.roll(table, -begin), size)
        dark, bright = np.float32(values["noise"][i] ** 2), np.float32(values["shot_noise"][i] ** 2)
        spread = np.sqrt(dark + bright * np.clip(images[i], 0.0, 1.0)) if bright else np.sqrt(dark)
        images[i] += spread * drawn.reshape(images[i].shape)
    return images


def write_titles(images: Images, values: Mapping[str, Array], rng: np.random.Generator) -> Images:
    """Laid over the film afterwards, so neither blurred nor noisy."""
    for i, size in enumerate(values["title"]):
        images[i] = clutter.title(images[i], float(size))
    return images


IMAGE_EFFECTS: tuple[ImageEffect, ...] = (
    ImageEffect(("defocus",), defocus),
    ImageEffect(("shake",), shake, also=("shake_direction",)),
    ImageEffect(("exposure",), expose),
    ImageEffect(("gain_red", "gain_blue"), balance, at_rest=1.0),
    ImageEffect(("saturation",), saturate, at_rest=1.0),
    ImageEffect(("noise", "shot_noise"), add_noise),
    ImageEffect(("title",), write_titles),
)


def change_scene(shot: Shot, look: Look, visual: Visual) -> None:
    """All SCENE_EFFECTS, in place."""
    for effect in SCENE_EFFECTS:
        effect(shot, look, visual)


def change_images(images: npt.NDArray[np.uint8], look: Look, rng: np.random.Generator | None) -> npt.NDArray[np.uint8]:
    """All IMAGE_EFFECTS on images (n, h, w, 3); ValueError when a camera is noisy and there is no generator."""
    values = {q: look.camera(q) for effect in IMAGE_EFFECTS for q in (*effect.quantities, *effect.also)}
    active = {e: np.logical_or.reduce([values[q] != e.at_rest for q in e.quantities]) for e in IMAGE_EFFECTS}
    some = np.flatnonzero(np.logical_or.reduce(list(active.values())))
    if not some.size:
        return images
    if rng is None:
        if any(flags.any() for effect, flags in active.items() if effect.apply is add_noise):
            raise ValueError("the camera is noisy: its images need a random generator")
        rng = np.random.default_rng(0)  # nobody draws from it
    out = images.copy()
    for ids in np.split(some, range(AT_ONCE, len(some), AT_ONCE)):
        work = images[ids].astype(np.float32)
        work /= 255.0
        for effect, flags in active.items():
            mine = flags[ids]
            if mine.all():
                work = effect.apply(work, {q: values[q][ids] for q in (*effect.quantities, *effect.also)}, rng)
            elif mine.any():
                own = {q: values[q][ids[mine]] for q in (*effect.quantities, *effect.also)}
                work[mine] = effect.apply(work[mine], own, rng)
        work *= 255.0
        work += 0.5
        out[ids] = np.clip(work, 0.0, 255.0, out=work)
    return out


def backdrop_images(shot: Shot, height: int, width: int) -> npt.NDArray[np.uint8]:
    """(n, h, w, 3) what is seen where there is nothing."""
    import cv2

    colours = 255.0 * shot.background
    flat = (colours + 0.5).astype(np.uint8)[:, None, None]
    out = np.broadcast_to(flat, (len(shot), height, width, 3))
    patterned = np.flatnonzero(shot.background_pattern)
    if patterned.size:
        out, bank = out.copy(), _wide_patterns(height, width)
        steps = np.linspace(0.0, 1.0, 256)[:, None]
        for i in patterned:
            table = (steps * colours[i]).astype(np.uint8)[:, None]
            cv2.LUT(bank[shot.background_pattern[i]], table, dst=out[i])
    littered = np.flatnonzero(shot.clutter >= 1.0)
    if littered.size:
        out = out.copy() if not patterned.size else out
        for i in littered:
            out[i] = clutter.clutter(out[i], float(shot.clutter[i]))
    return out


@functools.lru_cache(maxsize=4)
def _wide_patterns(height: int, width: int) -> npt.NDArray[np.uint8]:
    """(n_patterns, height, width, 3) all patterns as pictures of grey."""
    bank = (255.0 * np.stack(list(patterns().values()))).astype(np.uint8)
    rows, columns = (np.arange(n) * TEXELS // n for n in (height, width))
    return np.repeat(bank[:, rows[:, None], columns][..., None], 3, axis=-1)
