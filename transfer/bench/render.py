"""`bench what=render`: labelled images a second of `synthesize`, beside a bare renderer on the same cores.

- `synthesize` is the stage's own work with its defaults: draws, physics, rare events, rendering of picture, depth and
  segmentation, keypoints, encoding, and the finished shard on disk. `appearance` adds every effect of the robot's
  appearance prior.
- `renderer` is a plain loop over mujoco.Renderer that makes the same passes of the same size at random poses, with
  shadows and multisampling off as ours has them; it keeps nothing.
- `passes` is our own renderer alone at random poses: it draws twice an image, mujoco.Renderer three times, as it reads
  picture and depth apart.
- One process a core each, the same for all; in turns, in one run. What a process does before its first image (imports,
  models, GL) is not timed. `cpu_ratio` compares CPU seconds an image: on a busy machine it bears more than the rates.
- `observe` is what a task with pixels calls: sim.render.Camera.images of 64 states, in this process alone.
"""

from __future__ import annotations

import multiprocessing
import os
import sys
import tempfile
import time
from dataclasses import replace
from multiprocessing.connection import Connection
from pathlib import Path
from typing import TYPE_CHECKING, Any

import mujoco
import numpy as np

from robot import config
from robot.config import shipped
from robot.result import Run
from sim import randomization
from sim.model import Model, find_robot
from sim.randomization import NOMINAL
from sim.render import Camera, why_no_egl
from sim.synthesize import Job, Synthesizer, finish, one_gl_thread
from transfer.bench.measure import Array, Contestant, Effort, cores, in_turns, row, spread

if TYPE_CHECKING:
    from transfer.stages.bench import Config

SCENES = {"simple_pendulum": "side", "so101": "front"}
"""Robot -> camera."""
SIDE, SHARD = 128, 64
EVENTS = {"limit": 0.05, "impact": 0.05, "saturation": 0.05, "occlusion": 0.05}
OBSERVE = (64, 96)
"""Sides of the observed images [pixel]."""
FULL, QUICK = Effort(rounds=7, seconds=1.0), Effort(rounds=5, seconds=0.02)
UNIT = "images/s"


def measure(cfg: Config, run: Run) -> dict[str, Any]:
    """Keys of result.json; `ratio` is ours over the renderer, of the robot where it is least."""
    processes = cfg.threads or cores()
    effort = QUICK if cfg.quick else FULL
    robots = list(SCENES)[:1] if cfg.quick else list(SCENES)
    rows: list[dict[str, Any]] = []
    cpu: dict[str, dict[str, float]] = {}
    ratios: dict[str, dict[str, dict[str, float]]] = {}
    for name in robots:
        print(f"bench: {name}", file=sys.stderr, flush=True)
        rates, spent = _contest(name, processes, effort)
        rows += [row(f"{name}/{k}", UNIT, values, side=SIDE) for k, values in rates.items()]
        if "renderer" in rates:
            ratios[name] = {k: spread(v / rates["renderer"]) for k, v in rates.items() if k != "renderer"}
            cpu[name] = {k: spent["renderer"] / v for k, v in spent.items() if k != "renderer"}
    rows += _observing(effort)
    keys: dict[str, Any] = {"threads": processes, "rows": rows, "ratios": ratios, "cpu_ratio": cpu, "missing": []}
    keys["ratio"] = {"renderer": min(r["synthesize"]["median"] for r in ratios.values())} if ratios else {}
    if why_no_egl():
        keys["missing"] = [{"peer": "renderer", "reason": why_no_egl()}]
    for r in rows:
        print(f"{r['name']:34} {r['median']:10,.0f} {UNIT}  ({r['min']:,.0f} to {r['max']:,.0f})")
    for name, ratio in ratios.items():
        words = [f"{k}/renderer {v['median']:.2f} (by CPU time {cpu[name][k]:.2f})" for k, v in ratio.items()]
        print(f"{name:34} " + "  ".join(words))
    return keys


def _contest(name: str, processes: int, effort: Effort) -> tuple[dict[str, Array], dict[str, float]]:
    """Rates by contestant, and CPU seconds an image."""
    job = Job(
        robot=find_robot(name), camera=SCENES[name], n=1 << 30, width=SIDE, height=SIDE, renderer="egl", events=EVENTS,
        shard=SHARD,
    )  # fmt: skip
    prior, looks = (shipped() / "dr" / f"{name}_{kind}.yaml" for kind in ("default", "appearance"))
    job = replace(job, randomization=randomization.load(prior) if prior.exists() else NOMINAL)
    wide = replace(job, randomization=randomization.load(looks))
    entries = {"ray": ("synthesize", replace(job, renderer="ray"))}
    if not why_no_egl():
        entries |= {
            "synthesize": ("synthesize", job),
            "appearance": ("synthesize", wide),
            "passes": ("passes", job),
            "renderer": ("renderer", job),
        }
    with tempfile.TemporaryDirectory() as scratch:
        crews = {k: Crew(kind, j, processes, Path(scratch) / k) for k, (kind, j) in entries.items()}
        try:
            rates = in_turns({name: crew for name, crew in crews.items()}, effort)
            return rates, {name: crew.cpu_s / crew.images for name, crew in crews.items()}
        finally:
            for crew in crews.values():
                crew.close()


