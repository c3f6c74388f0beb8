"""What an answer answers: one pause of an adapter is one oddity, and answers that nobody asked for at all are many."""

from __future__ import annotations

from robot.drivers.can_mit import ODD_LIMIT
from robot.drivers.ledger import Ledger

MS = 1_000_000


def test_what_comes_together_after_a_pause_is_one_oddity() -> None:
    """A pause of 20 ms at 500 Hz: 40 answers, long written off, in 2 ms."""
    ledger = Ledger((1, 2))
    for k in range(40):
        assert not ledger.answered(1 + k % 2, k * MS // 20)
    assert ledger.odd(2 * MS) == 1


def test_two_motors_with_one_id_are_found_out_in_a_tenth_of_a_second() -> None:
    """Each command is answered twice, 500 times a second."""
    ledger, now = Ledger((1,)), 0
    while ledger.odd(now) <= ODD_LIMIT:
        ledger.sent(1)
        assert ledger.answered(1, now) and not ledger.answered(1, now + MS // 10)
        now += 2 * MS
        assert now <= 100 * MS
    assert ledger.odd(now + 1000 * MS) == 0  # and forgotten a second later
