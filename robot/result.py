"""What every stage leaves in its run directory: config.yaml, result.json, lineage.json.

`result.json` is for scripts (its keys are the contract of the command line), `lineage.json` says what went
in: inputs by sha256, code and package versions, seeds, CPU time, an energy and CO2 estimate.
"""

from __future__ import annotations

import functools
import math
import os
import platform
import resource
import subprocess
import time
from collections.abc import Mapping
from datetime import datetime, timezone
from importlib import metadata
from pathlib import Path
from typing import Any, Literal

from robot import claims, config, files

Budget = Literal["full", "quick", "demo"]

WATT_PER_CORE = 10.0
"""Assumed draw of one busy core [W], for the energy estimate."""
KG_CO2_PER_KWH = 0.4
"""Assumed intensity of the grid [kg/kWh]; the world's average is near it."""

_PACKAGES = ("numpy", "onnxruntime", "mcap", "torch", "mujoco", "gymnasium", "stable-baselines3", "onnx", "scipy")
PAPERS = ("config.yaml", "result.json", "lineage.json", "screening.html", "lineage.html", claims.FILE)
VOLATILE = ("seconds", "versions")
"""Keys that may differ between two runs of the same seed, in every stage."""
_MEASURED = ("versions", "code", "machine", "finished", "cpu_seconds", "energy_kwh_estimate", "co2_kg_estimate")
"""The same, of lineage.json."""


class Run:
    """One run of a stage: its folder, its clock, its inputs, and the files it ends with."""

    def __init__(
        self, stage: str, out: Path | None, *, seed: int = 0, budget: Budget = "full", settings: Any = None
    ) -> None:
        """Make the folder (default `runs/<stage>/<timestamp>`) and write config.yaml into it."""
        self.stage, self.seed, self.budget = stage, seed, budget
        self.out = Path(out) if out is not None else _fresh(Path("runs") / stage)
        self.out.mkdir(parents=True, exist_ok=True)
        self.inputs: dict[str, str] = {}
        self._start, self._cpu = time.monotonic(), _cpu_seconds()
        if settings is not None:
            config.save(self.out / "config.yaml", settings)

    def input(self, path: Path) -> Path:
        """Record an input file or folder by its hash; the papers of the stage that made it are no part of it."""
        self.inputs[str(path)] = files.sha256(path, skip=PAPERS)
        return Path(path)

    def finish(self, keys: Mapping[str, Any], volatile: tuple[str, ...] = ()) -> Path:
        """Write lineage.json, then result.json; returns the latter's path."""
        seconds = time.monotonic() - self._start
        cpu = _cpu_seconds() - self._cpu
        versions = package_versions()
        energy = cpu * WATT_PER_CORE / 3.6e6
        files.write_json(
            self.out / "lineage.json",
            {
                "stage": self.stage,
                "seed": self.seed,
                "budget": self.budget,
                "inputs": self.inputs,
                "versions": versions,
                "code": code_version(),
                "machine": {"cpu": platform.machine(), "cores": os.cpu_count(), "system": platform.platform()},
                "finished": datetime.now(timezone.utc).isoformat(timespec="seconds"),
                "cpu_seconds": round(cpu, 3),
                "energy_kwh_estimate": energy,
                "co2_kg_estimate": energy * KG_CO2_PER_KWH,
                "volatile": sorted(_MEASURED),
                "assumptions": {"watt_per_core": WATT_PER_CORE, "kg_co2_per_kwh": KG_CO2_PER_KWH},
            },
        )
        result = {
            "stage": self.stage,
            "seconds": round(seconds, 3),
            "seed": self.seed,
            "budget": self.budget,
            "inputs": self.inputs,
            "versions": versions,
            "volatile": sorted({*VOLATILE, *(name for name in volatile if name in keys)}),
            **keys,
        }
        path = self.out / "result.json"
        files.write_json(path, config.to_plain(result))
        return path


def _fresh(parent: Path) -> Path:
    """A new folder, named by the time; of several processes that start in one millisecond each makes its own."""
    while True:
        folder = parent / datetime.now(timezone.utc).strftime("%Y-%m-%d_%Hh%Mm%S.%f")[:-3]
        try:
            folder.mkdir(parents=True)
            return folder
        except FileExistsError:
            time.sleep(1e-3)


@functools.cache
def package_versions() -> dict[str, str]:
    """Installed versions of the packages that can change a result."""
    versions = {"python": platform.python_version()}
    for package in ("terrafirma", *_PACKAGES):
        try:
            versions[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return versions


def code_version() -> str:
    """The git commit of the code, `-dirty` when edited; the installed version where the code is not a checkout."""
    root = Path(__file__).resolve().parents[1]
    if not (root / ".git").exists():  # an installed package may well lie inside somebody else's repository
        return metadata.version("terrafirma")
    command = ["git", "describe", "--always", "--dirty", "--abbrev=12"]
    try:
        out = subprocess.run(command, cwd=root, capture_output=True, text=True, timeout=5)
    except (OSError, subprocess.TimeoutExpired):
        return metadata.version("terrafirma")
    return out.stdout.strip() if out.returncode == 0 else metadata.version("terrafirma")


def _cpu_seconds() -> float:
    own, children = resource.getrusage(resource.RUSAGE_SELF), resource.getrusage(resource.RUSAGE_CHILDREN)
    return own.ru_utime + own.ru_stime + children.ru_utime + children.ru_stime


def wilson(successes: int, n: int) -> dict[str, Any]:
    """A success rate as the contract wants it: mean and Wilson score interval (Wilson, JASA 22, 1927)."""
    if n == 0:
        return {"mean": 0.0, "ci95": [0.0, 1.0], "n": 0}
    z, p = 1.959963984540054, successes / n
    middle = (p + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
    # at the ends the formula gives 0 and 1 up to rounding
    low = 0.0 if successes == 0 else middle - half
    high = 1.0 if successes == n else middle + half
    return {"mean": p, "ci95": [low, high], "n": n}


def mean_ci(values: Any) -> dict[str, Any]:
    """The mean of independent values and its 95 % interval (Student's t), as the contract wants it."""
    numbers = [float(v) for v in values]
    n = len(numbers)
    mean = math.fsum(numbers) / n
    spread = math.sqrt(math.fsum((v - mean) ** 2 for v in numbers) / max(n - 1, 1) / n)
    reach = student_t(n - 1) * spread
    return {"mean": mean, "ci95": [mean - reach, mean + reach], "n": n}


def student_t(freedom: int) -> float:
    """The 97.5 % quantile of Student's t: few seeds need far wider intervals than the normal's 1.96.

    Source: Abramowitz and Stegun, Handbook of Mathematical Functions, 26.7.5; within 1 % from 2 degrees of freedom on.
    """
    if freedom < 2:
        return 12.706
    z = 1.959964
    terms = (
        (z**3 + z) / 4.0,
        (5.0 * z**5 + 16.0 * z**3 + 3.0 * z) / 96.0,
        (3.0 * z**7 + 19.0 * z**5 + 17.0 * z**3 - 15.0 * z) / 384.0,
        (79.0 * z**9 + 776.0 * z**7 + 1482.0 * z**5 - 1920.0 * z**3 - 945.0 * z) / 92160.0,
    )
    return z + math.fsum(term / freedom ** (k + 1) for k, term in enumerate(terms))
