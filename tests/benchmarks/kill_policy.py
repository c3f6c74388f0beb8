"""kill -9 of the policy process, again and again: how soon the safe action is on an emulated CAN bus.

    python tests/benchmarks/kill_policy.py [TIMES]      default 100

Prints the times' median and largest [ms]; ends with exit code 1 when one took longer than 100 ms.
"""

from __future__ import annotations

import os
import signal
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from tests.sim.emulated import bench
from tests.sim.test_run_on_emulators import Running, patient_bundle


def main(words: list[str]) -> int:
    """Kill and measure."""
    times = int(words[0]) if words else 100
    found = []
    with bench("can") as motors, tempfile.TemporaryDirectory() as folder:
        made = patient_bundle(motors, Path(folder))
        for k in range(times):
            motors.tell("rest")
            running = Running(motors, made, Path(folder) / f"out{k}")
            begin = time.monotonic_ns()
            os.kill(running.policy, signal.SIGKILL)
            found.append(1e3 * running.seconds_to_safe_action(begin))
            running.process.communicate(timeout=60)
    late = sum(t > 100.0 for t in found)
    print(f"{times} kills: median {np.median(found):.1f} ms, largest {max(found):.1f} ms, later than 100 ms: {late}")
    return int(late > 0)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
