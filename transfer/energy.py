"""Energy and carbon dioxide of a computation, estimated from the CPU time that it took.

kWh = CPU seconds x W per busy core / 3.6e6; CO2 = kWh x the grid's intensity. The form is that of Lannelongue et al.,
Green Algorithms, Advanced Science 8, 2100707, 2021, without memory and the cooling of a data centre.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from robot.config import ConfigError
from robot.result import KG_CO2_PER_KWH, WATT_PER_CORE
from transfer.report.collect import StageResult


@dataclass(frozen=True, kw_only=True)
class Assumptions:
    """What CPU time does not say."""

    watts_per_core: float = WATT_PER_CORE
    """Draw of one busy core [W]: the processor's power by the number of its cores is a fair guess."""
    grid_g_per_kwh: float = 1e3 * KG_CO2_PER_KWH
    """Carbon dioxide of the electricity [g/kWh]: from below 50 (hydro, nuclear) to above 700 (coal)."""

    def __post_init__(self) -> None:
        for name in ("watts_per_core", "grid_g_per_kwh"):
            value = getattr(self, name)
            if not 0.0 <= value < math.inf:
                raise ConfigError(f"{name} is {value}; it must be at least 0 and finite.")

    def estimate(self, cpu_seconds: float) -> dict[str, float]:
        """Of so much CPU time: kWh and grams."""
        kwh = cpu_seconds * self.watts_per_core / 3.6e6
        return {"cpu_seconds": cpu_seconds, "kwh": kwh, "co2_g": kwh * self.grid_g_per_kwh}

    def sentence(self) -> str:
        """What the estimates rest on."""
        return (
            f"CPU time is measured, that of child processes included; energy and CO2 are estimates from "
            f"{self.watts_per_core:g} W a busy core and {self.grid_g_per_kwh:g} g CO2 a kWh. Memory, idle cores, "
            "accelerators, cooling, and what a killed run had computed before it was resumed are not in them."
        )


def spent(stages: Iterable[StageResult], assumed: Assumptions) -> dict[str, Any]:
    """What stages took, one by one and together; the time of a chain is that of its parts, and counted there."""
    measured = [s for s in stages if "cpu_seconds" in s.lineage and "stages" not in s.result]
    seconds = [float(s.lineage["cpu_seconds"]) for s in measured]
    rows = [
        {"stage": stage.stage, "folder": str(stage.folder), **assumed.estimate(took)}
        for stage, took in zip(measured, seconds, strict=True)
    ]
    return {
        **assumed.estimate(math.fsum(seconds)),
        "stages": rows,
        "assumptions": {"watts_per_core": assumed.watts_per_core, "grid_g_per_kwh": assumed.grid_g_per_kwh},
        "note": assumed.sentence(),
    }
