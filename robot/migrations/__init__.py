"""How bundles of older schemas are read: one file a step, each of which turns schema n into n + 1, in memory.

The signature is checked on the bytes as they are, first; nothing is written. To add a step: manifest_<n>.py with
migrate(), its row in STEPS, and a test with a bundle of that schema.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy.typing as npt

from robot.migrations import manifest_1

Document = dict[str, Any]
Arrays = dict[str, npt.NDArray[Any]]

STEPS: dict[int, Callable[[Document, Arrays], tuple[Document, Arrays]]] = {1: manifest_1.migrate}
"""Schema -> the step to the next one: manifest.yaml as a mapping and monitor.npz as arrays."""
