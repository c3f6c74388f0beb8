"""A million random-action steps of every task: nothing becomes NaN, memory stays flat.

    python tests/benchmarks/soak.py [STEPS] [TASK ...]

Prints a line a task; ends with exit code 1 where a number was not finite or memory grew. tests/sim/test_soak.py runs
a short one.
"""

from __future__ import annotations

import sys
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from sim import tasks
from sim.tasks.ant import ANT
from sim.vecenv import BatchedEnv, Step
from transfer.bench.ours import Arena

STEPS, SIMULATIONS = 1_000_000, 256
WARM_UP = 0.2
"""Share of the steps after which memory must not grow: buffers, caches and the heap have their size by then."""
GROWTH_MIB = 16.0


@dataclass(frozen=True, slots=True)
class Soaked:
    """What a long run came to."""

    task: str
    steps: int
    """Control steps, over all simulations."""
    seconds: float
    episodes: int
    unstable: int
    """Simulations that MuJoCo reported as unstable, each reset alone."""
    not_finite: int
    """Steps in which an input or a reward was not finite."""
    growth_mib: float
    """Resident memory at the end less that after the warm-up."""

    @property
    def ok(self) -> bool:
        return self.not_finite == 0 and self.growth_mib < GROWTH_MIB

    def __str__(self) -> str:
        return (
            f"{self.task:26} {self.steps:,} steps in {self.seconds:.0f} s, {self.episodes:,} episodes, "
            f"{self.unstable} unstable, {self.not_finite} not finite, memory {self.growth_mib:+.1f} MiB"
        )


def soak(name: str, steps: int, simulations: int = SIMULATIONS, seed: int = 0) -> Soaked:
    """Random actions for at least `steps` control steps of a task under its robot's prior."""
    arena = Arena.of(name)
    env = BatchedEnv(
        arena.task,
        arena.robot,
        arena.law,
        simulations,
        seed=seed,
        stagger=True,
        privileged=bool(arena.task.privileged_names),
    )
    rng, count = np.random.default_rng(seed), -(-steps // simulations)
    env.reset()
    start, episodes, not_finite, before = time.perf_counter(), 0, 0, 0.0
    for k in range(count):
        if k == int(WARM_UP * count):
            before = resident_mib()
        step = env.step(rng.uniform(-1.0, 1.0, (simulations, env.action_space.shape[0])))
        episodes += int(step.done.sum())
        not_finite += not _finite(step)
    seconds = time.perf_counter() - start
    return Soaked(name, count * simulations, seconds, episodes, env.unstable, not_finite, resident_mib() - before)


def _finite(step: Step) -> bool:
    final = () if step.final_inputs is None else step.final_inputs.values()
    return all(bool(np.isfinite(a).all()) for a in (step.reward, *step.inputs.values(), *final))


def resident_mib() -> float:
    """Memory of this process that is in RAM."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * 4096 / 2**20


def main(words: list[str]) -> int:
    steps = int(words[0]) if words else STEPS
    results = []
    for name in words[1:] or (ANT.name, *tasks.names()):
        results.append(soak(name, steps))
        print(results[-1], flush=True)
    return 0 if all(r.ok for r in results) else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
