"""Random bytes to each protocol's parser; tests/benchmarks/fuzz_protocols.py feeds a million."""

from __future__ import annotations

import pytest

from tests.benchmarks.fuzz_protocols import PARSERS, fuzz


@pytest.mark.parametrize("protocol", list(PARSERS))
def test_random_and_damaged_bytes_raise_nothing_but_the_protocols_own_error(protocol: str) -> None:
    fuzz(protocol, 4000, seed=1)
