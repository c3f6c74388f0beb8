"""Progress of long work on the terminal: a bar with rate and time left, or a line now and then in a log file."""

from __future__ import annotations

import sys
from collections.abc import Callable

from tqdm import tqdm

Progress = Callable[[int, int, str], None]
"""progress(done, total, note): cheap to call often."""


def bar(what: str, unit: str) -> Progress:
    """A progress callback that draws on standard error; it closes itself when done reaches total."""
    state: dict[str, tqdm] = {}

    def show(done: int, total: int, note: str = "") -> None:
        if "bar" not in state:
            quiet = not sys.stderr.isatty()
            state["bar"] = tqdm(
                total=total,
                desc=what,
                unit=f" {unit}",
                unit_scale=total > 10_000,
                mininterval=15.0 if quiet else 0.2,
                dynamic_ncols=True,
                smoothing=0.1,
            )
        drawn = state["bar"]
        drawn.set_postfix_str(note, refresh=False)
        drawn.update(done - drawn.n)
        if done >= total:
            drawn.close()

    return show
