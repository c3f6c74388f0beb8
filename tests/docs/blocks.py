"""What the pages tell people to type, read out of their Markdown.

Commands are fenced blocks of `bash`, and indented lines that begin with `$ `. A comment before a block says what a
page's reader need not see:

    <!-- docs-test: skip: WHY -->           the next block is not run; the reason is printed
    <!-- docs-test: needs NAME -->          the next block is run only where the environment has NAME
    <!-- docs-test: file NAME -->           the next block (of any language) is written to NAME
    <!-- docs-test: by tests/test_x.py -->  this test types the page's `$ ` lines; it is run in their place
    <!-- docs-test: setup                   these commands come first: what the page takes for granted
    ... -->
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

FENCE = re.compile(r"^( *)```(\w*)[^\n]*$")
COMMENT = re.compile(r"^ *<!-- docs-test: (skip|needs|file|by|setup)\b:? *(.*?) *(-->)?$")
HEREDOC = re.compile(r"<<-?\s*['\"]?(\w+)['\"]?")


@dataclass(frozen=True, kw_only=True)
class Step:
    """One thing to do for a page, in its order."""

    line: int
    kind: Literal["run", "setup", "skip", "needs", "file", "by"]
    text: str
    """The command; what is in the file; or the test's path."""
    note: str = ""
    """Why it is skipped, which variable it needs, or the file's name."""


class PageError(ValueError):
    """A page's comments are not what blocks.py says."""


def steps(page: str) -> list[Step]:
    """All steps of a page, whose text is `page`. Raises PageError for a comment that no block follows."""
    lines, found, at = page.splitlines(), [], 0
    pending: tuple[str, str, int] | None = None
    typed_by_test = False
    while at < len(lines):
        comment, fence = COMMENT.match(lines[at]), FENCE.match(lines[at])
        if comment is not None:
            kind, note = comment[1], comment[2]
            if kind == "setup":
                end = next(i for i in range(at, len(lines)) if "-->" in lines[i])
                found += [Step(line=at + 2 + n, kind="setup", text=text) for n, text in commands(lines[at + 1 : end])]
                at = end
            elif kind == "by":
                found.append(Step(line=at + 1, kind="by", text=note))
                typed_by_test = True
            elif not note:
                raise PageError(f"line {at + 1}: '{kind}' says nothing.")
            else:
                pending = kind, note, at + 1
        elif fence is not None:
            end = next(i for i in range(at + 1, len(lines)) if lines[i].strip() == "```")
            body = [line.removeprefix(fence[1]) for line in lines[at + 1 : end]]
            found += _block(fence[2], body, at + 1, pending)
            pending, at = None, end
        elif lines[at].lstrip().startswith("$ ") and lines[at].startswith("    ") and not typed_by_test:
            found.append(_step(lines[at].strip().removeprefix("$ "), at + 1, pending))
            pending = None
        elif lines[at].strip() and pending is not None:
            raise PageError(f"line {pending[2]}: no block follows this comment.")
        at += 1
    return found


def _block(language: str, body: list[str], line: int, pending: tuple[str, str, int] | None) -> list[Step]:
    if pending is not None and pending[0] == "file":
        return [Step(line=line, kind="file", text="\n".join(body) + "\n", note=pending[1])]
    if language != "bash":
        if pending is not None:
            raise PageError(f"line {pending[2]}: the block that follows is not of bash.")
        return []
    return [_step(text, line + 1 + n, pending) for n, text in commands(body)]


def _step(text: str, line: int, pending: tuple[str, str, int] | None) -> Step:
    if pending is None:
        return Step(line=line, kind="run", text=text)
    if pending[0] not in ("skip", "needs"):
        raise PageError(f"line {pending[2]}: '{pending[0]}' cannot stand before a command.")
    return Step(line=line, kind=pending[0], text=text, note=pending[1])  # type: ignore[arg-type]


def commands(lines: list[str]) -> list[tuple[int, str]]:
    """(index of its first line, text) of each command, joined over backslashes and here-documents."""
    found: list[tuple[int, str]] = []
    at = 0
    while at < len(lines):
        begin = at
        while lines[at].rstrip().endswith("\\") and at + 1 < len(lines):
            at += 1
        opened = HEREDOC.search(lines[at])
        if opened is not None:
            at = next((i for i in range(at + 1, len(lines)) if lines[i].strip() == opened[1]), at)
        text = "\n".join(lines[begin : at + 1]).strip()
        if text and not text.startswith("#"):
            found.append((begin, text))
        at += 1
    return found
