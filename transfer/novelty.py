"""Is my robot inside what the encoder has seen? The novelty of recordings and of films, as a user asks for it.

    of_logs(Path("runs/pretrain/1/encoder"), logs, task, robot)["recordings"]["verdict"]
    of_pictures(Path("runs/pretrain/2/encoder"), clip.frames)["verdict"]

The encoder's folder must hold the files that its card was made with; policies/encoders/novelty.py is the score.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from policies.encoders import signatures
from policies.encoders.heads import STRIDE, Heads
from policies.encoders.physics import PhysicsEncoder
from policies.encoders.vision import VisionEncoder
from robot.log import EpisodeLog, LogError
from robot.observation import Observation
from sim.model import RobotConfig
from sim.tasks import Task
from transfer.windows import base_of, windows_of

WINDOWS = 64
"""Windows of each recording that are looked at."""


def of_logs(
    folder: Path, logs: Sequence[EpisodeLog], task: Task, robot: RobotConfig, *, seed: int = 0
) -> dict[str, Any]:
    """Verdicts on recordings, {"windows", "recordings"}: median rank, share of strange ones, a sentence.

    ConfigError when the encoder is of another robot or task, or has no novelty files; LogError when no recording is
    long enough for a window.
    """
    encoder = PhysicsEncoder.load(folder)
    heads = Heads.load(folder, encoder.card).eval()
    layout = Observation(robot.spec, replace(task.observation, history=encoder.card.history), task.action)
    encoder.card.check(layout, task.control_period_s)
    windows = windows_of(
        logs,
        robot.spec,
        task.observation,
        task.action,
        task.control_period_s,
        history=encoder.card.history,
        horizon=heads.predictor.spread.shape[0] * STRIDE,
        count=WINDOWS,
        rng=np.random.default_rng(seed),
        base=base_of(encoder.card, robot, layout),
    )
    if windows is None:
        raise LogError(f"{folder}: none of {len(logs)} recordings is long enough for one of this encoder's windows.")
    return signatures.judge_windows(folder, encoder, heads, windows)


def of_pictures(folder: Path, pictures: npt.NDArray[np.uint8]) -> dict[str, Any]:
    """Verdict on pictures (N, 3, h, w) of one camera, or (N, cameras, 3, h, w), uint8 RGB at the encoder's size.

    ConfigError when they have another size, or the encoder no novelty file.
    """
    whole = pictures[:, None] if pictures.ndim == 4 else pictures
    return signatures.judge_images(folder, VisionEncoder.load(folder), whole)
