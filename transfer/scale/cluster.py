"""The Ray cluster that work is spread over: joined where there is one, else started on this machine and taken down.

    terrafirma train task=pendubot_swingup scale=ray
    terrafirma train task=pendubot_swingup scale=ray scale.address=10.0.0.1:6379 scale.workers=8

What is started here sends no usage statistics and has no dashboard, and its files stand in a folder of its own under
/tmp, which goes away with it.
"""

from __future__ import annotations

import importlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from robot.checks import Host
from robot.checks import cluster as look
from robot.config import ConfigError

ROOT = Path(__file__).resolve().parents[2]
"""Folder of the packages: a checkout, or where they are installed."""
SHORT = "/tmp"
"""Ray's sockets have paths below it, of which the kernel allows 107 bytes."""


SETTINGS = {"prestart_worker_first_driver": False, "worker_niceness": 0}
"""Of a cluster that is started here: no workers in advance, without our environment; and workers that do not stand back
by 15 steps of niceness, which on a busy machine leaves them nothing."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ScaleConfig:
    """configs/scale/<name>.yaml: what a stage is spread over."""

    engine: Literal["local", "ray"] = "local"
    """`local`: this process and those that a stage starts by itself. `ray`: a Ray cluster."""
    address: str = "auto"
    """HOST:PORT of a cluster that this machine is part of; auto: the running one (RAY_ADDRESS, or what `ray start` has
    noted), else one is started on this machine for the time of the stage."""
    workers: int = 0
    """Worker processes, at most as many as the cluster has processors; 0: so many."""
    groups: int = 0
    """Into so many groups a training's simulations are cut, each with random streams of its own; the result depends on
    it, and not on `workers`. 0: not at all."""
    staleness: int = 4
    """Off-policy trainings: how many updates old the weights may be by which a group acts."""
    object_store_mib: int = 256
    """Shared memory for arrays of a cluster that is started here [MiB]."""
    timeout_s: float = 300.0
    """Without an answer for so long a worker counts as lost and is replaced [s]; one that is known to have died is
    replaced at once."""
    replacements: int = 20
    """Workers that may be lost in one stage before it gives up."""

    def __post_init__(self) -> None:
        for name, least in (("workers", 0), ("groups", 0), ("staleness", 0), ("replacements", 0)):
            if getattr(self, name) < least:
                raise ConfigError(f"scale.{name} is {getattr(self, name)}; it must be at least {least}.")
        if self.object_store_mib < 80:
            raise ConfigError(f"scale.object_store_mib is {self.object_store_mib}; Ray needs at least 80.")
        if not self.timeout_s > 0.0:
            raise ConfigError(f"scale.timeout_s is {self.timeout_s} s; it must be above 0.")


@dataclass(frozen=True, kw_only=True, slots=True)
class Cluster:
    """A cluster that this process has joined."""

    address: str
    """HOST:PORT."""
    started: bool
    """Whether it was started here, and goes away with the stage."""
    workers: int
    """Worker processes to spread work over."""


@contextmanager
def cluster(config: ScaleConfig) -> Iterator[Cluster]:
    """Join the cluster, or start one; on leaving, what was started is shut down and its files are removed.

    ConfigError without Ray, when nobody answers at the address, when the versions differ, and for too little shared
    memory. Not to be entered twice in a process at once.
    """
    ray = _ray()
    where = look.find(config.address)
    folder = None if where is not None else _folder()
    try:
        if folder is None:
            _join(ray, config, str(where))
        else:
            _start(ray, config, folder)
        processors = max(int(ray.cluster_resources().get("CPU", 1)), 1)
        workers = min(config.workers or processors, processors)
        address = ray.get_runtime_context().gcs_address
        yield Cluster(address=address, started=folder is not None, workers=workers)
    finally:
        ray.shutdown()
        if folder is not None:
            shutil.rmtree(folder, ignore_errors=True)


def _folder() -> Path:
    """A new folder; those of processes that were killed are removed."""
    for old in Path(SHORT).glob("tf-ray-*"):
        owner = old.name.split("-")[2]
        if owner.isdigit() and not Path(f"/proc/{owner}").exists() and Path("/proc/self").exists():
            shutil.rmtree(old, ignore_errors=True)
    return Path(tempfile.mkdtemp(prefix=f"tf-ray-{os.getpid()}-", dir=SHORT))


def _ray() -> Any:
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")  # it would hide GPUs from this process
    try:
        return importlib.import_module("ray")
    except ImportError as error:
        raise ConfigError(
            f"scale=ray needs the package 'ray', which is not installed: {look.EXTRA}, or leave scale= out."
        ) from error


def _join(ray: Any, config: ScaleConfig, where: str) -> None:
    try:
        ray.init(address=look.as_asked(config.address, where), **_session())
    except Exception as error:  # Ray raises its own, RuntimeError and ConnectionError, for what is one thing here
        raise ConfigError(f"scale=ray: {look.refused(where, ' '.join(str(error).split()))}") from error


def _start(ray: Any, config: ScaleConfig, folder: Path) -> None:
    try:
        look.shared_memory(Host(folder), config.object_store_mib)
    except ConfigError as error:
        raise ConfigError(f"scale=ray: {error}; give the machine more, or scale.object_store_mib= less.") from error
    ray.init(
        address="local",
        num_cpus=config.workers or _processors(),
        object_store_memory=config.object_store_mib << 20,
        include_dashboard=False,
        _temp_dir=str(folder),
        _system_config=SETTINGS,
        **_session(),
    )


def _processors() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _session() -> dict[str, Any]:
    """How this process joins: workers compute with one thread each, and find the code that runs here."""
    path = os.pathsep.join(p for p in (str(ROOT), os.environ.get("PYTHONPATH", "")) if p)
    variables = {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "PYTHONPATH": path, "RAY_USAGE_STATS_ENABLED": "0"}
    return {"runtime_env": {"env_vars": variables}, "logging_level": "ERROR", "log_to_driver": False}
