"""Rollouts over Ray: worker processes hold the groups of a training, the learner has all the rest.

For each rollout the order goes into the object store once, and every worker reads it there; parts come back the same
way. Both are dictionaries of arrays. Since a group starts anew at each segment, one that is lost with its worker is
made again by following the segment's orders from the first on, in another worker: nothing is lost but the time, and
the ledger of policies/gathering.py sees the same part that it would have seen.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from robot.config import ConfigError
from transfer.scale.cluster import ScaleConfig, cluster
from transfer.scale.world import World

if TYPE_CHECKING:
    from policies.groups import Arrays, Group, GroupPlan, Groups, InProcess


SILENT = "no answer"


class ClusterLost(ConfigError):
    """The cluster answers no more, or kills what it is given."""


@contextmanager
def grouping(config: ScaleConfig, world: World) -> Iterator[Groups | None]:
    """How a training is cut into groups, and the cluster that they run on; None where it is not cut."""
    from policies.groups import Groups

    if config.engine == "local":
        made = Groups(config.groups, lambda plan: in_process(plan, world), config.staleness)
        yield made if config.groups else None
        return
    if not config.groups:
        raise ConfigError("scale=ray needs scale.groups=G: into how many parts are the simulations to be cut?")
    with cluster(config) as joined:
        yield Groups(config.groups, lambda plan: RayCollector(plan, world, config, joined.workers), config.staleness)


def in_process(plan: GroupPlan, world: World, nthread: int = 0) -> InProcess:
    """All groups here."""
    from policies.groups import InProcess

    return InProcess([world.group(plan, nthread) for _ in range(plan.groups)], plan.lag)


class Worker:
    """Some groups in a process of their own."""

    def __init__(self, plan: GroupPlan, world: World) -> None:
        import torch

        torch.set_num_threads(1)
        self._plan, self._world = plan, world
        self._groups: dict[int, Group] = {}
        self._at: dict[int, tuple[int, int]] = {}
        """Group -> segment, and the rollout in it that is next."""

    def collect(self, group: int, segment: int, stream: int, first: int, *orders: Arrays) -> Arrays:
        """The part of a group by the last of the orders, which are those of the segment from rollout `first` on."""
        from policies.groups import stamp

        if first == 0:
            if group not in self._groups:
                self._groups[group] = self._world.group(self._plan, nthread=1)
            self._groups[group].begin(stream, group)
            self._at[group] = (segment, 0)
        if self._at.get(group) != (segment, first):
            raise RuntimeError(f"group {group} is at {self._at.get(group)}, and was asked for {(segment, first)}")
        made: Arrays = {}
        for order in orders:
            made = self._groups[group].collect(order)
        self._at[group] = (segment, first + len(orders))
        return made | stamp(segment, first + len(orders) - 1, group)


class RayCollector:
    """All groups of a training, in workers that are replaced when they are lost."""

    def __init__(self, plan: GroupPlan, world: World, config: ScaleConfig, workers: int) -> None:
        import ray

        self._ray, self._config, self._plan = ray, config, plan
        self._count = min(workers, plan.groups)
        self._made_from = (ray.put(plan), ray.put(world))
        self._worker: Any = ray.remote(Worker)
        self._workers = [self._start(processors=1) for _ in range(self._count)]
        self._segment, self._stream = 0, 0
        self._orders: list[Any] = []
        """References to the orders of the segment so far."""
        self._asked: dict[Any, tuple[int, int]] = {}
        """Reference to an answer -> the rollout and the group that it is of."""
        self._parts: dict[tuple[int, int], Arrays] = {}
        """Rollout and group -> what has come and was not taken yet."""
        self._ahead = 0
        """Rollouts of the segment that were asked for."""
        self._next = [0] * plan.groups
        """Of each group the rollout that its worker has next, once it has done what it was asked."""
        self.replaced, self.repeated, self.waited_s = 0, 0, 0.0
        """Workers that were; parts that were asked for again; and how long the learner has waited."""

    def _start(self, processors: int) -> Any:
        options = {"num_cpus": processors, "max_restarts": 0, "scheduling_strategy": "SPREAD"}
        return self._worker.options(**options).remote(*self._made_from)

    def begin(self, segment: int, stream: int) -> None:
        self._segment, self._stream = segment, stream
        self._orders, self._ahead = [], 0
        self._next = [0] * self._plan.groups

    def collect(self, order: Arrays) -> list[Arrays]:
        """ClusterLost when nobody answers for twice the time that a worker has, or too many were lost."""
        rollout, groups = len(self._orders), range(self._plan.groups)
        self._orders.append(self._ray.put(order))
        end = min(rollout + self._plan.lag + 1, self._plan.recipe.segment_rollouts)
        for ahead in range(self._ahead, end):
            for group in groups:
                self._ask(ahead, group)
        self._ahead = end
        begin, silent = time.monotonic(), 0
        while any((rollout, group) not in self._parts for group in groups):
            lost = self._receive()
            silent = silent + 1 if lost and SILENT in lost.values() else 0
            if silent > 1:
                raise ClusterLost(
                    f"scale=ray: nobody answered for twice {self._config.timeout_s:g} s (scale.timeout_s); is the "
                    "cluster still there (`ray status`)? Go on with resume=true."
                )
            for worker, why in lost.items():
                self._replace(worker, why)
        self.waited_s += time.monotonic() - begin
        return [self._parts.pop((rollout, group)) for group in groups]

    def _receive(self) -> dict[int, str]:
        """Wait for an answer; the workers that are lost, and why."""
        ready, _ = self._ray.wait(list(self._asked), num_returns=1, timeout=self._config.timeout_s)
        if not ready:
            return {group % self._count: SILENT for _, group in self._asked.values()}
        place = self._asked[ready[0]]
        try:
            self._parts[place] = self._ray.get(ready[0])
        except self._ray.exceptions.RayTaskError as error:
            raise _own(error) from error
        except self._ray.exceptions.RayError as error:
            return {place[1] % self._count: " ".join(str(error).split())[:300]}
        del self._asked[ready[0]]
        return {}

    def _ask(self, rollout: int, group: int) -> None:
        """For a part, and where the worker is new for all that comes before it in the segment, which is thrown away."""
        first, self._next[group] = self._next[group], rollout + 1
        orders = [self._orders[max(k - self._plan.lag, 0)] for k in range(first, rollout + 1)]
        call = self._workers[group % self._count].collect
        self._asked[call.remote(group, self._segment, self._stream, first, *orders)] = (rollout, group)

    def _replace(self, worker: int, why: str) -> None:
        """Give the groups of a lost worker to a new one, and ask it for what is still missing."""
        self.replaced += 1
        if self.replaced > self._config.replacements:
            raise ClusterLost(
                f"scale=ray: {self.replaced} workers were lost (scale.replacements), the last one with: {why}; "
                "look for what kills them, memory most often, and go on with resume=true."
            )
        with contextlib.suppress(self._ray.exceptions.RayError):
            self._ray.kill(self._workers[worker], no_restart=True)
        # it asks for no processor of its own: the one that was lost may have taken its machine with it
        self._workers[worker] = self._start(processors=0)
        missing = sorted(place for place in self._asked.values() if place[1] % self._count == worker)
        self._asked = {r: place for r, place in self._asked.items() if place not in missing}
        for group in range(worker, self._plan.groups, self._count):
            self._next[group] = 0
        for rollout, group in missing:
            self._ask(rollout, group)
        self.repeated += len(missing)

    def told(self) -> dict[str, Any]:
        return {
            "engine": "ray",
            "workers": self._count,
            "workers_replaced": self.replaced,
            "parts_repeated": self.repeated,
            "learner_waited_s": round(self.waited_s, 3),
        }

    def close(self) -> None:
        for worker in self._workers:
            with contextlib.suppress(self._ray.exceptions.RayError):
                self._ray.kill(worker, no_restart=True)
        self._workers, self._orders = [], []


def _own(error: Any) -> BaseException:
    """What a worker's code raised: a ConfigError of ours is one here, too."""
    cause = getattr(error, "cause", None)
    return cause if isinstance(cause, ConfigError) else error
