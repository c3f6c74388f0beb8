"""The emulator's loop: requests in, answers out when they are due, orders from whoever controls the troubles."""

from __future__ import annotations

import contextlib
import heapq
import os
import select
import socket
import time
from pathlib import Path
from typing import Any

from robot.config import ConfigError, nearest
from sim.emulators.faults import KINDS, Answer, Fault
from sim.emulators.lines import Line
from sim.emulators.motors import Body, Motors

IDLE_S = 0.004
"""The world moves on at least this often."""
BREATH_S = 0.0003
"""After a request the next one, which often follows at once, is waited for so long before the world moves on."""
ANSWER_AGE_NS = 2_000_000
"""An answer tells of a world that is at most so old."""
AMOUNTS = {"lost": 1.0, "late": 0.02, "corrupt": 1.0}
"""Default amount of the kinds that have one."""


class Server:
    """One emulated bus."""

    def __init__(self, line: Line, motors: Motors, body: Body, control: Path, parent: int | None = None) -> None:
        """`control`: a datagram socket that takes words (see obey); `parent`: the process to end with."""
        self._line, self._motors, self._body, self._parent = line, motors, body, parent
        self._queue: list[Answer] = []
        self._failed = self._quit = self._asked = False
        with contextlib.suppress(FileNotFoundError):
            control.unlink()
        self._control_path = control
        self._control = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._control.bind(str(control))
        self._control.setblocking(False)

    def run(self) -> None:
        """Serve until told to quit, or until the parent is gone."""
        try:
            while not self._quit and self._parent in (None, os.getppid()):
                self._turn()
        finally:
            self._line.close()
            self._control.close()
            with contextlib.suppress(FileNotFoundError):
                self._control_path.unlink()

    def _turn(self) -> None:
        idle = BREATH_S if self._asked else IDLE_S
        due = (self._queue[0].due_ns - time.monotonic_ns()) * 1e-9 if self._queue else idle
        files: list[Any] = [self._control]
        if self._line.fileno() >= 0:
            files.append(self._line.fileno())
        ready, _, _ = select.select(files, [], [], max(0.0, min(idle, due)))
        if self._control in ready:
            self._listen()
        now = time.monotonic_ns()
        self._troubles(now)
        if self._body.world.behind_ns(now) > ANSWER_AGE_NS:
            self._body.world.advance(now)
        self._motors.tick(now)
        self._asked = len(ready) > (self._control in ready)
        if self._asked:
            self._serve(now)
        self._deliver()
        if not self._asked:  # a motor does not keep its bus waiting for physics
            self._body.world.advance(now)

    def _serve(self, now: int) -> None:
        for request in self._line.receive():
            if self._body.faults.on("echo", 0, now):
                self._line.echo(request)
            for reply in self._motors.receive(request, now):
                for answer in self._body.faults.answer(reply.joint, reply.data, now, reply.foreign):
                    heapq.heappush(self._queue, answer)

    def _deliver(self) -> None:
        now = time.monotonic_ns()
        while self._queue and self._queue[0].due_ns <= now:
            answer = heapq.heappop(self._queue)
            if self._line.fileno() >= 0:
                self._line.send(answer.data)

    def _troubles(self, now: int) -> None:
        """Troubles of the port itself."""
        off = self._body.faults.on("bus_off", 0, now) is not None
        if off and not self._failed:
            self._line.fail()
        self._failed = off
        gone = self._body.faults.on("unplugged", 0, now) is not None
        if gone and self._line.fileno() >= 0 and hasattr(self._line, "open"):
            self._line.close()
        elif not gone and self._line.fileno() < 0:
            self._line.open()  # type: ignore[attr-defined]

    def _listen(self) -> None:
        with contextlib.suppress(BlockingIOError):
            while True:
                data, sender = self._control.recvfrom(65536)
                try:
                    answer = self.obey(data.decode(errors="replace"))
                except (ConfigError, OSError) as error:
                    answer = f"error: {error}"
                if sender:
                    with contextlib.suppress(OSError):
                        self._control.sendto(answer.encode(), sender)

    def obey(self, words: str) -> str:
        """`fault KIND joint=NAME seconds=S amount=A`, `clear`, `record FILE.npz`, `forget`, `rest`, `ping`, `quit`."""
        verb, *rest = words.split()
        if verb == "fault" and rest:
            self._body.faults.add(self._fault(rest[0], dict(w.partition("=")[::2] for w in rest[1:])))
        elif verb == "clear":
            self._body.faults.clear()
        elif verb == "record" and rest:
            self._body.record.save(rest[0])
        elif verb == "forget":
            self._body.record.states.clear()
            self._body.record.orders.clear()
        elif verb == "rest":
            self._queue.clear()
            self._body.rest()
            self._motors.restart()
        elif verb == "quit":
            self._quit = True
        elif verb != "ping":
            raise ConfigError(f"'{words}' is no order; {self.obey.__doc__}")
        return "ok"

    def _fault(self, kind: str, options: dict[str, str]) -> Fault:
        names = self._body.world.wires.names
        if kind not in KINDS:
            raise ConfigError(f"fault {kind} is unknown. {nearest(kind, list(KINDS))}")
        joint = options.get("joint")
        if joint is not None and joint not in names:
            raise ConfigError(f"joint '{joint}' is unknown. {nearest(joint, names)}")
        try:
            seconds = float(options.get("seconds", "1e6"))
            amount = float(options.get("amount", AMOUNTS.get(kind, 0.0)))
        except ValueError as error:
            raise ConfigError(f"fault {kind}: {error}") from error
        until = time.monotonic_ns() + round(seconds * 1e9)
        return Fault(kind, None if joint is None else names.index(joint), until, amount)
