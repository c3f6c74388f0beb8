"""Does what would be released work where nothing of this checkout is?

    python tests/docs/release.py [out=FOLDER] [python=/usr/bin/python3.11] [demo=false]

Builds sdist and wheel, looks whether all modules, configs, models and page templates are inside, installs the wheel
with [all] at the versions of constraints.txt into an empty environment, and runs there, in an empty folder: `doctor`,
`demo quick=true`, `view`, `report`; then the plain wheel into another one, with what runs on a robot alone: `verify`,
`run`, `record`, `replay`, `doctor`, and that another stage names the pip line. `out` is a temporary folder unless it is
given.

Needs a package index. Prints a line a step, with its seconds, and ends with 1 at the first that fails. demo=false
leaves out [all] and what needs its demo; that takes a minute, the whole on two cores some ten, and 3 GB of disk.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
import zipfile
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).parents[2]
SOURCES = {"robot": "*.py", "sim": "*.py", "policies": "*.py", "transfer": "*.py"}
DATA = {"sim/models": "*.xml", "transfer/report": "*.html"}
CONFIGS = "transfer/_configs"
SENTENCE = "which is not installed: pip install 'terrafirma[train]'"


class Failed(Exception):
    """A step did not end as it should; the message is what it printed last."""


def wanted() -> set[str]:
    """What a wheel of this checkout has to hold, as paths inside it."""
    found = {p.relative_to(ROOT) for folder, kind in SOURCES.items() for p in (ROOT / folder).rglob(kind)}
    found |= {p.relative_to(ROOT) for folder, kind in DATA.items() for p in (ROOT / folder).rglob(kind)}
    configs = {Path(CONFIGS, p.relative_to(ROOT / "configs")) for p in (ROOT / "configs").rglob("*.yaml")}
    return {path.as_posix() for path in found | configs}


def missing(wheel: Path) -> list[str]:
    """What a wheel should hold and does not."""
    with zipfile.ZipFile(wheel) as archive:
        return sorted(wanted() - set(archive.namelist()))


def step(name: str, command: Sequence[str | Path], place: Path, code: int = 0) -> str:
    """Run a command in a folder; returns what it printed. Failed where it does not end with `code`."""
    environment = {k: v for k, v in os.environ.items() if k not in ("PYTHONPATH", "VIRTUAL_ENV")}
    environment.setdefault("OMP_NUM_THREADS", "1")
    place.mkdir(parents=True, exist_ok=True)
    begin = time.monotonic()
    done = subprocess.run(
        [str(word) for word in command], cwd=place, env=environment, stdin=subprocess.DEVNULL, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )  # fmt: skip
    print(f"{name:<32} {time.monotonic() - begin:7.1f} s  exit code {done.returncode}", flush=True)
    if done.returncode != code:
        raise Failed(f"{name}: {done.stdout[-3000:]}")
    return done.stdout


def environment(out: Path, name: str, what: str, python: str) -> Path:
    """An empty environment with `what` in it; returns its bin. Prints its size."""
    place = out / name
    step(f"{name}: venv", [python, "-m", "venv", place], out)
    pip = [place / "bin" / "python", "-m", "pip", "install", "--quiet", "-c", ROOT / "constraints.txt", what]
    step(f"{name}: install", pip, out)
    size = sum(p.stat().st_size for p in place.rglob("*") if p.is_file() and not p.is_symlink())
    print(f"{name:<32} {size / 1e6:7.0f} MB", flush=True)
    return place / "bin"


def build(out: Path, python: str) -> Path:
    """The wheel, made of the sdist, made of a copy of this checkout."""
    source = out / "source"
    shutil.copytree(
        ROOT, source, symlinks=True,
        ignore=shutil.ignore_patterns(".git", ".venv", "build", "runs", "*.egg-info", "__pycache__", ".*_cache"),
    )  # fmt: skip
    step("build: venv", [python, "-m", "venv", out / "builder"], out)
    builder = out / "builder" / "bin" / "python"
    step("build: install", [builder, "-m", "pip", "install", "--quiet", "build"], out)
    said = step("build", [builder, "-m", "build", "--outdir", out / "dist", source], out)
    if "is absent from the `packages` configuration" in said:
        raise Failed(f"build: a package is not named in pyproject.toml: {said[-3000:]}")
    (wheel,) = (out / "dist").glob("*.whl")
    if left_out := missing(wheel):
        raise Failed(f"{wheel.name} lacks {', '.join(left_out[:10])}")
    return wheel


def whole(out: Path, wheel: Path, python: str) -> Path:
    """The wheel with everything; returns the folder of its demo."""
    terrafirma = environment(out, "all", f"{wheel}[all]", python) / "terrafirma"
    place = out / "anywhere"
    step("all: doctor", [terrafirma, "doctor", "out=doctor"], place)
    step("all: demo", [terrafirma, "demo", "quick=true", "out=demo"], place)
    step("all: view", [terrafirma, "view", "run=demo/run", "live=true", "quick=true", "port=8097", "out=view"], place)
    step("all: report", [terrafirma, "report", "run=demo", "out=report"], place)
    return place / "demo"


def plain(out: Path, wheel: Path, python: str, demo: Path | None) -> None:
    """The wheel alone, as on a robot, with the bundle and a log of the demo."""
    terrafirma = environment(out, "edge", str(wheel), python) / "terrafirma"
    place = out / "onboard"
    step("edge: doctor", [terrafirma, "doctor", "robot=simple_pendulum", "out=doctor"], place)
    if SENTENCE not in step("edge: train", [terrafirma, "train", "task=pendulum_swingup"], place, code=2):
        raise Failed("edge: train does not name the pip line")
    if demo is None:
        return
    bundle, log = json.loads((demo / "result.json").read_text())["bundle"], demo / "run" / "episode.mcap"
    bundle = demo.parent / bundle
    replay = ["driver=replay", f"log={log}"]
    step("edge: verify", [terrafirma, "verify", f"bundle={bundle}", "out=verify"], place)
    step("edge: run", [terrafirma, "run", f"bundle={bundle}", *replay, "seconds=3", "out=run"], place)
    record = ["robot=simple_pendulum", "excitation=prbs", "seconds=2", "out=record"]
    step("edge: record", [terrafirma, "record", *record, *replay], place)
    step("edge: replay", [terrafirma, "replay", f"log={log}", f"bundle={bundle}", "out=replay"], place)


def main(words: Sequence[str]) -> int:
    options = dict(word.split("=", 1) for word in words)
    python = options.get("python", sys.executable)
    with tempfile.TemporaryDirectory(prefix="release-") as scratch:
        out = Path(options.get("out", scratch)).resolve()
        try:
            wheel = build(out, python)
            demo = whole(out, wheel, python) if options.get("demo") != "false" else None
            plain(out, wheel, python, demo)
        except Failed as error:
            print(error)
            return 1
    print(f"{wheel.name} works where nothing of this checkout is.")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
