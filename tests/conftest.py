"""What all tests share."""

from __future__ import annotations

import contextlib
import functools
import gc
import sys

import pytest

gc.set_threshold(10_000, 20, 50)
"""A process of the tests holds half a million objects that stay, which the collector would look at again and again: at
its usual thresholds that was a seventh of the time of an export."""
LONGEST = (
    "test_demo.py", "test_effect.py", "test_train_stage.py", "test_stress_stage.py", "test_pretrain.py",
    "test_every_robot.py", "test_golden.py", "test_identify.py", "test_vision.py", "test_rollouts.py",
    "test_prediction.py", "test_export.py", "test_residual.py", "test_servo_identification.py", "test_train.py",
    "test_ranks.py", "test_images.py", "test_baselines.py",
)  # fmt: skip


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The longest files first, so that no process waits for the other at the end.

    xdist keeps this order with --no-loadscope-reorder; else it begins with the files of the most tests.
    """
    order = {name: i for i, name in enumerate(LONGEST)}
    items.sort(key=lambda item: order.get(item.path.name, len(order)))


@pytest.fixture(scope="session", autouse=True)
def _one_table_of_operators() -> None:
    """At each export torch parses the sources of 500 operators anew, a second of processor time, for a table that is
    always the same: here the first one of a process serves all exports. Where torch has moved it, nothing is done."""
    if "torch" in sys.modules:
        with contextlib.suppress(ImportError, AttributeError):
            from torch.onnx._internal.exporter._registration import ONNXRegistry

            ONNXRegistry.from_torchlib = staticmethod(functools.cache(ONNXRegistry.from_torchlib))  # type: ignore[method-assign]
