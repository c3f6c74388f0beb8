"""Which answers are still owed, for buses whose answers do not say what they answer.

An MIT-mode motor answers each command with its state, and nothing in the answer tells which command it was. So that a
late answer is never taken for a new one, and then for ever after: an answer is fresh only when none is owed after it.
When one stays away, the next cycle begins with silence, in which a late one may come; only then is it written off.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence

HICCUP_NS = 5_000_000
"""Answers that come together after a pause of the adapter or the system are one oddity, not many."""


class Ledger:
    """Owed answers of some motors."""

    def __init__(self, ids: Sequence[int]) -> None:
        self._owed = dict.fromkeys(ids, 0)
        self._odd: deque[int] = deque()

    def sent(self, id: int) -> None:
        """A command went to motor `id`, which owes an answer."""
        self._owed[id] += 1

    def answered(self, id: int, now_ns: int) -> bool:
        """Motor `id` answered: whether this answers the last command. An answer that nobody waits for is odd."""
        if self._owed[id] == 0:
            if not self._odd or now_ns - self._odd[-1] >= HICCUP_NS:
                self._odd.append(now_ns)
            return False
        self._owed[id] -= 1
        return self._owed[id] == 0

    def owing(self) -> list[int]:
        """Motors that owe an answer."""
        return [id for id, owed in self._owed.items() if owed]

    def write_off(self) -> None:
        """Nothing is owed any more: what was missing has got lost."""
        self._owed = dict.fromkeys(self._owed, 0)

    def odd(self, now_ns: int, window_ns: int = 1_000_000_000) -> int:
        """How often in the last second answers came that nobody had waited for: repeated, or late by whole cycles."""
        while self._odd and self._odd[0] < now_ns - window_ns:
            self._odd.popleft()
        return len(self._odd)
