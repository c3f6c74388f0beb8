"""A Ray cluster: where it is, and whether this machine can work with it. The edge packages alone are enough to ask."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
from importlib import metadata
from pathlib import Path

from robot.checks import Host, Seen
from robot.checks.software import installed
from robot.config import ConfigError

EXTRA = "pip install 'terrafirma[scale]'"
CURRENT = Path("/tmp/ray/ray_current_cluster")
"""Where `ray start` notes the address of the cluster that it started or joined."""
ANSWERS_S = 3.0
"""Within which a cluster's port is to answer."""
JOINS_S = 90.0
"""Within which Ray is to join a cluster, on a busy machine."""
SHARED_MIB = 256
"""What Ray keeps arrays in, of the machine's shared memory."""
JOIN = """
import os, sys
os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
import ray
try:
    ray.init(address=sys.argv[1], logging_level="ERROR", log_to_driver=False)
except Exception as error:
    sys.exit(" ".join(str(error).split()))
print(f"{len(ray.nodes())} nodes, {ray.cluster_resources().get('CPU', 0):g} processors")
ray.shutdown()
"""


def find(address: str) -> str | None:
    """HOST:PORT of the cluster that `scale.address` means; None where one is to be started on this machine.

    `auto` is what RAY_ADDRESS says, else what `ray start` noted here, if that still answers. ConfigError when an
    address was given and nobody answers there.
    """
    given = os.environ.get("RAY_ADDRESS", "") if address == "auto" else address
    if address == "auto" and given in ("", "auto"):
        noted = CURRENT.read_text().strip() if CURRENT.is_file() else ""
        return noted if noted and answers(noted) else None
    if given == "local":
        return None
    if not answers(given):
        name = "RAY_ADDRESS" if address == "auto" else "scale.address"
        port = given.rpartition(":")[2]
        raise ConfigError(
            f"{name}={given}: no Ray cluster answers there; start one there with `ray start --head --port={port}` and "
            f"join it here with `ray start --address={given}`, or give scale.address=auto."
        )
    return given


def as_asked(address: str, where: str) -> str:
    """What Ray is told to join: of what it has noted itself, it also finds the token that may be asked for."""
    return "auto" if address == "auto" and os.environ.get("RAY_ADDRESS", "") in ("", "auto") else where


def answers(address: str) -> bool:
    """Whether somebody listens at HOST:PORT; ConfigError when it is no such thing."""
    host, _, port = address.rpartition(":")
    if not host or not port.isdigit():
        raise ConfigError(f"scale.address={address}: write HOST:PORT, or auto.")
    try:
        with socket.create_connection((host.strip("[]"), int(port)), ANSWERS_S):
            return True
    except OSError:
        return False


def shared_memory(host: Host, needed_mib: int = SHARED_MIB) -> str:
    """How much of it is free; ConfigError when it is too little, as in containers that were given 64 MB."""
    path = host.root / "dev/shm"
    free = shutil.disk_usage(path).free >> 20 if path.is_dir() else 0
    if free < needed_mib:
        raise ConfigError(f"/dev/shm has {free} MiB free, and Ray keeps its arrays there: {needed_mib} MiB")
    return f"{free} MiB free in /dev/shm"


def ray(address: str) -> Seen:
    """Ray itself, and the cluster at the address, which is joined for a moment by a process of its own."""
    if not installed("ray"):
        raise ConfigError("the package 'ray' is not installed")
    version = metadata.version("ray")
    where = find(address)
    if where is None:
        return Seen(f"{version}; no cluster is running, so one is started on this machine when it is needed")
    try:
        done = subprocess.run(
            [sys.executable, "-c", JOIN, as_asked(address, where)], capture_output=True, text=True, timeout=JOINS_S
        )
    except subprocess.TimeoutExpired as error:
        raise ConfigError(f"the cluster at {where} did not let this machine join within {JOINS_S:g} s") from error
    if done.returncode != 0:
        raise ConfigError(refused(where, (done.stderr.strip().splitlines() or ["no reason was given"])[-1]))
    return Seen(f"{version}; the cluster at {where} has {done.stdout.strip().splitlines()[-1]}")


def refused(where: str, reason: str) -> str:
    """Why a cluster that answers cannot be used, from what Ray says."""
    if "ersion mismatch" in reason:
        return f"the cluster at {where} has other versions of Ray or Python than this machine: {reason}"
    if "AuthToken" in reason or "AuthenticationError" in reason:
        return (
            f"the cluster at {where} asks for a token: set RAY_AUTH_MODE=token here, and RAY_AUTH_TOKEN_PATH to a copy "
            "of the first machine's ~/.ray/auth_token"
        )
    return f"the cluster at {where} answers, but cannot be joined from this machine: {reason}"


def mend(address: str) -> str:
    """What to do when ray() fails."""
    if not installed("ray"):
        return EXTRA
    where = address if address != "auto" else os.environ.get("RAY_ADDRESS", "HOST:PORT")
    return (
        f"run `ray start --head --port=6379` on the first machine and `ray start --address={where}` on this one, with "
        f"Ray {metadata.version('ray')} and Python {sys.version.split()[0]} on all"
    )
