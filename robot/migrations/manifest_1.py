"""Schema 1 to 2: tolerances by class of processor, the variant, a licence, and a monitor of more than one region.

The golden vectors of schema 1 were held to one tolerance everywhere, and its monitor had one region, whose limit was
1.5 times the largest distance in training.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

TOLERANCE, RECURRENT_TOLERANCE = 1e-5, 1e-4


def migrate(
    manifest: dict[str, Any], monitor: dict[str, npt.NDArray[Any]]
) -> tuple[dict[str, Any], dict[str, npt.NDArray[Any]]]:
    """manifest.yaml and monitor.npz of schema 1 as of schema 2; KeyError when they are not of schema 1."""
    recurrent = any(name.startswith("state_") for name in manifest["outputs"])
    allowed = RECURRENT_TOLERANCE if recurrent else TOLERANCE
    changed = {**manifest, "schema": 2, "tolerance": {"any": allowed}, "licence": "not stated", "variant": "float32"}
    names = ("components", "mean", "std", "low", "high", "precision", "limit")
    arrays = {f"observation.{name}": monitor[name] for name in names}
    return changed, arrays | {"patience": np.array(1), "false_alarm": np.array(np.nan)}
