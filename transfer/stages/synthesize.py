"""Make labelled images of a robot in simulation:

    terrafirma synthesize robot=so101 camera=front n=5000 dr=so101_appearance size=[128,128]
    terrafirma synthesize robot=simple_pendulum camera=side n=20000 renderer=ray events.occlusion=0.2
    terrafirma synthesize robot=so101 camera=front n=100000 scale=ray scale.address=auto  # by a cluster

Reads   nothing but configs: the robot, and what is drawn for each image (dr=NAME).
Writes  dataset/ (dataset.yaml; shards in parquet with pictures, depth, segmentation, keypoints, states, parameters and
        events; manifest.json with the hash of each, when all are there), sheet.png to look at, and result.json.
        `sim.synthesize.load(folder)` reads it.
Costs   about 2 ms an image and core at 128 x 128. Killed at any moment, it goes on with resume=true.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field
from typing import Any, Literal

from policies.progress import Meter
from robot.config import ConfigError
from robot.result import Run
from sim import contact_sheet, shards
from sim.model import RobotConfig
from sim.randomization import NOMINAL, Randomization
from sim.synthesize import Job, synthesize
from transfer.choices import TaskChoice
from transfer.cli import Common
from transfer.progress import terminal
from transfer.scale.cluster import ScaleConfig
from transfer.scale.fan import at_hand
from transfer.scale.images import by_workers

VOLATILE = ("dataset", "sheet", "images_per_s", "made")
QUICK = 64
SHEET = 12
DEFAULT_SIDE = 128


@dataclass(frozen=True, kw_only=True)
class Config(Common):
    robot: RobotConfig
    camera: str | None = None
    """A camera of the MJCF; default: the first that the robot lists."""
    n: int = 1000
    """Images in the data set."""
    dr: Randomization | None = None
    """What is drawn anew for each image: appearance and physics."""
    task: TaskChoice | None = None
    """Whose training episodes the states begin like; default: anywhere in the robot's range."""
    renderer: str = "auto"
    """egl | ray | auto."""
    size: tuple[int, int] | None = None
    """[width, height] in pixels; default: the camera's own."""
    events: dict[str, float] = field(default_factory=dict)
    """Rare event -> share of the images in which it is made on purpose; one that a robot cannot have is left out."""
    keypoints: tuple[str, ...] = ()
    """joint/NAME, site/NAME, body/NAME; default: joints, sites, and ends of the robot."""
    image: Literal["jpeg", "png", "raw"] = "jpeg"
    """How pictures are stored; png and raw lose nothing, and cost more."""
    samples: int = 1
    """Draws of which a picture is the mean: with some, edges are smooth, and what moves is smeared (camera shutter)."""
    appearances: int = 1
    """Samples in a row that show the same state, each in an appearance of its own."""
    shard: int = 128
    """Samples in a file, and what a killed run loses at most of each worker."""
    workers: int = 0
    """Processes on this machine; 0: one a core. With scale=ray, scale.workers counts."""
    scale: ScaleConfig = field(default_factory=ScaleConfig)


def run(cfg: Config, run: Run) -> dict[str, Any]:
    job, folder = job_of(cfg), run.out / "dataset"
    meters: list[Meter] = []

    def report(made: int, total: int) -> None:
        if not meters:  # the first report tells what an earlier run has left
            meters.append(Meter(f"images of {cfg.robot.spec.name}", total, "images", terminal(), done=made))
        meters[0](made)

    with at_hand(cfg.scale):
        elsewhere = None if cfg.scale.engine == "local" else by_workers(cfg.scale)
        done = synthesize(folder, job, cfg.workers, cfg.resume, report, elsewhere)
    sheet, layout = run.out / "sheet.png", shards.layout_of(folder)
    contact_sheet.save(sheet, itertools.islice(shards.load(folder), 40 * SHEET), layout, SHEET)
    left_out = sorted(name for name, share in cfg.events.items() if share > 0.0 and name not in done.events)
    return {
        "images": done.images,
        "images_per_s": done.images_per_s,
        "renderer": job.renderer,
        "dataset": str(folder),
        "made": done.made,
        "sheet": str(sheet),
        "events_left_out": left_out,
    }


def job_of(cfg: Config) -> Job:
    """What the data set is made of; ConfigError for a camera or renderer that is not there."""
    from sim.render import choose

    spec = cfg.robot.spec
    name = cfg.camera or (spec.cameras[0].name if spec.cameras else None)
    if name is None:
        raise ConfigError(f"robot '{spec.name}' lists no camera; name one of its MJCF with camera=NAME.")
    listed = next((c for c in spec.cameras if c.name == name), None)
    width, height = cfg.size or ((listed.width, listed.height) if listed else (DEFAULT_SIDE, DEFAULT_SIDE))
    return Job(
        robot=cfg.robot,
        camera=name,
        n=min(cfg.n, QUICK) if cfg.quick else cfg.n,
        seed=cfg.seed,
        width=width,
        height=height,
        renderer=choose(cfg.renderer),
        task=cfg.task.name if cfg.task else "",
        randomization=cfg.dr or NOMINAL,
        events=cfg.events,
        keypoints=cfg.keypoints,
        image=cfg.image,
        samples=cfg.samples,
        appearances=cfg.appearances,
        shard=cfg.shard,
    )
