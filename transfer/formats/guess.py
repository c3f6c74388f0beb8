"""What a column may mean, guessed from its name: `q0`, `shoulder_pos_deg`, `thetadot_1 [rad/s]`, `time_ms`, `cmd_1`.

A guess is never used: proposal.py writes it down for a person. Words stand in the tables below, one a line of thought.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

WORDS = {
    "time": "t ts time times timestamp timestamps stamp stamps clock",
    "position": "q qpos pos position positions angle angles theta th phi jointpos encoder state",
    "velocity": "qd dq qdot dqdt qvel vel velocity velocities speed speeds omega thetadot dtheta thd jointvel",
    "effort": "tau torque torques trq effort efforts moment current currents amps i",
    "gyro": "gyro gyroscope angvel",
    "accel": "acc accel acceleration accelerometer linacc",
}
"""Quantity -> words that name it."""
COMMAND = {"cmd", "command", "commands", "commanded", "des", "desired", "ref", "reference", "goal", "target", "tgt",
           "setpoint", "action", "actions", "ctrl", "control", "u"}  # fmt: skip
"""Words that say that a column was commanded, not measured."""
CURRENT = {"current", "currents", "amps", "i", "a", "ma"}
"""Words of motor currents: a torque only after a factor that no file tells."""
SECONDS = {
    "s": "s sec secs second seconds",
    "ms": "ms msec millis milliseconds",
    "us": "us usec micros microseconds",
    "ns": "ns nsec nanos nanosec nanoseconds",
}
ANGLES = {"rad": "rad rads radian radians", "deg": "deg degs degree degrees", "turn": "turn turns rev revs revolutions",
          "mrad": "mrad"}  # fmt: skip
RATES = {"rad/s": "rads radps", "deg/s": "degs dps degps", "rpm": "rpm", "turn/s": "rps turns"}
EFFORTS = {"N m": "nm newtonmeter", "mN m": "mnm", "kg cm": "kgcm"}
ACCELERATIONS = {"m/s^2": "ms2 mps2", "g": "g"}
ELSEWHERE = {"cos", "sin", "eef", "ee", "tcp", "base", "quat", "gripper", "object", "world", "hand"}
"""Words of quantities that are not those of joints in a row."""
_QUANTITY = {word: quantity for quantity, words in WORDS.items() for word in words.split()}


@dataclass(frozen=True, slots=True)
class Meaning:
    """What one name says."""

    quantity: str
    """A row of WORDS; empty where no word tells."""
    commanded: bool
    unit: str
    """As layout.FACTORS and SECONDS name it; empty where the name has none."""
    current: bool = False
    axis: str = ""
    """x, y or z."""


def meaning_of(name: str) -> Meaning:
    """What a column's name says; of `observation.state/shoulder.pos` the last part says more than the first."""
    bare, bracketed = _bracket(name)
    words = _words(bare)
    quantities = [_QUANTITY[w] for w in words if w in _QUANTITY]
    quantity = quantities[-1] if quantities else ""
    if quantity == "time" and len(set(quantities)) > 1:
        quantity = next(q for q in reversed(quantities) if q != "time")
    unit = _unit(quantity, bracketed, words)
    if not quantity and unit:
        quantity = {"rad": "position", "deg": "position", "N m": "effort"}.get(unit, "")
    return Meaning(
        quantity=quantity,
        commanded=any(w in COMMAND for w in words),
        unit=unit,
        current=quantity == "effort" and any(w in CURRENT for w in (*words, bracketed)),
        axis=next((w for w in reversed(words) if w in ("x", "y", "z")), ""),
    )


def joint_of(name: str, joints: Sequence[str]) -> str | None:
    """The robot's joint whose name stands in a column's name; the longest, where several do."""
    flat = _letters(name)
    named = [j for j in joints if _letters(j) and _letters(j) in flat]
    return max(named, key=lambda j: len(_letters(j))) if named else None


def row_of(names: Sequence[str], width: int) -> list[str]:
    """The first `width` names that are numbered without a gap and else alike: `qpos/0`, `qpos/1`, …; empty for none."""
    rows: dict[str, dict[int, str]] = {}
    for name in names:
        stem, number = _numbered(name)
        if number is not None and not ELSEWHERE & set(_words(stem)):
            rows.setdefault(stem, {})[number] = name
    for row in rows.values():
        first = min(row)
        if first in (0, 1) and sorted(row) == list(range(first, first + width)):
            return [row[first + k] for k in range(width)]
    return []


def _numbered(name: str) -> tuple[str, int | None]:
    """A name with its last number taken out, and that number."""
    found = list(re.finditer(r"\d{1,4}", _bracket(name)[0]))
    if not found:
        return name, None
    last = found[-1]
    return f"{name[: last.start()]}#{name[last.end() :]}", int(last.group())


def _letters(text: str) -> str:
    return re.sub(r"[^a-z0-9]", "", text.lower())


def _bracket(name: str) -> tuple[str, str]:
    """A name without the unit in brackets at its end, and that unit's letters."""
    found = re.search(r"[\[(]([^\])]*)[\])]\s*$", name)
    return (name[: found.start()], _letters(found.group(1))) if found else (name, "")


def _words(name: str) -> list[str]:
    """Words in lower case: `qDot1` gives qdot, 1; `shoulderPos_deg` gives shoulder, pos, deg."""
    known = name.replace("qDot", "qdot").replace("thetaDot", "thetadot")
    apart = re.sub(r"([a-z])([A-Z])", r"\1 \2", known)
    return [w.lower() for w in re.findall(r"[A-Za-z]+|\d+", apart)]


def _unit(quantity: str, bracketed: str, words: Sequence[str]) -> str:
    """The unit that a name ends in, or has in brackets."""
    tables = {"time": SECONDS, "position": ANGLES, "velocity": {**ANGLES, **RATES}, "gyro": {**ANGLES, **RATES},
              "effort": EFFORTS, "accel": ACCELERATIONS, "": {**ANGLES, **EFFORTS}}  # fmt: skip
    table = tables[quantity]
    tails = [bracketed] if bracketed else ["".join(words[-k:]) for k in (3, 2, 1) if len(words) >= k]
    tails = [t.replace("per", "").replace("sec", "s") if quantity != "time" else t for t in tails]
    found = next((u for tail in tails for u, spelt in table.items() if tail in spelt.split()), "")
    if quantity in ("velocity", "gyro") and found in ("rad", "deg", "turn"):
        return f"{found}/s"
    return "rad/s" if quantity in ("velocity", "gyro") and found == "mrad" else found
