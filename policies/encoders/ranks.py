"""Training by the processes that torchrun has started, on one host or on several.

Each works its share of every global batch, and all apply the gradient of the whole, so that the result is the one that
a single process would have had. A gradient here is some 10,000 to 200,000 numbers: one sum of all of them in a row is
shorter, and at these sizes cheaper, than torch's DistributedDataParallel, whose networks must be called as one, whose
buckets have nothing to overlap with, and which knows no loss that couples the samples of different processes.
"""

from __future__ import annotations

import hashlib
import os
import time
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta

import torch
from torch import Tensor
from torch import distributed as dist
from torch.distributed.rendezvous import rendezvous

from robot.config import ConfigError

PATIENCE = timedelta(hours=2)
"""Longest wait for the others, who may be waiting for rank 0 to make the data. A process that ends, or a host that
torchrun misses, is noticed at once."""

MEETING = timedelta(minutes=10)
"""Longest wait for the others to begin."""


class Parted(ConfigError):
    """Another process of the training has ended."""

    exit_code = 1


@dataclass(frozen=True, slots=True)
class Ranks:
    """This process among those that train together; of one process every method gives back what it got."""

    rank: int = 0
    count: int = 1
    elastic: bool = False
    """Whether a process that ends is started again, so that every step must be kept."""

    @property
    def leads(self) -> bool:
        """Whether this process is the one that writes files and reports."""
        return self.rank == 0

    def own(self, count: int) -> slice:
        """Which of `count` rows are this process's."""
        return slice(self.rank, count, self.count)

    def parts_of(self, count: int) -> range:
        """Which of `count` parts of a batch are this process's; ConfigError when somebody would have none."""
        if count < self.count:
            raise ConfigError(
                f"{self.count} processes train on batches of {count} parts: take encoder.processes={self.count}, and "
                "an encoder.batch so much smaller, or start fewer."
            )
        return range(self.rank, count, self.count)

    def add(self, weights: Sequence[Tensor], told: float) -> float:
        """Put the sum over all processes into the weights' gradients; returns the sum of `told`, too."""
        if self.count == 1:
            return told
        gradients = [w.grad for w in weights if w.grad is not None]
        row = torch.cat([*(g.flatten() for g in gradients), gradients[0].new_tensor([told])])
        self._sum(row)
        for gradient, part in zip(gradients, row[:-1].split([g.numel() for g in gradients]), strict=True):
            gradient.copy_(part.view_as(gradient))
        return float(row[-1])

    def total(self, value: Tensor) -> Tensor:
        """The sum over all processes, without a gradient."""
        if self.count == 1:
            return value
        value = value.detach().clone()
        self._sum(value)
        return value

    def gathered(self, rows: Tensor, count: int) -> Tensor:
        """(count, Z) the rows of all processes, of which this one's alone, own(count), have a gradient."""
        if self.count == 1:
            return rows
        whole = rows.new_zeros(count, *rows.shape[1:])
        whole[self.own(count)] = rows.detach()
        self._sum(whole)
        whole[self.own(count)] = rows
        return whole

    def once(self, value: Tensor) -> Tensor:
        """A loss that every process has, made of gathered() rows: summed over them it counts once, with the gradient
        of all rows."""
        return value if self.count == 1 else value - (1.0 - 1.0 / self.count) * value.detach()

    def any(self, mine: bool) -> bool:
        """Whether it is so for any process."""
        return bool(self.total(torch.tensor(float(mine))) > 0.0)

    def told(self, data: bytes | None) -> bytes | None:
        """What rank 0 has, None where that is nothing."""
        if self.count == 1:
            return data
        size = self.total(torch.tensor(0 if data is None or not self.leads else len(data)))
        if not size:
            return None
        given = torch.frombuffer(bytearray(data), dtype=torch.uint8) if self.leads and data else None
        row = torch.empty(int(size), dtype=torch.uint8) if given is None else given
        with _in_one_sentence():
            dist.broadcast(row, 0)
        return row.numpy().tobytes()

    def wait(self) -> None:
        """Until all are here."""
        self.total(torch.zeros(1))

    def _sum(self, row: Tensor) -> None:
        with _in_one_sentence():
            dist.all_reduce(row)


