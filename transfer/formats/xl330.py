"""Logs of Rhoban's test rig for servos (Better Actuator Models): JSON, one weight on one servo that holds positions."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from robot.log import UNITS, Channel, EpisodeLog
from robot.spec import RobotSpec
from transfer.dataset import Finding
from transfer.formats import Recording
from transfer.formats.tables import head_of, text_of
from transfer.screen import finding

Array = npt.NDArray[np.float64]

FIELDS = ("timestamp", "position", "speed", "goal_position", "load", "input_volts", "temp", "torque_enable")
FULL_LOAD = 885.0
"""Register value of full PWM."""
SAG_V = 0.3
"""A supply that drops by so much under load [V] is told of."""


def detect(path: Path) -> bool:
    """By the name and the first characters."""
    return path.is_file() and path.name.endswith((".json", ".json.gz")) and '"entries"' in head_of(path)


def read(path: Path, spec: RobotSpec) -> list[Recording]:
    """The one episode of a file."""
    text, findings = text_of(path)
    try:
        data = json.loads(text)
        rows = data["entries"]
        table = {name: np.array([_number(row[name]) for row in rows]) for name in FIELDS}
    except (ValueError, KeyError, TypeError) as error:
        detail = f"the file is no whole recording of this rig ({type(error).__name__}: {error})."
        return [Recording(log=None, findings=(*findings, finding("unreadable", "", "file", detail)))]
    if not rows:
        return [Recording(log=None, findings=(*findings, finding("empty", "", "file", "there are no entries.")))]
    if len(spec.joints) != 1:
        detail = f"the rig has one servo; robot '{spec.name}' has {len(spec.joints)} joints."
        return [Recording(log=None, findings=(*findings, finding("other_robot", "", "file", detail)))]
    duty = np.where(table["load"] > 32767, table["load"] - 65536, table["load"]) / FULL_LOAD
    t_ns = np.round(table["timestamp"] * 1e9).astype(np.int64)
    joint = spec.joint_names
    values = {
        "joint.position": ("", joint, table["position"]),
        "joint.velocity": ("", joint, table["speed"]),
        "command.position": ("", joint, table["goal_position"]),
        "servo.duty": ("1", joint, duty),
        "servo.torque_enable": ("1", joint, table["torque_enable"]),
        "servo.temperature": ("degC", joint, table["temp"]),
        "supply.voltage": ("V", ("supply",), table["input_volts"]),
    }
    channels = {n: Channel(n, UNITS.get(n, u), c, t_ns, v[:, None]) for n, (u, c, v) in values.items()}
    meta = {"source": path.name, "layout": "json/xl330", "stamps": "row"}
    meta |= {k: str(data[k]) for k in ("mass", "length", "kp", "vin", "motor", "trajectory") if k in data}
    log = EpisodeLog(path.name.split(".")[0], spec.name, spec.fingerprint(), channels, meta)
    return [Recording(log=log, findings=(*findings, *_told(table, duty)))]


def _number(cell: Any) -> float:
    """A cell as a number; null, as JSON writes what is missing, is nan."""
    return float("nan") if cell is None else float(cell)


def _told(table: dict[str, Array], duty: Array) -> list[Finding]:
    """What the rig's registers are, and what happened to torque and supply."""
    findings = []
    if (table["load"] > 32767).any():
        detail = f"'load' is a raw unsigned 16-bit register, up to {table['load'].max():.0f}; read as a signed duty: "
        row = int(np.argmax(table["load"] > 32767))
        detail += f"less 65536 above 32767, over {FULL_LOAD:.0f}."
        findings.append(finding("converted", "servo.duty", f"row {row + 1}", detail))
    volts = table["input_volts"]
    if volts.max() - volts.min() >= SAG_V - 1e-9:
        row = int(np.argmin(volts))
        detail = f"the supply sags from {volts.max():.1f} to {volts.min():.1f} V, at a duty of {duty[row]:+.2f}."
        findings.append(finding("supply_sag", "supply.voltage", f"row {row + 1}", detail))
    if (off := table["torque_enable"] < 0.5).any():
        row = int(np.argmax(off))
        detail = f"the torque is switched off at {table['timestamp'][row]:.2f} s ({off.mean():.0%} of the rows): "
        detail += "what is commanded then acts on nothing."
        findings.append(finding("torque_off", "command.position", f"row {row + 1}", detail))
    return findings
