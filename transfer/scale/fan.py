"""A map over independent tasks, in this process or by the workers of a Ray cluster: one function, the same results.

The work is a function of a module, `work(shared, task) -> result`; all three are plain data: numbers, text, lists,
mappings and arrays, which move through Ray's object store without a copy on each host. Nothing else is let through,
so that no policy and no environment is ever pickled. A worker that dies at any moment is replaced and its task done
again, perhaps a second time beside one that was only thought dead: so a task must be safe to repeat, and what it
gives depend on `shared` and the task alone. Each result is taken in once.
Source of the semantics: docs.ray.io, ray-core/fault_tolerance/tasks (max_retries counts system failures alone).
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np

from policies.progress import Meter, Report, silent
from robot.config import ConfigError
from transfer.scale.cluster import ScaleConfig, cluster

Work = Callable[[Any, Any], Any]

QUEUED = 2
"""Tasks handed out for each core: the next one is there when a worker is done."""


@contextmanager
def at_hand(scale: ScaleConfig) -> Iterator[None]:
    """The workers of a scale: a Ray cluster, or nobody but this process."""
    if scale.engine == "local":
        yield
    else:
        with cluster(scale):
            yield


def arriving(
    work: Work, tasks: Iterable[Any], scale: ScaleConfig, shared: Any = None, queued: int = QUEUED
) -> Iterator[tuple[int, Any]]:
    """(index of the task, result) of every task once, as they get done; in this process where scale.engine is local.

    Tasks are asked for as there is room for them: of a generator the next one after the last result was made use of.
    With Ray, which must be at_hand(), arrays in results are read-only. Left early, it stops what is still being done.
    Raises what the work raised, and ConfigError when one task's workers keep dying.
    """
    if scale.engine == "local":
        yield from ((i, work(shared, task)) for i, task in enumerate(tasks))
    else:
        yield from _by_ray(work, tasks, scale, shared, queued)


def fan_out(
    work: Work,
    tasks: Sequence[Any],
    scale: ScaleConfig,
    shared: Any = None,
    what: str = "tasks",
    report: Report = silent,
) -> list[Any]:
    """The results in the order of the tasks, in whatever order they arrived, so that sums over them are the same."""
    results: list[Any] = [None] * len(tasks)
    meter = Meter(what, len(tasks), "tasks", report)
    for done, (i, result) in enumerate(arriving(work, tasks, scale, shared), 1):
        results[i] = result
        meter(done)
    return results


def workers_at_hand(scale: ScaleConfig) -> int:
    """How many tasks are worked at together."""
    if scale.engine == "local":
        return 1
    return min(scale.workers or _cores(), _cores())


def check_plain(value: Any, where: str) -> None:
    """TypeError for what is neither plain data nor an array of it; a mistake of the code, not of the user."""
    if value is None or isinstance(value, (bool, int, float, str, bytes, np.number, np.bool_)):
        return
    if isinstance(value, np.ndarray) and value.dtype.kind != "O":
        return
    if isinstance(value, Mapping):
        for key, inner in value.items():
            check_plain(inner, f"{where}.{key}")
    elif isinstance(value, (list, tuple)):
        for i, inner in enumerate(value):
            check_plain(inner, f"{where}[{i}]")
    else:
        raise TypeError(f"{where} is a {type(value).__name__}; only plain data and arrays go to another process.")


def name_of(work: Work) -> str:
    """module:function, by which a worker finds it."""
    if "." in work.__qualname__:
        raise TypeError(f"{work.__qualname__} is no function of a module; a worker could not import it.")
    return f"{work.__module__}:{work.__qualname__}"


def perform(name: str, shared: Any, task: Any) -> Any:
    """A task, in a worker."""
    module, _, function = name.partition(":")
    result = getattr(importlib.import_module(module), function)(shared, task)
    check_plain(result, f"what {name} returns")
    return result


def _by_ray(
    work: Work, tasks: Iterable[Any], scale: ScaleConfig, shared: Any, queued: int
) -> Iterator[tuple[int, Any]]:
    import ray

    name = name_of(work)
    check_plain(shared, "shared")
    remote = ray.remote(num_cpus=1, max_retries=scale.replacements)(perform)
    common, room = ray.put(shared), _room(scale, queued)
    waiting: dict[Any, int] = {}
    left = iter(enumerate(tasks))
    try:
        while True:
            while len(waiting) < room and (following := next(left, None)) is not None:
                i, task = following
                check_plain(task, f"task {i}")
                waiting[remote.remote(name, common, task)] = i
            if not waiting:
                return
            (ready, *_), _ = ray.wait(list(waiting))
            i = waiting.pop(ready)
            yield i, _taken(ready, f"task {i} of {name}", scale)
    finally:
        for ref in waiting:
            ray.cancel(ref, force=True)


def _room(scale: ScaleConfig, queued: int) -> int:
    """Tasks to hand out at once: `workers`, and `queued` times as many as cores where there are no more of those."""
    cores = _cores()
    return queued * cores if not scale.workers or cores <= scale.workers else scale.workers


def _cores() -> int:
    import ray

    return max(1, int(ray.cluster_resources().get("CPU", 1)))


def _taken(ref: Any, what: str, scale: ScaleConfig) -> Any:
    import ray
    from ray import exceptions

    try:
        return ray.get(ref)
    except exceptions.RayTaskError as error:
        if isinstance(error.cause, ConfigError):
            raise error.cause from None
        raise
    except (exceptions.WorkerCrashedError, exceptions.OutOfMemoryError, exceptions.ObjectLostError) as error:
        raise ConfigError(
            f"{what}: its worker died {scale.replacements + 1} times, of little memory perhaps; try scale=local "
            f"({type(error).__name__})."
        ) from error
