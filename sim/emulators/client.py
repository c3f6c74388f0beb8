"""Starting an emulator in another process and telling it things: for tests, campaigns and whoever tries a driver."""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from robot.config import ConfigError

Array = npt.NDArray[np.float64]


def control_path(port: Path) -> Path:
    """The control socket of the emulator at `port`."""
    return port.with_name(port.name + ".control")


def tell(port: Path, words: str, timeout_s: float = 10.0) -> str:
    """Give an order to the emulator at `port`; ConfigError when it refuses, or there is none."""
    with tempfile.TemporaryDirectory() as folder, socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as own:
        own.bind(str(Path(folder) / "answer"))
        own.settimeout(timeout_s)
        try:
            own.sendto(words.encode(), str(control_path(port)))
            answer = own.recv(65536).decode()
        except OSError as error:
            raise ConfigError(f"no emulator answers at {port} ({error}).") from error
    if answer.startswith("error: "):
        raise ConfigError(answer.removeprefix("error: "))
    return answer


class Emulator:
    """The emulator at a port, as those see it who control it."""

    def __init__(self, port: Path) -> None:
        self.port = port

    def fault(self, kind: str, joint: str | None = None, seconds: float = 1e6, amount: float | None = None) -> None:
        """Begin a trouble of sim.emulators.faults.KINDS."""
        words = f"fault {kind} seconds={seconds}"
        words += f" joint={joint}" if joint else ""
        self.tell(words + (f" amount={amount}" if amount is not None else ""))

    def tell(self, words: str) -> str:
        """As tell()."""
        return tell(self.port, words)

    def record(self) -> dict[str, Array]:
        """`states` and `orders` as sim.emulators.motors.Record has them, since the start or the last forget()."""
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "record.npz"
            self.tell(f"record {path}")
            with np.load(path) as data:
                return {name: data[name] for name in ("states", "orders")}

    def rest(self) -> None:
        """Begin again: no troubles, nothing recorded, motors off, the robot at its start and at rest."""
        self.tell("rest")


@contextlib.contextmanager
def emulate(**options: Any) -> Iterator[Emulator]:
    """Run `python -m sim.emulators` with these keys, in a process that ends with the block (or with this process)."""
    with tempfile.TemporaryDirectory() as folder:
        port = Path(folder) / "port"
        words = [f"{k}={_word(v)}" for k, v in {"port": port, "parent": os.getpid(), **options}.items()]
        root = Path(__file__).resolve().parents[2]
        path = os.pathsep.join([str(root), *filter(None, [os.environ.get("PYTHONPATH")])])
        process = subprocess.Popen(
            [sys.executable, "-m", "sim.emulators", *words],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": path},
        )
        try:
            assert process.stdout is not None and process.stderr is not None
            if not process.stdout.readline().startswith("ready"):
                raise ConfigError(f"the emulator did not start: {process.stderr.read().strip()}")
            yield Emulator(port)
        finally:
            process.terminate()
            try:
                process.wait(10.0)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
            for stream in (process.stdout, process.stderr):
                if stream is not None:
                    stream.close()


def _word(value: Any) -> str:
    if isinstance(value, (list, tuple)):
        return "[" + ",".join(map(str, value)) + "]"
    return str(value).lower() if isinstance(value, bool) else str(value)
