"""Training by several processes on one machine: each computes the gradient of its own batch, all apply the mean.

The networks here are so small that a second thread hardly helps, while a second process nearly doubles the speed. All
begin with the same weights and average through shared memory in a fixed order, so they stay equal, and the result
follows from the seed and the number of processes. The one that is rank 0 is the caller's own.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from multiprocessing import connection, parent_process
from threading import BrokenBarrierError
from typing import Any

import torch
import torch.multiprocessing
from torch import Tensor

from robot.config import ConfigError

PATIENCE_S = 120.0
"""Longest wait for the others' gradients."""


class Team:
    """What the processes share: a row of memory each, and a barrier."""

    def __init__(self, count: int, weights: Sequence[Tensor]) -> None:
        """`weights`: those that are trained, in the same order in every process."""
        self.count = count
        self._memory = torch.zeros(count, sum(w.numel() for w in weights)).share_memory_()
        self._barrier = torch.multiprocessing.get_context("spawn").Barrier(count)

    def parts_of(self, rank: int) -> range:
        """Which of the batch's `count` parts are a process's."""
        return range(rank, rank + 1)

    def average(self, rank: int, weights: Sequence[Tensor]) -> None:
        """Put the mean over all processes into the weights' gradients; ConfigError when another process has ended."""
        if self.count == 1:
            return
        gradients = [w.grad if w.grad is not None else torch.zeros_like(w) for w in weights]
        torch.cat([g.flatten() for g in gradients], out=self._memory[rank])
        self._wait()
        mean = self._memory.mean(dim=0)
        self._wait()  # nobody writes while somebody reads
        for weight, part in zip(weights, mean.split([w.numel() for w in weights]), strict=True):
            weight.grad = part.view_as(weight)

    def _wait(self) -> None:
        try:
            self._barrier.wait(PATIENCE_S)
        except BrokenBarrierError as error:
            raise ConfigError(
                "a process of the training has ended, of little memory perhaps; go on by resume=true, with "
                "encoder.processes=1."
            ) from error

    def give_up(self) -> None:
        """Let nobody wait for this process any more."""
        self._barrier.abort()


@contextmanager
def helpers(team: Team, work: Callable[..., None], *given: Any) -> Iterator[None]:
    """Run work(team, rank, *given) in processes of their own for the ranks from 1 on, while the caller is rank 0.

    Each uses one thread, as does the caller; `given` must be plain data and tensors, which are shared, not copied.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    context = torch.multiprocessing.get_context("spawn")
    processes = [
        context.Process(target=_help, args=(team, rank, work, given), daemon=True) for rank in range(1, team.count)
    ]
    for process in processes:
        process.start()
    try:
        yield
    finally:
        team.give_up()
        for process in processes:
            process.join(PATIENCE_S)
        torch.set_num_threads(threads)


def _help(team: Team, rank: int, work: Callable[..., None], given: tuple[Any, ...]) -> None:
    torch.set_num_threads(1)
    parent = parent_process()
    assert parent is not None

    def follow() -> None:
        connection.wait([parent.sentinel])
        os._exit(1)

    threading.Thread(target=follow, daemon=True).start()
    with suppress(ConfigError):  # the caller was stopped, and says why itself
        work(team, rank, *given)