ALONE = Ranks()


@dataclass(frozen=True, slots=True)
class Crew:
    """What policies.encoders.together.Team is to the processes of one machine, for those of torchrun: a batch has as
    many parts, whoever works them."""

    ranks: Ranks
    parts: int

    def parts_of(self, rank: int) -> range:
        """Which parts of the batch are a process's."""
        return self.ranks.parts_of(self.parts)

    def average(self, rank: int, weights: Sequence[Tensor]) -> None:
        """Put the mean over all parts into the gradients, which are the sums over each process's; laid out as Team
        does, since how a norm is added up shows in its last digit, and after some updates in all of them."""
        if self.parts == 1:
            return
        gradients = [w.grad if w.grad is not None else torch.zeros_like(w) for w in weights]
        row = self.ranks.total(torch.cat([g.flatten() for g in gradients])) / self.parts
        for weight, part in zip(weights, row.split([w.numel() for w in weights]), strict=True):
            weight.grad = part.view_as(weight)


def here() -> Ranks:
    """This process among those of joined(), or alone."""
    if dist.is_available() and dist.is_initialized():
        return Ranks(dist.get_rank(), dist.get_world_size(), elastic=True)
    return ALONE


@contextmanager
def joined() -> Iterator[Ranks]:
    """Meet the others that torchrun has started, for as long as the block runs."""
    try:
        store, rank, count = next(rendezvous("env://", timeout=MEETING))
        name = _meeting(store, rank, count)
        met = dist.PrefixStore(name, store)
        dist.init_process_group("gloo", store=met, rank=rank, world_size=count, timeout=PATIENCE)
    except (RuntimeError, ValueError) as error:
        raise ConfigError(f"the processes of torchrun do not find each other ({_first_line(error)}).") from error
    try:
        yield here()
    finally:
        dist.destroy_process_group()


def _meeting(store: dist.Store, rank: int, count: int) -> str:
    """A name that the processes of this start, and no others, have in common.

    torchrun keeps its store when it starts processes again, and hosts may count their starts differently; without a
    name of their own the new ones would look for the old ones at the addresses that these have left. So each says who
    it is; rank 0 repeats whom it has heard of until all of these have found themselves in it.
    """
    me, end = uuid.uuid4().hex, time.monotonic() + MEETING.total_seconds()
    store.set(f"hello/{rank}", me)
    hellos = [f"hello/{r}" for r in range(count)]
    while time.monotonic() < end:
        if rank == 0 and store.check(hellos):
            store.set("heard", ",".join(store.get(hello).decode() for hello in hellos))
        heard = store.get("heard").decode() if store.check(["heard"]) else ""
        known = heard.split(",")
        if len(known) == count and known[rank] == me:
            name = hashlib.sha256(heard.encode()).hexdigest()
            store.set(f"{name}/{rank}", me)
            if store.check([f"{name}/{r}" for r in range(count)]):
                return name
        time.sleep(0.02)
    raise RuntimeError(f"waited {MEETING} for all {count} of them")


def restarted() -> bool:
    """Whether torchrun has started this process in the place of one that ended."""
    return int(os.environ.get("TORCHELASTIC_RESTART_COUNT", "0")) > 0


@contextmanager
def _in_one_sentence() -> Iterator[None]:
    try:
        yield
    except RuntimeError as error:
        raise Parted(
            f"another process of the training has ended ({_first_line(error)}); torchrun --max-restarts=N starts all "
            "again from the last step, and so does the same command with resume=true."
        ) from error


def _first_line(error: Exception) -> str:
    return str(error).strip().partition("\n")[0]
