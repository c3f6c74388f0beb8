"""Recordings that judge must share nothing with those that were fitted to: else a figure called held-out is none."""

from __future__ import annotations

from collections.abc import Sequence

from robot.log import EpisodeLog
from robot.spec import RobotSpec
from transfer.dataset import DataRefused
from transfer.screening.config import ScreenConfig
from transfer.screening.leakage import fingerprints_of, shared
from transfer.screening.signals import Signals


def refuse_shared(fitted: Sequence[EpisodeLog], judging: Sequence[EpisodeLog], spec: RobotSpec) -> None:
    """DataRefused names a recording of `judging` of which ScreenConfig.leak_s or more stands in `fitted`."""
    least = ScreenConfig().leak_s
    known = [(log.name, fingerprints_of(Signals(log, spec))) for log in fitted]
    for log in judging:
        mine = fingerprints_of(Signals(log, spec))
        for name, theirs in known:
            common = shared(theirs, mine)
            if common is not None and common.seconds >= least:
                raise DataRefused(
                    f"test=: {common.seconds:.1f} s of '{log.name}' stand in '{name}' of logs=, and what was fitted "
                    "cannot judge; give recordings of their own."
                )
