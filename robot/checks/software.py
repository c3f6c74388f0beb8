"""Packages: what is installed of each extra, and whether the parts that lie outside Python are there."""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
import sys
from importlib import metadata, util

from robot.checks import Host, Look, Seen
from robot.machine import cpu_class

EXTRAS = {
    "train": ("torch", "mujoco", "gymnasium", "stable_baselines3", "hydra"),
    "camera": ("cv2",),
    "can": ("can", "serial"),
    "serial": ("serial",),
}
"""Extra -> modules that it brings."""
WHAT_FOR = {"train": "only training needs it", "camera": "for cameras", "can": "for driver=can", "serial": "for servos"}
TIMEOUT_S = 10.0
"""For nvidia-smi, which hangs where its driver does."""


def installed(module: str) -> bool:
    """Whether a module can be found; it is not imported."""
    try:
        return util.find_spec(module) is not None
    except (ModuleNotFoundError, ValueError):
        return False


def processor(host: Host) -> Seen:
    """Cores that this process may use, and what decides how a network rounds."""
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return Seen(f"{allowed} of {os.cpu_count()} cores, {cpu_class()}, {platform.system()} {platform.release()}")


def extra(name: str) -> Look:
    """A look at one extra."""

    def look(host: Host) -> Seen:
        missing = [m for m in EXTRAS[name] if not installed(m)]
        if not missing:
            return Seen("installed")
        return Seen(f"not installed ({', '.join(missing)}); {WHAT_FOR[name]}", f"pip install 'terrafirma[{name}]'")

    return look


def torch(host: Host) -> Seen:
    """Its version, which tells for which hardware it was built, without the seconds that importing it takes."""
    if not installed("torch"):
        return Seen("not installed; only training needs it")
    version = metadata.version("torch")
    if "+cpu" in version and host.found("dev/nvidia[0-9]*"):
        return Seen(f"{version}, built for the processor, and there is an NVIDIA GPU", "pip install --upgrade torch")
    return Seen(version)


def mujoco(host: Host) -> Seen:
    """Its version."""
    return Seen(metadata.version("mujoco") if installed("mujoco") else "not installed; only simulation needs it")


def gpu(host: Host) -> Seen:
    """What nvidia-smi knows."""
    devices = host.found("dev/nvidia[0-9]*")
    program = shutil.which("nvidia-smi")
    if program is None:
        if devices:
            return Seen("an NVIDIA device without nvidia-smi", "install the NVIDIA driver's utilities")
        return Seen("none; nothing needs one")
    ask = [program, "--query-gpu=name,driver_version,memory.total", "--format=csv,noheader"]
    try:
        done = subprocess.run(ask, capture_output=True, text=True, timeout=TIMEOUT_S)
    except (subprocess.TimeoutExpired, OSError) as error:
        return Seen(f"nvidia-smi does not answer ({type(error).__name__})", "reload the NVIDIA driver, or restart")
    if done.returncode != 0:
        told = (done.stdout + done.stderr).strip().splitlines() or ["no reason given"]
        return Seen(f"nvidia-smi fails: {told[0]}", "install the NVIDIA driver that fits the kernel, and restart")
    return Seen("; ".join(line.strip() for line in done.stdout.splitlines()) or "none; nothing needs one")


def python(host: Host) -> Seen:
    """Its version."""
    return Seen(f"{sys.version.split()[0]} at {sys.executable}")


def warp(host: Host) -> Seen:
    """What `backend=warp` would say: the packages, and a CUDA device's file."""
    missing = [m for m in ("mujoco_warp", "warp") if not installed(m)]
    if missing:
        return Seen(
            f"not installed ({', '.join(missing)}); for backend=warp, on a GPU", "pip install 'terrafirma[gpu]'"
        )
    version = f"MuJoCo Warp {metadata.version('mujoco-warp')}"
    if not host.found("dev/nvidia[0-9]*"):
        return Seen(f"{version}, and no CUDA device: backend=warp will be refused, backend=cpu needs none")
    return Seen(f"{version}, and a CUDA device")


LOOKS: dict[str, Look] = {
    "python": python,
    "processor": processor,
    **{f"extra {name}": extra(name) for name in EXTRAS},
    "torch": torch,
    "mujoco": mujoco,
    "gpu": gpu,
    "backend warp": warp,
}
