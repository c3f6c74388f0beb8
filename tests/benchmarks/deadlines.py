"""500 Hz for ten minutes on MIT motors on an emulated CAN bus: missed deadlines, the end, and memory.

    python tests/benchmarks/deadlines.py [SECONDS [HZ [KEY=VALUE ...]]]      default 600 500

`terrafirma run` as it is shipped: the policy (256 x 256) in one process, the bus in another, the motors in a third.
bus=udp_multicast, the default, takes frames from process to process at once; with bus=slcan they go through a
pseudo-terminal, whose bytes a worker of the kernel carries when it comes to it, real-time tasks or not.
robot=simple_pendulum has one motor, the default two. Further keys go to `run` (realtime=true, process=one). With
realtime=true the emulated motors are served before all else, too, as real ones are, which have processors of their
own. Prints a line of JSON; ends with exit code 1 when a thousandth of the deadlines was missed, the run did not end in
a safe state, or memory grew. A busy machine misses deadlines.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from robot import log as logs
from robot.observation import ActionConfig
from robot.spec import load_spec
from sim.emulators.client import Emulator, emulate
from tests.robot.fakes import make_bundle
from tests.robot.wire import children

MISSED, GROWTH_MIB = 1e-3, 8.0
WARM_UP = 0.2
"""Share of the time after which memory must not grow."""
SAMPLE_S = 5.0
GROUP = "239.74.163.2"
MOTORS_PRIORITY = 60
"""Of SCHED_FIFO; the control loop has 50."""
CODE = "import sys; from robot.cli import main; sys.exit(main())"


def resident_mib(pid: int) -> float:
    """Resident memory of a process; NaN once it is gone."""
    try:
        pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    except OSError:
        return float("nan")
    return pages * 4096 / 2**20


def free_port() -> int:
    """A port of UDP that nobody has."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.bind(("", 0))
        return int(probe.getsockname()[1])


@contextlib.contextmanager
def served_first(wanted: bool) -> Iterator[None]:
    """Processes that are started in the block, and not this one, have SCHED_FIFO."""
    if not wanted:
        yield
        return
    before = os.sched_getscheduler(0), os.sched_getparam(0)
    os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(MOTORS_PRIORITY))
    try:
        yield
    finally:
        os.sched_setscheduler(0, *before)


def run(
    emulator: Emulator, robot: str, bus: str, channel: str, folder: Path, seconds: float, hz: float, keys: list[str]
) -> dict[str, object]:
    """One run of the shipped loop; what came of it."""
    spec = dataclasses.replace(load_spec(robot), control_period_s=1.0 / hz)
    action = ActionConfig(actuators=spec.joint_names, scale=tuple(0.05 * spec.effort_limits))
    made = make_bundle(folder / "bundle", spec, action=action, hidden=(256, 256))
    words = [f"bundle={made}", "driver=can", f"interface={bus}", f"channel={channel}", f"seconds={seconds}"]
    out = folder / "out"
    command = [sys.executable, "-c", CODE, "run", *words, f"out={out}", *keys]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    memory: list[list[float]] = []
    begin = time.monotonic()
    while process.poll() is None:
        time.sleep(min(SAMPLE_S, seconds / 20))
        memory.append([time.monotonic() - begin, *(resident_mib(p) for p in (process.pid, *children(process.pid)))])
    said, _ = process.communicate()
    if not (out / "result.json").exists():
        raise SystemExit(f"the run ended with {process.returncode}: {said}")
    result = json.loads((out / "result.json").read_text())
    last = {int(row[1]): row for row in emulator.record()["orders"]}
    safe = all(row[5] == 0.0 and abs(row[4]) < 0.01 for row in last.values())
    log = logs.load(out / "episode.mcap")
    return {
        "ticks": result["ticks"],
        "missed": result["missed_deadlines"],
        "missed_share": result["missed_deadlines"] / max(result["ticks"], 1),
        "longest_run_of_misses": result["longest_miss"],
        "stale": result["stale"],
        "tick_us": result["tick_us"],
        "state": result["state"],
        "exit": process.returncode,
        "faults": result["faults"],
        "last_order_is_safe": safe,
        "growth_mib": growth(memory, seconds),
        "readings_logged": len(log["joint.position"].t_ns),
        "realtime": {step["name"]: step["ok"] for step in result["realtime"]},
    }


def growth(memory: list[list[float]], seconds: float) -> list[float]:
    """Resident memory of each process at the last sample of the run less that after the warm-up [MiB].

    The packing of the log, which comes after the run, is not looked at.
    """
    width = max(map(len, memory))
    during = [m for m in memory if len(m) == width and WARM_UP * seconds < m[0] < seconds]
    rows = np.array([m for m in during if np.isfinite(m).all()])
    return [] if len(rows) < 3 else (rows[-1, 1:] - rows[0, 1:]).round(2).tolist()


def main(words: list[str]) -> int:
    """Run, print, judge."""
    numbers = [float(w) for w in words if "=" not in w]
    seconds, hz = (numbers + [600.0, 500.0][len(numbers) :])[:2]
    own = {"robot": "double_pendulum_c1", "bus": "udp_multicast"}
    own |= {k: v for k, _, v in (w.partition("=") for w in words) if k in own}
    robot, bus = own["robot"], own["bus"]
    keys = [w for w in words if "=" in w and w.partition("=")[0] not in own]
    with contextlib.ExitStack() as stack:
        with served_first("realtime=true" in keys):
            udp = f"{GROUP}:{free_port()}"
            emulator = stack.enter_context(emulate(robot=robot, motors="mit", bus=bus, channel=udp))
        folder = stack.enter_context(tempfile.TemporaryDirectory())
        channel = udp if bus == "udp_multicast" else str(emulator.port)
        found = run(emulator, robot, bus, channel, Path(folder), seconds, hz, keys)
    print(json.dumps(found))
    grown: list[float] = found["growth_mib"]  # type: ignore[assignment]
    good = found["missed_share"] < MISSED and found["last_order_is_safe"] and max(grown, default=0.0) < GROWTH_MIB  # type: ignore[operator]
    return int(not good)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
