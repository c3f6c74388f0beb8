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
from transfer.scale.fan import arriving


def by_workers(scale: ScaleConfig) -> Elsewhere:
    """What makes the shards of sim.synthesize.synthesize()."""

    def make(job: Job, numbers: Sequence[int]) -> Iterator[tuple[int, npt.NDArray[np.uint8]]]:
        shared = {"job": config.dump_yaml(config.to_plain(job))}
        for i, data in arriving(make_shard, list(numbers), scale, shared):
            yield numbers[i], data

    return make


def make_shard(shared: Mapping[str, Any], shard: int) -> npt.NDArray[np.uint8]:
    """A worker's task: the bytes of a shard's file."""
    return packed(_synthesizer(shared["job"]), shard)


@functools.lru_cache(maxsize=1)
def _synthesizer(job: str) -> Synthesizer:
    """Of a worker process; made on its first shard."""
    one_gl_thread()
    return Synthesizer(config.convert(Job, config.parse_yaml(job, "the job"), "the job"))
