"""Shards of synthetic images made by other processes: their bytes come back, and this process alone writes files.

So hosts need no common file system, no file has two writers, and a data set is the same, byte by byte, wherever its
shards were made by the same renderer.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from robot import config
from sim.synthesize import Elsewhere, Job, Synthesizer, one_gl_thread, packed
from transfer.scale.cluster import ScaleConfig
from transfer.scale.fan import arriving, workers_at_hand

TOGETHER = 8
"""Shards of one task at most: handing out a task and taking it in costs some milliseconds, as do 10 small images."""
SHARE = 16
"""Tasks for each worker at least, so that none has to wait for another at the end."""


def by_workers(scale: ScaleConfig) -> Elsewhere:
    """What makes the shards of sim.synthesize.synthesize()."""

    def make(job: Job, numbers: Sequence[int]) -> Iterator[tuple[int, npt.NDArray[np.uint8]]]:
        each = min(max(len(numbers) // (SHARE * workers_at_hand(scale)), 1), TOGETHER)
        tasks = [list(numbers[i : i + each]) for i in range(0, len(numbers), each)]
        shared = {"job": config.dump_yaml(config.to_plain(job))}
        for i, made in arriving(make_shards, tasks, scale, shared):
            yield from zip(tasks[i], made, strict=True)

    return make


def make_shards(shared: Mapping[str, Any], numbers: Sequence[int]) -> list[npt.NDArray[np.uint8]]:
    """A worker's task: the bytes of some shards' files."""
    return [packed(_synthesizer(shared["job"]), number) for number in numbers]


@functools.lru_cache(maxsize=1)
def _synthesizer(job: str) -> Synthesizer:
    """Of a worker process; made on its first shard."""
    one_gl_thread()
    return Synthesizer(config.convert(Job, config.parse_yaml(job, "the job"), "the job"))
