"""What all tests share."""

from __future__ import annotations

import pytest

LONGEST = (
    "test_demo.py", "test_effect.py", "test_train_stage.py", "test_stress_stage.py", "test_pretrain.py",
    "test_every_robot.py", "test_golden.py", "test_identify.py", "test_vision.py", "test_prediction.py",
)  # fmt: skip


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The longest files first, so that no process waits for the other at the end.

    xdist keeps this order with --no-loadscope-reorder; else it begins with the files of the most tests.
    """
    order = {name: i for i, name in enumerate(LONGEST)}
    items.sort(key=lambda item: order.get(item.path.name, len(order)))