class Crew:
    """Processes that all do one contestant's work, a shard each at a time."""

    def __init__(self, kind: str, job: Job, processes: int, folder: Path) -> None:
        os.environ.setdefault("MUJOCO_GL", "egl")  # mujoco.Renderer reads it when mujoco is imported
        self.setting, self.simulations = f"{processes} processes", processes * job.shard
        folder.mkdir()
        config.save(folder / "job.yaml", job)
        context = multiprocessing.get_context("spawn")
        self._pipes: list[Connection] = []
        self._processes = []
        for k in range(processes):
            ours, theirs = context.Pipe()
            process = context.Process(target=_serve, args=(theirs, kind, str(folder), k), daemon=True)
            process.start()
            self._pipes.append(ours)
            self._processes.append(process)
        self._wait()
        self.cpu_s, self.images = 0.0, 0

    def play(self, steps: int) -> None:
        for pipe in self._pipes:
            pipe.send(steps)
        self.cpu_s += self._wait()
        self.images += steps * self.simulations

    def _wait(self) -> float:
        """CPU seconds that the processes have spent."""
        return sum(float(pipe.recv()) for pipe in self._pipes)

    def close(self) -> None:
        for pipe, process in zip(self._pipes, self._processes, strict=True):
            pipe.send(0)
            process.join()


def _serve(pipe: Connection, kind: str, folder: str, number: int) -> None:
    """A process of a crew: as many shards as it is told, until told 0."""
    one_gl_thread()
    job = config.load(Job, Path(folder) / "job.yaml")
    makes: dict[str, type[Shards | Passes | Plain]] = {"synthesize": Shards, "passes": Passes, "renderer": Plain}
    worker = makes[kind](job, Path(folder), number)
    worker.shard()
    pipe.send(0.0)
    while steps := pipe.recv():
        start = time.process_time()
        for _ in range(steps):
            worker.shard()
        pipe.send(time.process_time() - start)
    worker.close()


class Shards:
    """The work of a process of `synthesize`."""

    def __init__(self, job: Job, folder: Path, number: int) -> None:
        self._maker, self._folder, self._next, self._number = Synthesizer(job), folder, number, number

    def shard(self) -> None:
        path = finish(self._folder, self._next, self._maker)
        path.unlink()  # the disk holds them all only once
        self._next += 64

    def close(self) -> None:
        pass


class Passes:
    """Our renderer, and nothing around it."""

    def __init__(self, job: Job, folder: Path, number: int) -> None:
        model = Model(job.robot)
        self._rng, self._index, self._count = np.random.default_rng(number), model.qpos_index, job.shard
        self._start = model.mj.qpos0
        self._camera = Camera(model, job.camera, job.width, job.height, renderer=job.renderer, nthread=1)

    def shard(self) -> None:
        qpos = np.tile(self._start, (self._count, 1))
        qpos[:, self._index] += self._rng.uniform(-0.6, 0.6, (self._count, len(self._index)))
        self._camera.render(qpos)

    def close(self) -> None:
        pass


class Plain:
    """mujoco.Renderer, as its tutorial uses it."""

    def __init__(self, job: Job, folder: Path, number: int) -> None:
        self._job, model = job, Model(job.robot)
        self._rng, mj = np.random.default_rng(number), model.mj
        self._index = model.qpos_index
        mj.vis.quality.offsamples = mj.vis.quality.shadowsize = 0
        mj.vis.global_.offwidth, mj.vis.global_.offheight = job.width, job.height
        self._mj, self._data = mj, mujoco.MjData(mj)
        self._renderer = mujoco.Renderer(mj, job.height, job.width)
        for flag in (mujoco.mjtRndFlag.mjRND_SHADOW, mujoco.mjtRndFlag.mjRND_REFLECTION):
            self._renderer.scene.flags[flag] = False

    def shard(self) -> None:
        renderer, data = self._renderer, self._data
        for _ in range(self._job.shard):
            data.qpos[:] = self._mj.qpos0
            data.qpos[self._index] += self._rng.uniform(-0.6, 0.6, len(self._index))
            mujoco.mj_forward(self._mj, data)
            renderer.update_scene(data, self._job.camera)
            renderer.disable_segmentation_rendering()
            renderer.render()
            renderer.enable_depth_rendering()
            renderer.render()
            renderer.disable_depth_rendering()
            renderer.enable_segmentation_rendering()
            renderer.render()

    def close(self) -> None:
        self._renderer.close()


class Eye:
    """Camera.images of 64 pendulums."""

    simulations = 64

    def __init__(self, renderer: str, side: int) -> None:
        self.setting = renderer
        model = Model(find_robot("simple_pendulum"))
        self._camera = Camera(model, "side", side, side, renderer=renderer)
        self._qpos = np.random.default_rng(0).uniform(-np.pi, np.pi, (self.simulations, model.mj.nq))

    def play(self, steps: int) -> None:
        for _ in range(steps):
            self._camera.images(self._qpos)

    def close(self) -> None:
        pass


def _observing(effort: Effort) -> list[dict[str, Any]]:
    """Rows of the images that a task with pixels would ask for."""
    renderers = ("ray",) if why_no_egl() else ("egl", "ray")
    eyes: dict[str, Contestant] = {f"{r} {side}": Eye(r, side) for side in OBSERVE for r in renderers}
    return [row(f"simple_pendulum/observe {k}", UNIT, values) for k, values in in_turns(eyes, effort).items()]
