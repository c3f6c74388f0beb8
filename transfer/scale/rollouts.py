"""Synchronous rollouts over Ray: worker processes hold the groups of a training, the learner has all the rest.

For each rollout the order goes into the object store once, and every worker reads it there; parts come back the same
way. Both are dictionaries of arrays. Since a group starts anew at each segment, one that is lost with its worker is
made again by following the segment's orders from the first on, in another worker: nothing is lost but the time, and
the ledger of policies/gathering.py sees the same part that it would have seen.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from robot.config import ConfigError
from transfer.scale.cluster import ScaleConfig, cluster
from transfer.scale.world import World

if TYPE_CHECKING:
    from policies.groups import Arrays, Group, GroupPlan, Groups


class ClusterLost(ConfigError):
    """The cluster answers no more, or kills what it is given."""


@contextmanager
def grouping(config: ScaleConfig, world: World) -> Iterator[Groups | None]:
    """How a training is cut into groups, and the cluster that they run on; None where it is not cut."""
    from policies.groups import Groups, InProcess

    if config.engine == "local":
        made = Groups(config.groups, lambda plan: InProcess([world.group(plan) for _ in range(plan.groups)]))
        yield made if config.groups else None
        return
    if not config.groups:
        raise ConfigError("scale=ray needs scale.groups=G: into how many parts are the simulations to be cut?")
    with cluster(config) as joined:
        yield Groups(config.groups, lambda plan: RayCollector(plan, world, config, joined.workers))


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

        self._ray, self._config, self._groups = ray, config, plan.groups
        self._count = min(workers, plan.groups)
        self._made_from = (ray.put(plan), ray.put(world))
        self._worker: Any = ray.remote(Worker)
        self._workers = [self._start(processors=1) for _ in range(self._count)]
        self._segment, self._stream = 0, 0
        self._orders: list[Any] = []
        """References to the orders of the segment so far."""
        self._next = [0] * plan.groups
        """Of each group the rollout that its worker has next."""
        self.replaced, self.repeated = 0, 0
        """Workers that were, and parts that were asked for again."""

    def _start(self, processors: int) -> Any:
        options = {"num_cpus": processors, "max_restarts": 0, "scheduling_strategy": "SPREAD"}
        return self._worker.options(**options).remote(*self._made_from)

    def begin(self, segment: int, stream: int) -> None:
        self._segment, self._stream, self._orders = segment, stream, []
        self._next = [0] * self._groups

    def collect(self, order: Arrays) -> list[Arrays]:
        """ClusterLost when nobody answers for twice the time that a worker has, or too many were lost."""
        self._orders.append(self._ray.put(order))
        asked = {self._ask(group): group for group in range(self._groups)}
        made: dict[int, Arrays] = {}
        silent = 0
        while asked:
            ready, _ = self._ray.wait(list(asked), num_returns=1, timeout=self._config.timeout_s)
            lost: dict[int, str] = {}
            if not ready:
                silent += 1
                why = f"no answer within {self._config.timeout_s:g} s"
                lost = {group % self._count: why for group in asked.values()}
            for reference in ready:
                group, silent = asked.pop(reference), 0
                try:
                    made[group] = self._ray.get(reference)
                    self._next[group] = len(self._orders)
                except self._ray.exceptions.RayTaskError as error:
                    raise _own(error) from error
                except self._ray.exceptions.RayError as error:
                    lost[group % self._count] = _sentence(error)
                    asked[reference] = group  # to be asked for again with the others of its worker
            if silent > 1:
                raise ClusterLost(f"scale=ray: {lost.popitem()[1]}, twice; is the cluster still there? (ray status)")
            for worker, why in lost.items():
                asked = self._replaced(worker, why, asked)
        return [made[group] for group in range(self._groups)]

    def _ask(self, group: int) -> Any:
        first = self._next[group]
        call = self._workers[group % self._count].collect
        return call.remote(group, self._segment, self._stream, first, *self._orders[first:])

    def _replaced(self, worker: int, why: str, asked: dict[Any, int]) -> dict[Any, int]:
        """What is asked for, once another worker has the groups of a lost one."""
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
        again = [group for group in asked.values() if group % self._count == worker]
        for group in range(worker, self._groups, self._count):
            self._next[group] = 0
        self.repeated += len(again)
        kept = {reference: group for reference, group in asked.items() if group not in again}
        return kept | {self._ask(group): group for group in again}

    def told(self) -> dict[str, Any]:
        return {
            "engine": "ray",
            "workers": self._count,
            "workers_replaced": self.replaced,
            "parts_repeated": self.repeated,
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


def _sentence(error: BaseException) -> str:
    return " ".join(str(error).split())[:300]
