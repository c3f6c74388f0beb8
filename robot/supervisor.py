"""PolicyProcess: a Commander whose thinking is done by another process, so that no crash of it holds the bus.

This process owns the driver, the limits and the watchdog, and runs no network. When the other is killed, hangs or
crashes, the control loop here finds out within a tick (a closed pipe) or the watchdog's time (silence), and stops the
driver.
"""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from robot.bundle import BundleRefused
from robot.controller import Controller, resized
from robot.driver import StaleState
from robot.exchange import ACT, RESET, STALE, Bell, Board, shared_memory
from robot.handover import HandoverConfig
from robot.loop import CommanderLost
from robot.policy_process import shape_of
from robot.realtime import RealtimeConfig
from robot.state import JointCommand, Sample

START_S = 60.0
"""Time in which the other process must have checked its bundles [s]."""


class PolicyProcess:
    """The controller of a bundle, or two of which one takes over, in a process of their own."""

    def __init__(
        self,
        bundles: Sequence[Path],
        controllers: Sequence[Controller],
        *,
        key: Path | None = None,
        handover: HandoverConfig | None = None,
        realtime: RealtimeConfig | None = None,
        patience_s: float | None = None,
    ) -> None:
        """`controllers` are those of `bundles`, loaded here: the other process must have loaded the same bytes.

        An answer is waited for during `patience_s` (default: a period); on a simulated clock, where waiting costs
        nothing, it may be long.
        BundleRefused when it has not; CommanderLost when it does not come up.
        """
        first = controllers[0]
        self._patience_s = first.period_ns * 1e-9 if patience_s is None else patience_s
        self.spec, self.period_ns, self.goal = first.spec, first.period_ns, first.goal
        self._shape = shape_of(list(controllers))
        memory = shared_memory()
        self._board = Board(self._shape, memory)
        (theirs_in, mine_out), (mine_in, theirs_out) = os.pipe(), os.pipe()
        options = {
            "bundles": [str(Path(b).resolve()) for b in bundles],
            "key": str(Path(key).resolve()) if key else None,
            "handover": _plain(handover or HandoverConfig()),
            "realtime": None if realtime is None else asdict(realtime),
            "memory": memory,
            "hears": theirs_in,
            "rings": theirs_out,
        }
        self._process = subprocess.Popen(
            [sys.executable, "-m", "robot.policy_process", json.dumps(options)],
            pass_fds=(memory, theirs_in, theirs_out),
            stdin=subprocess.DEVNULL,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(p or str(Path.cwd()) for p in sys.path)},
            start_new_session=True,  # Ctrl-C in the terminal is not for it
        )
        for handle in (memory, theirs_in, theirs_out):
            os.close(handle)
        self._bell = Bell(mine_in, mine_out)
        self.hygiene: list[dict[str, Any]] = self._greet([c.digest for c in controllers])
        """What the other process reports of its real-time steps."""
        self._sequence, self._waiting = 0, False
        self.needs = tuple(dict.fromkeys(signal for c in controllers for signal in c.needs))
        """As Commander."""
        self.action: npt.NDArray[np.float32] | None = None
        self.unfamiliar: str | None = None

    @property
    def pid(self) -> int:
        """Of the other process."""
        return self._process.pid

    @property
    def cameras(self) -> tuple[str, ...]:
        """Cameras whose images it needs."""
        return tuple(self._shape.cameras)

    def reset(self) -> None:
        """Begin an episode; CommanderLost when the other process does not answer within a second."""
        if self._waiting and not self._heard(1.0):
            raise CommanderLost("the policy process hangs")
        self._ask(RESET)
        if not self._heard(1.0):
            raise CommanderLost("the policy process hangs")

    def act(self, sample: Sample) -> JointCommand:
        """One control step; StaleState when there is no answer within a period, or none can be given."""
        if self._waiting and not self._heard(0.0):
            raise StaleState("the policy is still busy with an earlier reading")
        joints = sample.joints.ordered(self._shape.names)
        if self._shape.cameras:
            shown = {c: sample.images[c] for c in self._shape.cameras if c in sample.images}
            sizes = self._shape.cameras
            sample = replace(sample, images={c: (t, resized(image, sizes[c])) for c, (t, image) in shown.items()})
        self._board.show(sample, joints, self.goal)
        self._ask(ACT)
        if not self._heard(self._patience_s):
            raise StaleState(f"the policy did not answer within {self._patience_s * 1e3:g} ms")
        status, text, command, action = self._board.result(sample.t_ns)
        if status == STALE:
            raise StaleState(text)
        self.action, self.unfamiliar = action, text or None
        return command

    def check(self) -> None:
        """CommanderLost when the other process is gone."""
        if self._bell.gone():
            self._lost()

    def close(self) -> None:
        """End the other process; safe to call twice."""
        if self._process.returncode is None:
            self._bell.close()
            try:
                self._process.wait(2.0)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()

    def _ask(self, kind: int) -> None:
        self._sequence += 1
        self._board.ask(kind, self._sequence)
        try:
            self._bell.ring()
        except BrokenPipeError:
            self._lost()
        self._waiting = True

    def _heard(self, timeout_s: float) -> bool:
        try:
            heard = self._bell.heard(timeout_s)
        except EOFError:
            self._lost()
        self._waiting = self._waiting and not heard
        return heard

    def _lost(self) -> None:
        try:
            code = self._process.wait(0.005)
        except subprocess.TimeoutExpired:
            raise CommanderLost("the policy process has closed its pipe") from None
        how = f"was killed by signal {-code}" if code < 0 else f"ended with exit code {code}"
        raise CommanderLost(f"the policy process {how}")

    def _greet(self, digests: list[str]) -> list[dict[str, Any]]:
        try:
            if not self._bell.heard(START_S):
                raise CommanderLost(f"the policy process was not ready within {START_S:g} s")
        except EOFError:
            self._lost()
        _, text, _, _ = self._board.result(0)
        told = json.loads(text)
        if told["digests"] != digests:
            self.close()
            raise BundleRefused("the bundle was exchanged while it was being checked; start again.")
        steps: list[dict[str, Any]] = told["realtime"]
        return steps


def _plain(handover: HandoverConfig) -> list[float | None]:
    return [handover.at_s if math.isfinite(handover.at_s) else None, handover.over_s]
