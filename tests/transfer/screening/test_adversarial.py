"""The adversarial set of tests/benchmarks/screening.py, small: faults at random places of the real recordings."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tests.benchmarks.screening import Recorded, copies, false_flags, recall, recordings


@pytest.fixture(scope="module")
def recorded(real_logs: Path) -> list[Recorded]:
    return recordings(real_logs)


def test_faults_in_real_recordings_are_named_right(recorded: list[Recorded]) -> None:
    rows, missed = recall(recorded, np.random.default_rng(11), 3)
    right, total = (sum(round(r["mean"] * r["n"]) if k else r["n"] for r in rows.values()) for k in (1, 0))
    assert total > 55 and right >= 0.95 * total, missed


def test_clean_stretches_of_real_recordings_are_not_flagged(recorded: list[Recorded]) -> None:
    share, flagged = false_flags(recorded, np.random.default_rng(12), 50)
    assert share["mean"] <= 0.02, flagged


def test_copies_are_found_and_no_two_recordings_are_taken_for_one(recorded: list[Recorded]) -> None:
    found = copies(recorded, np.random.default_rng(13), 15)
    assert found["copies"]["mean"] == 1.0 and found["other_pairs"]["mean"] == 0.0
