"""`bench what=identify`: seconds to fit a simulator to a minute of logs of a surrogate robot.

The logs are the same each time and made before; what is timed is the fit alone, which has no peer.
"""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING, Any

import numpy as np

from robot import excitation as excitations
from robot.driver import open_driver
from robot.log import EpisodeLog
from robot.loop import ControlLoop
from robot.recorder import MemoryRecorder
from robot.result import Run
from robot.safety import Safety
from robot.spec import RobotSpec
from sim.model import Model, find_robot
from transfer.bench.measure import row
from transfer.identify import QUICK, identify

if TYPE_CHECKING:
    from transfer.stages.bench import Config

ROBOTS, QUICK_ROBOTS = ("simple_pendulum", "double_pendulum_c1"), ("simple_pendulum",)
EPISODES, SECONDS = 6, 10.0
EXCITATIONS = ("chirp", "prbs")
AMPLITUDE = 0.5
"""Share of the torque limit."""
ROUNDS = 5


def measure(cfg: Config, run: Run) -> dict[str, Any]:
    """A row for each robot, in seconds; `ratio` is empty."""
    rows = []
    for name in QUICK_ROBOTS if cfg.quick else ROBOTS:
        robot = find_robot(name)
        episodes, seconds = (2, 4.0) if cfg.quick else (EPISODES, SECONDS)
        logs = [recorded(robot.spec, EXCITATIONS[k % 2], seconds, cfg.seed + k) for k in range(episodes)]
        spent, windows = [], 0
        for k in range(ROUNDS):
            print(f"bench: {name}, round {k + 1} of {ROUNDS}", file=sys.stderr, flush=True)
            start = time.perf_counter()
            windows = identify(logs, Model(robot), effort=QUICK if cfg.quick else None).windows
            spent.append(time.perf_counter() - start)
        rows.append(row(name, "s", np.array(spent), log_s=episodes * seconds, windows=windows))
    return {"rows": rows, "ratio": {}}


def recorded(spec: RobotSpec, kind: str, seconds: float, seed: int) -> EpisodeLog:
    """An excited episode on the surrogate, opened by its driver's name as a robot is."""
    excitation = excitations.KINDS[kind](spec, seconds, np.random.default_rng(seed), AMPLITUDE)
    recorder = MemoryRecorder(f"{spec.name}_{kind}_{seed}", spec, {})
    driver = open_driver("surrogate", spec, seed=seed)
    safety = Safety(spec, spec.control_period_s)
    log = ControlLoop(excitations.Exciter(spec, excitation), driver, safety, recorder).run(seconds).log
    assert log is not None
    return log
