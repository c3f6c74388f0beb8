"""A policy that sees through a camera, on the surrogates of its robot, whose cameras and lights are all moved:

    python tests/benchmarks/pixels.py OUT.json BUNDLE [BUNDLE ...] [n=20]

Of each bundle (one a training seed) n trials on each of ten surrogates, numbers 0 to 9 of the family: there the camera
stands up to 2 cm and 3 degrees elsewhere, its exposure is off by up to 0.7 stops and the light by up to 40 %, beside
another body, motor, friction and delay. Nothing is adapted to any of them.
"""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path

from robot import files
from robot.result import wilson
from transfer import cli

SURROGATES = range(10)
TASK = "pendulum_swingup_pixels"


def main(out: str, *words: str) -> None:
    n = next((w.removeprefix("n=") for w in words if w.startswith("n=")), "20")
    found: dict[str, dict[int, int]] = {}
    for bundle in (w for w in words if "=" not in w):
        for truth in SURROGATES:
            with tempfile.TemporaryDirectory() as folder:
                given = (f"bundle={bundle}", "driver=surrogate", f"task={TASK}", f"truth={truth}", f"n={n}")
                path = cli.call("trials", [*given, f"seed={truth}", f"out={folder}"])
                rate = json.loads(path.read_text())["success"]
            found.setdefault(bundle, {})[truth] = round(rate["mean"] * rate["n"])
            print(bundle, truth, rate["mean"], flush=True)
    trials = int(n) * len(SURROGATES)
    pooled = {b: wilson(sum(counts.values()), trials) for b, counts in found.items()}
    files.write_json(Path(out), {"trials": int(n), "successes": found, "pooled": pooled})
    for bundle, rate in pooled.items():
        print(f"{bundle}: {rate['mean']:.0%} [{rate['ci95'][0]:.0%}, {rate['ci95'][1]:.0%}] of {trials}")


if __name__ == "__main__":
    main(*sys.argv[1:])
