"""The process that computes, and holds nothing that could move a motor. Started by robot/supervisor.py:

    python -m robot.policy_process '{"bundles": [...], "memory": 5, "hears": 6, "rings": 7, ...}'

It checks the bundles itself, tells their digests, then answers one reading after the other, until the supervisor's end
of the pipe closes.
"""

from __future__ import annotations

import json
import math
import signal
import sys
from pathlib import Path
from typing import Any

from robot import bundle, realtime
from robot.config import ConfigError
from robot.driver import StaleState
from robot.exchange import ACT, DONE, RESET, STALE, Bell, Board, Shape
from robot.handover import Handover, HandoverConfig
from robot.loop import Commander
from robot.realtime import RealtimeConfig


def main(text: str) -> int:
    """Serve until the supervisor is gone."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the supervisor, which then closes the pipe
    options = json.loads(text)
    controllers = [bundle.load(Path(p), Path(options["key"]) if options["key"] else None) for p in options["bundles"]]
    commander: Commander = controllers[0]
    if len(controllers) > 1:
        at, over = options["handover"]
        config = HandoverConfig(at_s=math.inf if at is None else at, over_s=over)
        commander = Handover(controllers[0], controllers[1], config)
    board = Board(shape_of(controllers), options["memory"])
    bell = Bell(options["hears"], options["rings"])
    steps = [] if options["realtime"] is None else realtime.enter(RealtimeConfig(**options["realtime"]))
    board.reply(DONE, json.dumps({"digests": [c.digest for c in controllers], "realtime": steps}))
    bell.ring()
    try:
        while bell.heard():
            _answer(board, commander, controllers)
            bell.ring()
    except (EOFError, BrokenPipeError):
        return 0
    return 0


def shape_of(controllers: list[Any]) -> Shape:
    """What has to fit into the shared memory of these controllers; ConfigError where they differ in that."""
    cameras: dict[str, tuple[int, int]] = {}
    for controller in controllers:
        for camera, (height, width) in controller.sizes.items():
            known = cameras.setdefault(camera, (height, width))
            if known != (height, width):
                raise ConfigError(f"the bundles want camera '{camera}' in {known} and in {(height, width)}.")
    first = controllers[0]
    for other in controllers[1:]:
        theirs = (other.encoder.action_size, other.encoder.config.goal)
        if theirs != (ours := (first.encoder.action_size, first.encoder.config.goal)):
            raise ConfigError(
                f"next=: its policy has {theirs[0]} outputs and the goal {list(theirs[1])}, the first one {ours[0]} "
                f"and {list(ours[1])}; they must be the same."
            )
    goal = 0 if first.goal is None else len(first.goal)
    return Shape(first.spec.joint_names, max(c.encoder.action_size for c in controllers), goal, cameras)


def _answer(board: Board, commander: Commander, controllers: list[Any]) -> None:
    if board.request == RESET:
        commander.reset()
        return board.reply(DONE)
    assert board.request == ACT
    for controller in controllers:
        if controller.goal is not None:
            controller.goal[:] = board.goal
    try:
        command = commander.act(board.reading())
    except StaleState as error:
        return board.reply(STALE, str(error))
    assert commander.action is not None
    board.command(command, commander.action)
    return board.reply(DONE, commander.unfamiliar or "")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
