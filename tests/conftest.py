"""What all tests share."""

from __future__ import annotations

import pytest

LONGEST = "test_demo.py"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The longest file first, so that no process waits for the other at the end."""
    items.sort(key=lambda item: item.path.name != LONGEST)
