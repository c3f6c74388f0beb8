"""One key press of a person at the terminal."""

from __future__ import annotations

import contextlib
import os
import sys

from robot.config import ConfigError

GONE = ""
"""What press() answers when the terminal was closed."""


def needed(why: str, instead: str) -> None:
    """ConfigError where standard input is no terminal on which single keys can be read.

    `why` begins the sentence, and `instead`, which says what else can be done, ends it.
    """
    try:
        import termios  # noqa: F401 - POSIX alone has it
    except ImportError as error:
        raise ConfigError(f"{why}, and this system has no POSIX terminal; {instead}.") from error
    if not sys.stdin.isatty():
        raise ConfigError(f"{why}, and standard input is no terminal; {instead}.")


def press(question: str, keys: str) -> str:
    """Ask, and wait for one of `keys` (lower case; both cases count); what was typed before the question is forgotten.

    Ctrl-C interrupts as ever. Keys that send several bytes, as arrows do, are none of `keys`.
    """
    import termios
    import tty

    terminal = sys.stdin.fileno()
    try:
        before = termios.tcgetattr(terminal)
    except termios.error:
        return GONE
    try:
        tty.setcbreak(terminal, termios.TCSAFLUSH)
        print(question, end=" ", flush=True, file=sys.stderr)
        while True:
            try:
                typed = os.read(terminal, 64)
            except OSError:
                return GONE
            if not typed:
                return GONE
            key = typed.decode("ascii", "ignore").lower()
            if len(typed) == 1 and key in keys:
                print("" if key.isspace() else key, flush=True, file=sys.stderr)
                return key
    finally:
        with contextlib.suppress(termios.error):
            termios.tcsetattr(terminal, termios.TCSADRAIN, before)
