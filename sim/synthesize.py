"""Labelled images of a robot in simulation, by many processes, resumable at any moment.

A sample depends on (seed, index, shard size) alone: its shard draws everything from generators of its own. A worker is
told the folder and the numbers of shards, and loads the robot from the folder's dataset.yaml; no model is passed on.
    for sample in sim.synthesize.load(folder): ...
"""

from __future__ import annotations

import functools
import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, field, replace
from multiprocessing import connection
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from robot import config
from robot.config import ConfigError
from sim import shards, tasks
from sim.appearance import Outer
from sim.keypoints import Keypoints, inside_image
from sim.model import Model, RobotConfig, unit_of
from sim.randomization import NOMINAL, Randomization
from sim.render import PASSES, Camera, choose
from sim.shards import CARD, Layout, Sample, load
from sim.situations import EVENTS, Situations, States
from sim.visual import Array, Shot

OCCLUDER = "box"
"""The prop that is put in front of things on purpose."""
OCCLUDER_QUANTITIES = ("size", "distance", "u", "v")


@dataclass(frozen=True, kw_only=True)
class Job:
    """What a data set is made of; two jobs that differ in `n` alone agree in the samples that both have."""

    robot: RobotConfig
    camera: str
    n: int
    seed: int = 0
    width: int
    height: int
    renderer: str
    """egl or ray."""
    task: str = ""
    """Whose training episodes the states begin like; empty: anywhere in the robot's range."""
    randomization: Randomization = NOMINAL
    events: dict[str, float] = field(default_factory=dict)
    """Rare event of EVENTS -> share of the samples."""
    keypoints: tuple[str, ...] = ()
    image: Literal["jpeg", "png", "raw"] = "jpeg"
    samples: int = 1
    """Draws of which a picture is the mean: 1 leaves edges jagged, and what moves sharp."""
    appearances: int = 1
    """Samples in a row that show the same state, each with an appearance of its own."""
    shard: int = 128
    """Samples in a shard; a multiple of `appearances`."""

    def __post_init__(self) -> None:
        if min(self.n, self.shard, self.width, self.height) < 1:
            raise ConfigError("n, shard and both sides of the image must be at least 1.")
        if min(self.samples, self.appearances) < 1 or self.shard % self.appearances:
            raise ConfigError("samples and appearances must be at least 1, and a shard a multiple of appearances.")
        for name, share in self.events.items():
            if name not in EVENTS:
                raise ConfigError(f"events: '{name}' is unknown. {config.nearest(name, list(EVENTS))}")
            if not 0.0 <= share <= 1.0:
                raise ConfigError(f"events.{name} is {share}; a share lies between 0 and 1.")
        if sum(self.events.values()) > 1.0 + 1e-9:
            raise ConfigError(f"events: their shares add up to {sum(self.events.values()):g}, more than 1.")

    @property
    def shards(self) -> int:
        return -(-self.n // self.shard)

    def rows(self, shard: int) -> int:
        """Samples of a shard."""
        return min(self.shard, self.n - shard * self.shard)


class Synthesizer:
    """Makes the samples of a job, a shard at a time."""

    def __init__(self, job: Job, nthread: int = 1) -> None:
        self.job, self.model = job, Model(job.robot)
        job.randomization.check(self.model)
        task = tasks.load_task(job.task) if job.task else None
        if task and task.robot != job.robot.spec.name:
            raise ConfigError(f"task '{task.name}' is for robot '{task.robot}', not '{job.robot.spec.name}'.")
        self.situations = Situations(self.model, job.shard, task, nthread)
        self.camera = Camera(self.model, job.camera, job.width, job.height, renderer=job.renderer, nthread=nthread)
        self.keypoints = Keypoints(self.camera.visual, job.keypoints)
        self.events = {k: v for k, v in job.events.items() if v > 0.0 and EVENTS[k].applies(self.situations)}
        """Those that this robot can have; the share of the others goes to ordinary samples."""
        placed = [f"prop/{OCCLUDER}/{q}" for q in OCCLUDER_QUANTITIES] if "occlusion" in self.events else []
        drawn = job.randomization.targets
        self.parameters = (*drawn, *(t for t in placed if t not in drawn))
        self._fields = {f for t in drawn for f in self._target(t).fields}

    def _target(self, name: str) -> Any:
        from sim.targets import TARGETS, split

        return TARGETS[split(name)[0]]

    def layout(self) -> Layout:
        mj = self.camera.visual.mj
        return Layout(
            width=self.job.width,
            height=self.job.height,
            image=self.job.image,
            joints=self.model.spec.joint_names,
            keypoints=self.keypoints.names,
            parameters=self.parameters,
            units=tuple(unit_of(t) for t in self.parameters),
            geoms=tuple(mj.geom(i).name for i in range(mj.ngeom)),
            bodies=tuple(mj.body(int(b)).name for b in mj.geom_bodyid),
        )

    def make(self, shard: int) -> tuple[dict[str, npt.NDArray[Any]], dict[str, npt.NDArray[Any]]]:
        """(columns, images) of a shard, its job's number of rows each."""
        job, plant, count = self.job, self.situations.plant, self.job.rows(shard)
        streams = np.random.SeedSequence([job.seed, shard]).spawn(4)
        drawing, moving, hiding, noise = (np.random.default_rng(s) for s in streams)
        # a whole shard is drawn and simulated, however few of its samples are asked for: they must not depend on n
        plant.seed(int(streams[1].generate_state(1)[0]))
        plant.set(job.randomization.draw(self.model, drawing, job.shard))
        names = np.array(["", *self.events])
        events = drawing.choice(names, job.shard, p=[1.0 - sum(self.events.values()), *self.events.values()])
        states = repeated(self.situations.draw(events, moving), job.appearances)
        outer = {
            key: values.copy()
            for key, values in plant.outer.items()
            if key[0] in ("camera", "light", "geom", "scene", "prop")
        }
        shot, pixels, depth = self._compose(states, outer, np.flatnonzero(events == "occlusion"), hiding)
        look, fields = self.camera.look(outer), self._fields
        if job.samples == 1:
            images = self.camera.shoot(shot, PASSES, look, noise)
        else:
            images = self.camera.shoot(shot, PASSES[1:])
            rgb = self.camera.expose(states.qpos, states.qvel, look, noise, job.samples, plant.batch, fields)
            images["rgb"] = rgb
        return self._columns(shard, events, states, outer, images, pixels, depth, count), {
            k: v[:count] for k, v in images.items()
        }

    def _compose(
        self, states: States, outer: Outer, hidden: npt.NDArray[np.intp], rng: np.random.Generator
    ) -> tuple[Shot, Array, Array]:
        """The scene, and pixels and depths of the keypoints in it; in the images `hidden` one of them is covered."""
        camera, look = self.camera, self.camera.look(outer)
        source = self.situations.plant.batch
        shot = camera.compose(states.qpos, look, source, self._fields)
        pixels, depth = self.keypoints.project(shot, camera.height, camera.width)
        if hidden.size:
            self._cover(outer, hidden, pixels, depth, rng)
            shot = camera.compose(states.qpos, look, source, self._fields)
        return shot, pixels, depth

    def _cover(
        self, outer: Outer, rows: npt.NDArray[np.intp], pixels: Array, depth: Array, rng: np.random.Generator
    ) -> None:
        """Put the occluder between the camera and a keypoint that is in the picture."""
        column = self.model.objects(("prop", "size")).index(OCCLUDER)
        size = self.camera.width, self.camera.height
        for i in rows:
            inside = inside_image(pixels[i], *size)
            if not inside.any():
                continue
            point = int(rng.choice(np.flatnonzero(inside)))
            place = pixels[i, point] / size - 0.5
            values = rng.uniform(0.15, 0.4), depth[i, point] * rng.uniform(0.4, 0.7), *place
            for quantity, value in zip(OCCLUDER_QUANTITIES, values, strict=True):
                outer["prop", quantity][i, column] = value

    def _columns(
        self, shard: int, events: npt.NDArray[np.str_], states: States, outer: Outer,
        images: Mapping[str, npt.NDArray[Any]], pixels: Array, depth: Array, count: int,
    ) -> dict[str, npt.NDArray[Any]]:  # fmt: skip
        visible, covered = self.keypoints.visibility(pixels, depth, images["depth"], images["segmentation"])
        flags = states.flags | {"occluded": covered.any(axis=1)}
        columns: dict[str, npt.NDArray[Any]] = {
            "index": shard * self.job.shard + np.arange(len(events), dtype=np.int64),
            "event": events.astype(str),
            **{name: np.asarray(flags[name]) for name in shards.FLAGS},
            "qpos": states.qpos,
            "qvel": states.qvel,
            "joint_position": states.qpos[:, self.model.qpos_index],
            "joint_velocity": states.qvel[:, self.model.dof_index],
            "joint_effort": states.effort,
            "command": states.command,
            "keypoints": pixels.reshape(len(events), -1),
            "visibility": visible,
            "parameters": self._drawn(outer),
        }
        return {name: values[:count] for name, values in columns.items()}

    def _drawn(self, outer: Outer) -> Array:
        """(shard, n_parameters) values in force."""
        from sim.targets import split

        values = self.situations.plant.values
        out = np.empty((self.job.shard, len(self.parameters)))
        for i, name in enumerate(self.parameters):
            key, obj = split(name)
            out[:, i] = outer[key][:, self.model.objects(key).index(obj)] if key in outer else values[name]
        return out


def repeated(states: States, times: int) -> States:
    """Of every `times` states in a row the first, as often."""
    if times == 1:
        return states
    rows = np.arange(len(states.qpos)) // times * times
    flags = {name: values[rows] for name, values in states.flags.items()}
    return States(states.qpos[rows], states.qvel[rows], states.effort[rows], states.command[rows], flags)


@dataclass(frozen=True, slots=True)
class Done:
    """What a run has added to a data set."""

    images: int
    """In the data set now."""
    made: int
    """By this run."""
    images_per_s: float
    events: tuple[str, ...]
    """Rare events that this robot can have."""


Elsewhere = Callable[[Job, Sequence[int]], Iterator[tuple[int, npt.NDArray[np.uint8]]]]
"""Gives (number, bytes of its file) of each of a job's shards with these numbers, as they get done."""


def synthesize(
    folder: Path,
    job: Job,
    workers: int = 0,
    resume: bool = False,
    report: Callable[[int, int], None] = lambda done, total: None,
    elsewhere: Elsewhere | None = None,
) -> Done:
    """Make a data set, or what is missing of one; `report(done, total)` hears of progress in images.

    `workers` 0: one process a core; 1: this process; `elsewhere` makes the shards in the place of both, and this
    process alone writes. Killed at any moment and resumed, it has neither gaps nor duplicates, and the same samples.
    ConfigError when the folder holds another job's samples.
    """
    job = replace(job, renderer=choose(job.renderer))
    first = Synthesizer(job)
    _claim(folder, job, first.layout(), resume)
    missing = [s for s in range(job.shards) if shards.rows_of(folder, s) != job.rows(s)]
    start, done = time.monotonic(), job.n - sum(job.rows(s) for s in missing)
    total = done
    report(total, job.n)
    local = _in_processes(folder, missing, workers or os.cpu_count() or 1, first)
    for shard in local if elsewhere is None else _taken_in(folder, elsewhere(job, missing)):
        total += job.rows(shard)
        report(total, job.n)
    shards.seal(folder, job.shards)
    seconds = max(time.monotonic() - start, 1e-9)
    return Done(job.n, job.n - done, (job.n - done) / seconds, tuple(first.events))


def _claim(folder: Path, job: Job, layout: Layout, resume: bool) -> None:
    """Write dataset.yaml, or see that the one there is of this job."""
    card = config.to_plain({"job": job, "layout": layout})
    path = folder / CARD
    if path.is_file():
        there = config.load_yaml(path)
        if not resume:
            raise ConfigError(
                f"{folder} holds a data set already; go on with it by resume=true, or choose another out=."
            )
        asked = config.parse_yaml(config.dump_yaml(card), "this job")
        if there | {"job": there["job"] | {"n": 0}} != asked | {"job": asked["job"] | {"n": 0}}:
            changed = [k for k in asked["job"] if k != "n" and there["job"].get(k) != asked["job"][k]]
            raise ConfigError(f"{folder} was made with another {', '.join(changed) or 'layout'}; choose another out=.")
        shards.clear(folder)
        for spare in sorted(folder.glob("shard-*.parquet"))[job.shards :]:
            spare.unlink()  # of a longer data set
    folder.mkdir(parents=True, exist_ok=True)
    config.save(path, card)


def _taken_in(folder: Path, made: Iterator[tuple[int, npt.NDArray[np.uint8]]]) -> Iterator[int]:
    """Numbers of shards once they are written."""
    for shard, data in made:
        shards.put(folder, shard, data)
        yield shard


def _in_processes(folder: Path, missing: list[int], workers: int, first: Synthesizer) -> Any:
    """Numbers of shards as they get done."""
    if workers == 1 or len(missing) <= 1:
        for shard in missing:
            finish(folder, shard, first)
            yield shard
        return
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(min(workers, len(missing)), context, initializer=_begin) as pool:
        futures = [pool.submit(_make, str(folder), shard) for shard in missing]
        try:
            for future in as_completed(futures):
                yield future.result()
        except BrokenProcessPool as error:
            raise ConfigError(
                f"{folder}: a worker process died, of little memory perhaps; go on by resume=true with fewer workers."
            ) from error
        finally:
            pool.shutdown(cancel_futures=True)  # after Ctrl-C, what is being made is finished


def one_gl_thread() -> None:
    """Let software GL draw in the thread that asks: processes are the parallelism. Before the process first draws."""
    os.environ.setdefault("LP_NUM_THREADS", "0")


def _begin() -> None:
    """A worker: Ctrl-C is its parent's to handle; and when the parent is gone, so is the worker."""
    one_gl_thread()
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    parent = multiprocessing.parent_process()
    assert parent is not None

    def follow() -> None:
        connection.wait([parent.sentinel])
        os._exit(1)

    threading.Thread(target=follow, daemon=True).start()


@functools.cache
def _synthesizer(folder: str) -> Synthesizer:
    """Of a worker process; made on its first shard."""
    card = config.load_yaml(Path(folder) / CARD)
    return Synthesizer(config.convert(Job, card["job"], str(Path(folder) / CARD), "job"))


def _make(folder: str, shard: int) -> int:
    finish(Path(folder), shard, _synthesizer(folder))
    return shard


def finish(folder: Path, shard: int, made_by: Synthesizer) -> Path:
    """Make a shard and write it; returns its file."""
    return shards.put(folder, shard, packed(made_by, shard))


def packed(made_by: Synthesizer, shard: int) -> npt.NDArray[np.uint8]:
    """Make a shard; the bytes of its file."""
    return shards.packed(*made_by.make(shard), made_by.job.image)


__all__ = [
    "Done",
    "Elsewhere",
    "Job",
    "Sample",
    "Synthesizer",
    "finish",
    "load",
    "one_gl_thread",
    "packed",
    "synthesize",
]
