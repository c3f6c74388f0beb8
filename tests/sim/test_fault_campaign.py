"""The fault campaign of tests/benchmarks, a short one: some troubles on each of the three buses."""

from __future__ import annotations

import contextlib

import pytest

pytest.importorskip("can")
pytest.importorskip("serial")

from tests.benchmarks.fault_campaign import campaign, table
from tests.sim.emulated import bench, busy

SOME = {
    "can": ("late", "bus_off", "brown_out", "nan"),
    "feetech": ("corrupt", "wrapped", "unplugged"),
    "dynamixel": ("hot", "lost", "frozen"),
}


@pytest.mark.parametrize("driver", list(SOME))
def test_no_trouble_ends_outside_the_safe_state(driver: str) -> None:
    with contextlib.ExitStack() as stack:
        motors = stack.enter_context(bench(driver))
        patience = 2.0 if busy() else None
        found = campaign({driver: motors.emulator}, len(SOME[driver]), seed=1, kinds=SOME[driver], watchdog_s=patience)
    assert not [(o.injection.words, o.broken) for o in found if o.broken], table(found)
    assert any(o.fault for o in found)
