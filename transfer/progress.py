"""Progress of long work on the terminal: a bar with rate and time left, or a line now and then in a log file."""

from __future__ import annotations

import sys
import time

from tqdm import tqdm

from policies.progress import Progress, Report

QUIET_S = 15.0
"""Seconds between lines where standard error is no terminal."""


def terminal() -> Report:
    """A report that draws a bar on a terminal, and writes a line every few seconds into anything else."""
    bars: dict[str, tqdm] = {}
    last = [0.0]

    def draw(progress: Progress) -> None:
        if progress.what not in bars:
            bars[progress.what] = tqdm(
                total=progress.total, desc=progress.what, unit=f" {progress.unit}", unit_scale=True
            )
        bar = bars[progress.what]
        bar.set_postfix({k: f"{v:.3g}" for k, v in progress.scores.items()}, refresh=False)
        bar.update(progress.done - bar.n)
        if progress.done >= progress.total:
            bars.pop(progress.what).close()

    def log(progress: Progress) -> None:
        if time.monotonic() - last[0] > QUIET_S or progress.done >= progress.total:
            last[0] = time.monotonic()
            print(progress, file=sys.stderr, flush=True)

    return draw if sys.stderr.isatty() else log
