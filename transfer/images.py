"""Simulated pictures as the vision encoder is trained on them: ImageData from data sets of `synthesize`.

One data set a camera, of the same states: samples with the same seed and prior agree in all but what the camera does.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path

import mujoco
import numpy as np
import numpy.typing as npt

from policies.encoders.vision import BODY, COSINE, POSITION, SINE, VisionCard, VisionConfig
from policies.encoders.vision_data import ImageData
from robot.spec import RobotSpec
from sim import shards
from sim.keypoints import default_points
from sim.model import Model, RobotConfig
from sim.randomization import NOMINAL, Randomization
from sim.render import choose
from sim.shards import Layout, Sample
from sim.synthesize import Job, synthesize

Array = npt.NDArray[np.float64]

RAYS_UP_TO = 128
"""Height of pictures [pixel] that rays draw faster than software GL."""
BEYOND = 1.5
"""Keypoints farther outside than this, in halves of the picture from its middle, are not looked for."""
NEAREST_M = 0.3
"""Distance that the map of nearness shows as 1."""


def vision_card(robot: RobotConfig, config: VisionConfig) -> VisionCard:
    """The card of an encoder of this robot: its default keypoints, its joints, and the bodies that lie about freely."""
    model = Model(robot)
    return VisionCard.of(robot.spec, config, default_points(model), tuple(free_bodies(model)))


def free_bodies(model: Model) -> dict[str, int]:
    """Bodies on a free joint, and where their place begins in qpos."""
    mj = model.mj
    free = np.flatnonzero(mj.jnt_type == mujoco.mjtJoint.mjJNT_FREE)
    return {mj.body(int(mj.jnt_bodyid[j])).name: int(mj.jnt_qposadr[j]) for j in free}


def simulated_images(
    folder: Path,
    robot: RobotConfig,
    prior: Randomization | None,
    card: VisionCard,
    config: VisionConfig,
    *,
    seed: int,
    workers: int = 0,
    report: Callable[[int, int], None] = lambda done, total: None,
) -> ImageData:
    """Make what `folder` lacks of the pictures, and read them; `report(done, total)` counts them over all cameras."""
    parts, total = [], config.images * len(card.cameras)
    for i, camera in enumerate(card.cameras):
        job = Job(
            robot=robot,
            camera=camera,
            n=config.images,
            seed=seed,
            width=card.width,
            height=card.height,
            renderer="ray" if card.height <= RAYS_UP_TO else choose("auto"),
            randomization=prior or NOMINAL,
            keypoints=card.keypoints,
            image="raw",
            samples=config.samples,
            appearances=config.appearances,
        )
        synthesize(folder / camera, job, workers, True, functools.partial(_counted, report, i * config.images, total))
        parts.append(read(folder / camera, card, robot, config))
    return joined(parts, config.appearances)


def _counted(report: Callable[[int, int], None], before: int, total: int, done: int, _: int) -> None:
    """One camera's progress as that of all."""
    report(before + done, total)


def read(folder: Path, card: VisionCard, robot: RobotConfig, config: VisionConfig) -> ImageData:
    """One camera's pictures."""
    model, layout = Model(robot), shards.layout_of(folder)
    bodies, own, count = free_bodies(model), own_geoms(layout, model), config.images
    side = layout.height, layout.width
    images = np.empty((count, 1, 3, *side), dtype=np.uint8)
    maps = np.empty((count, 1, 2, *side), dtype=np.uint8) if config.map_weight else None
    state = np.empty((count, len(card.states)), dtype=np.float32)
    keypoints = np.empty((count, len(card.keypoints), 2))
    for i, sample in enumerate(shards.load(folder)):  # one by one: depths and segmentations would fill the memory
        images[i, 0] = sample.rgb.transpose(2, 0, 1)
        state[i] = state_of(sample.labels["joint_position"], sample.labels["qpos"], card, robot.spec, bodies)
        keypoints[i] = sample.keypoints
        if maps is not None:
            maps[i, 0] = _maps(sample, own)
    keypoints = keypoints / side[::-1] * 2.0 - 1.0
    keypoints[(np.abs(keypoints) > BEYOND).any(axis=2)] = np.nan
    group = np.arange(count) // config.appearances
    return ImageData(images=images, state=state, keypoints=keypoints.astype(np.float32), group=group, maps=maps)


def joined(parts: list[ImageData], appearances: int) -> ImageData:
    """Cameras that saw the same states."""
    first = parts[0]
    if any(not np.allclose(p.state, first.state, equal_nan=True) for p in parts[1:]):
        raise ValueError("the cameras' pictures are not of the same states")
    maps = [p.maps for p in parts if p.maps is not None]
    return ImageData(
        images=np.concatenate([p.images for p in parts], axis=1),
        state=first.state,
        keypoints=np.concatenate([p.keypoints for p in parts], axis=1),
        group=first.group,
        maps=np.concatenate(maps, axis=1) if maps else None,
    )


def own_geoms(layout: Layout, model: Model) -> npt.NDArray[np.bool_]:
    """(n_geoms + 1,) which geom ids are of the robot itself; the last one is that of nothing, -1."""
    mj, free = model.mj, set(free_bodies(model))
    jointed = {mj.body(int(b)).name for b in mj.jnt_bodyid}
    return np.array([*(body in jointed and body not in free for body in layout.bodies), False])


def _maps(sample: Sample, own: npt.NDArray[np.bool_]) -> npt.NDArray[np.uint8]:
    """(2, h, w) as ImageData.maps has them."""
    depth = sample.depth.astype(np.float32)
    near = np.divide(NEAREST_M, depth, out=np.zeros_like(depth), where=depth > 0.0).clip(0.0, 1.0)
    return (255.0 * np.stack([own[sample.segmentation], near])).astype(np.uint8)


def state_of(
    joint_position: Array, qpos: Array, card: VisionCard, spec: RobotSpec, bodies: dict[str, int]
) -> npt.NDArray[np.float32]:
    """(S,) the components that the card lists, of positions (n_joints,) and MuJoCo's qpos (nq,); free_bodies()."""
    position = dict(zip(spec.joint_names, joint_position, strict=True))
    out = []
    for name in card.states:
        kind, _, rest = name.partition("/")
        if f"{kind}/" == BODY:
            body, axis = rest.rsplit("/", 1)
            out.append(qpos[bodies[body] + "xyz".index(axis)])
        else:
            value = position[rest]
            out.append({POSITION: value, COSINE: np.cos(value), SINE: np.sin(value)}[f"{kind}/"])
    return np.array(out, dtype=np.float32)
