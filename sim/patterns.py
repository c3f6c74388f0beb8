"""The patterns that surfaces and backgrounds can carry: factors on their colour, always the same."""

from __future__ import annotations

import mujoco
import numpy as np
import numpy.typing as npt

from sim.targets.appearance import PATTERNS

TEXELS = 64


def patterns() -> dict[str, npt.NDArray[np.float32]]:
    """Name -> (TEXELS, TEXELS) factors in [0.2, 1] by which a surface's colour is multiplied; always the same."""
    y, x = np.mgrid[0:TEXELS, 0:TEXELS] / TEXELS
    rng = np.random.default_rng(7)
    coarse = np.kron(rng.random((8, 8)), np.ones((TEXELS // 8, TEXELS // 8)))
    raw = {
        "plain": np.ones((TEXELS, TEXELS)),
        "checker": (np.floor(4 * x) + np.floor(4 * y)) % 2,
        "stripes": np.floor(8 * y) % 2,
        "gradient": y,
        "fine_noise": rng.random((TEXELS, TEXELS)),
        "coarse_noise": coarse,
        "spots": 1.0 * (np.hypot((4 * x) % 1 - 0.5, (4 * y) % 1 - 0.5) > 0.3),
    }
    return {name: (0.2 + 0.8 * raw[name]).astype(np.float32) for name in PATTERNS}


def add_textures(spec: mujoco.MjSpec, name: str, factor: npt.NDArray[np.float32]) -> None:
    """A pattern for planes, repeated over them, and for solids, on the six sides of a cube around them."""
    image = np.repeat((255.0 * factor).astype(np.uint8)[:, :, None], 3, axis=2)
    for kind, sides in ((mujoco.mjtTexture.mjTEXTURE_2D, 1), (mujoco.mjtTexture.mjTEXTURE_CUBE, 6)):
        texture = spec.add_texture(name=f"{name} {sides}", type=kind, width=TEXELS, height=sides * TEXELS, nchannel=3)
        texture.data = np.tile(image, (sides, 1, 1)).tobytes()
