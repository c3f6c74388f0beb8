"""What doctor looks at on a machine. One file a subject, each with `LOOKS`: name -> a function that looks.

A look takes a millisecond to a third of a second, needs the edge packages alone and changes nothing. It returns what
it saw; where something would be better, Seen names the command that makes it so. What is told by the kernel in files is
read below `/`, or below another root for the tests.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Seen:
    """One thing that was looked at."""

    detail: str
    fix: str = ""
    """What would be better, as a command where there is one; empty where all is well."""


@dataclass(frozen=True, slots=True)
class Host:
    """Where to look."""

    out: Path
    """Folder in which runs are recorded."""
    root: Path = Path("/")

    def text(self, path: str) -> str:
        """Content of a file of the kernel, stripped; empty where it is not there or may not be read."""
        try:
            return (self.root / path).read_text(errors="replace").strip()
        except OSError:
            return ""

    def found(self, pattern: str) -> list[Path]:
        """Paths that match, sorted."""
        return sorted(self.root.glob(pattern))


Look = Callable[[Host], Seen]
