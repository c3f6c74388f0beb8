"""A map of columns that nobody has described: guessed from names and figures, and written for a person to confirm.

The text is a map as column_map.py reads it, with `confirmed: false`, the range of each column beside it, and `"?"`
where nothing tells a unit. It is never used as it is.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from robot.log import UNITS
from robot.recorder import AXES
from robot.spec import RobotSpec
from transfer.formats import Recording
from transfer.formats.column_map import UNKNOWN
from transfer.formats.guess import Meaning, joint_of, meaning_of, row_of
from transfer.formats.layout import FACTORS
from transfer.formats.sources import Clock, Source
from transfer.formats.tables import Dialect
from transfer.screen import finding
from transfer.screening.signals import command_of

FAR = 4.0 * np.pi
"""Angles beyond this, of joints with limits, are hardly in rad."""
LISTED = 40
"""Columns that are listed at most where they were not understood."""


@dataclass(frozen=True, slots=True)
class Guess:
    """One column as one component."""

    column: str
    unit: str
    why: str


def propose(source: Source, spec: RobotSpec, dialect: Dialect | None = None) -> Recording:
    """No recording, but the map that would make it one, and a finding that says what is not known."""
    columns = {n: meaning_of(n) for n in source.table.columns}
    clock = source.clock or _clock(source, columns)
    channels, left = _channels(source, spec, columns)
    text = _text(source, spec, clock, channels, left, dialect or Dialect())
    open_units = [(g.column, c) for c, parts in channels.items() for g in parts.values() if g.unit == UNKNOWN]
    if open_units:
        name, channel = open_units[0]
        more = f"; {len(open_units) - 1} more are open" if len(open_units) > 1 else ""
        detail = f"it does not say in which unit {_quoted(name)} is ({_range(source, name)}){more}."
        told = finding("unstated_unit", channel, "file", detail)
    else:
        names = list(source.table.columns)
        listed = ", ".join(_quoted(n) for n in names[:12]) + (f" and {len(names) - 12} more" if len(names) > 12 else "")
        told = finding("unknown_layout", "", "file", f"no known layout has its columns {listed}.")
    others = [f for f in source.table.findings if f.kind != "text"]  # columns of words are no channels
    return Recording(log=None, findings=(*others, told), format=source.format, proposal=text)


def _clock(source: Source, columns: dict[str, Meaning]) -> Clock | None:
    """The column that counts time: named so, and never going back."""
    named = [n for n, m in columns.items() if m.quantity == "time" and not m.commanded]
    for name in named:
        stamps = source.table.columns[name]
        steps = np.diff(stamps[np.isfinite(stamps)])
        if len(steps) and (steps >= 0).all() and (steps > 0).any():
            return Clock(column=name, unit=columns[name].unit or _second_of(float(np.median(steps))))
    return Clock(column=named[0], unit=columns[named[0]].unit or "s") if named else None


def _second_of(step: float) -> str:
    """The unit in which a recording of usual rates (2 Hz to 2 kHz) makes such steps."""
    return "s" if step < 0.5 else "ms" if step < 500.0 else "us" if step < 5e5 else "ns"


def _channels(
    source: Source, spec: RobotSpec, columns: dict[str, Meaning]
) -> tuple[dict[str, dict[str, Guess]], dict[str, str]]:
    """Channel -> component -> column for channels that are complete; and why other columns stand aside."""
    groups: dict[str, list[str]] = {}
    left: dict[str, str] = {}
    for name, meaning in columns.items():
        channel = _channel(meaning, spec)
        if channel:
            groups.setdefault(channel, []).append(name)
        elif meaning.quantity != "time":
            left[name] = ""
    channels = {}
    for channel, names in groups.items():
        wanted = AXES if channel.startswith("imu.") else spec.joint_names
        found = _assigned(names, columns, wanted, channel)
        left |= {n: f"{channel}?" for n in names if n not in found.values()}
        if len(found) < len(wanted):
            left |= {n: f"{channel} of {c}? The others are missing." for c, n in found.items()}
            continue
        guesses = {c: _guess(source, columns[found[c]], found[c], channel) for c in wanted}
        needed = channel == "joint.position" or channel.startswith("command.")
        if not needed and any(g.unit == UNKNOWN for g in guesses.values()):
            left |= {g.column: f"{channel} of {c}? {g.why}" for c, g in guesses.items()}
            continue
        channels[channel] = guesses
    return channels, left


def _channel(meaning: Meaning, spec: RobotSpec) -> str:
    if meaning.quantity in ("gyro", "accel"):
        return f"imu.{meaning.quantity}"
    if meaning.quantity in ("position", "velocity", "effort"):
        return f"{'command' if meaning.commanded else 'joint'}.{meaning.quantity}"
    return command_of(spec) if meaning.commanded and not meaning.quantity else ""


def _assigned(names: Sequence[str], columns: dict[str, Meaning], wanted: Sequence[str], channel: str) -> dict[str, str]:
    """Component -> column: by the joint's name in the column's, by its number, or because there is but one."""
    if channel.startswith("imu."):
        return {a: n for n in reversed(names) if (a := columns[n].axis)}
    found = {j: n for n in reversed(names) if (j := joint_of(n, wanted)) is not None}
    if found:
        return found
    if row := row_of(names, len(wanted)):
        return dict(zip(wanted, row, strict=True))
    return {wanted[0]: names[0]} if len(wanted) == 1 else {}


def _guess(source: Source, meaning: Meaning, column: str, channel: str) -> Guess:
    unit, values = UNITS[channel], source.table.columns[column]
    known = FACTORS.get(unit, {unit: 1.0})
    told = _range(source, column)
    if stated := source.units.get(column, ""):
        if stated in known:
            return Guess(column, stated, f"{told}; stated by the file")
        return Guess(column, UNKNOWN, f"{told}; {stated}" if stated != UNKNOWN else f"{told}; not stated")
    if meaning.current:
        return Guess(column, UNKNOWN, f"{told}; a current: give the torque constant as scale and the unit N m")
    if meaning.unit in known:
        return Guess(column, meaning.unit, f"{told}; by its name")
    if unit == "rad" and np.isfinite(values).any() and np.nanmax(np.abs(values)) > FAR:
        return Guess(column, "deg", f"{told}; a guess, too far for rad")
    return Guess(column, unit, f"{told}; a guess, nothing tells")


def _range(source: Source, column: str) -> str:
    values = source.table.columns[column]
    values = values[np.isfinite(values)]
    return f"{values.min():.4g} to {values.max():.4g}" if len(values) else "no numbers"


def _text(
    source: Source,
    spec: RobotSpec,
    clock: Clock | None,
    channels: dict[str, dict[str, Guess]],
    left: dict[str, str],
    dialect: Dialect,
) -> str:
    rows = len(next(iter(source.table.columns.values())))
    lines = [
        f"# A guess of `terrafirma ingest robot={spec.name}` for {_quoted(source.name)}: {source.format}, {rows} rows.",
        "# Look at each column, unit and sign, write confirmed: true, and pass this file as map=FILE.",
        "confirmed: false",
        *_time_lines(clock),
    ]
    lines += [f"delimiter: {_quoted(dialect.delimiter)}"] if dialect.delimiter != "," else []
    lines += [f"comment: {_quoted(dialect.comment)}"] if dialect.comment else []
    lines.append("channels:")
    for channel in sorted(channels, key=list(UNITS).index):
        lines.append(f"  {channel}:")
        for name, guess in channels[channel].items():
            unit = _quoted(guess.unit) if guess.unit == UNKNOWN else guess.unit
            lines.append(
                f"    {_quoted(name)}: {{column: {_quoted(guess.column)}, unit: {unit}}}  # {_flat(guess.why)}"
            )
            if guess.unit == UNKNOWN and channel == "joint.position":
                lines += _share_lines(spec, name, UNITS[channel])
    if "joint.position" not in channels:
        names = ", ".join(spec.joint_names)
        lines.append(f"  joint.position: {{}}  # not found; it needs a column for each of {_flat(names)}")
    if source.cameras:
        names = ", ".join(f"{_quoted(c)}: {_quoted(c)}" for c in source.cameras)
        lines.append(f"cameras: {{{names}}}  # the robot's name: the file's; {{}} reads none")
    if left:
        lines.append("# Not understood, and not read:")
        few = list(left.items())[:LISTED]
        lines += [f"#   {_quoted(n)}: {_flat(why) or _range(source, n)}" for n, why in few]
        lines += [f"#   and {len(left) - LISTED} more"] if len(left) > LISTED else []
    lines += [f"# No columns: {', '.join(_quoted(n) for n in source.unread[:LISTED])}"] if source.unread else []
    return "\n".join(lines) + "\n"


def _time_lines(clock: Clock | None) -> list[str]:
    if clock is None:
        return ['time: {column: "?", unit: s}  # no column looks like time stamps']
    column = f"column: {_quoted(clock.column)}, unit: {clock.unit}"
    if clock.scale is None:
        return [f"time: {{{column}, scale: 0}}  # {_flat(clock.nominal)} Write the seconds of one row."]
    scale = f", scale: {clock.scale!r}" if clock.scale != 1.0 else ""
    return [f"time: {{{column}{scale}}}" + (f"  # {_flat(clock.nominal)}" if clock.nominal else "")]


def _share_lines(spec: RobotSpec, joint: str, unit: str) -> list[str]:
    """How a share of a joint's travel would be written, by the robot's limits."""
    low, high = next((j.position_limits for j in spec.joints if j.name == joint), (-np.inf, np.inf))
    if unit != "rad" or not np.isfinite([low, high]).all():
        return []
    half, whole, middle = (high - low) / 200.0, (high - low) / 100.0, (high + low) / 2.0
    return [
        f"    #   if -100 to 100 of the joint's travel: unit: rad, scale: {half:.6g}, offset: {0.0 - middle:.6g}",
        f"    #   if 0 to 100 of the joint's travel: unit: rad, scale: {whole:.6g}, offset: {0.0 - low:.6g}",
    ]


def _quoted(text: str) -> str:
    """A name from a file as one YAML scalar of one line."""
    return json.dumps(text)


def _flat(text: str) -> str:
    return " ".join(text.split())
