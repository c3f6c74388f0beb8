"""Channels of one episode from columns of topics: whose clock they are on, and what their messages lack."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from robot.log import UNITS, Channel, EpisodeLog
from robot.spec import RobotSpec
from transfer.dataset import Finding
from transfer.formats import Recording
from transfer.formats.column_map import COMPONENTS
from transfer.formats.layout import Column
from transfer.formats.topic_pictures import Pictures
from transfer.formats.topic_series import Series, series_of
from transfer.formats.topics import Array, Bag, SourceError, Times, split
from transfer.screen import finding

OFF_S = 0.1
"""Clocks of stamps and of reception that differ by less [s] (the median) are taken for one clock."""


def damage(bag: Bag) -> list[Finding]:
    """What of the recording could not be read."""
    return [finding("torn", "", "file", f"{bag.damage}.")] if bag.damage else []


@dataclass(slots=True)
class Assembly:
    """One episode while it is put together."""

    bag: Bag
    path: Path
    spec: RobotSpec
    kind: str
    findings: list[Finding] = field(default_factory=list)

    def episode(
        self,
        channels: Mapping[str, Mapping[str, Column]],
        cams: Mapping[str, str],
        own_stamps: bool,
        late_rows: int | None,
    ) -> Recording:
        try:
            series = self._series(channels)
        except SourceError as error:
            broken = finding("unreadable", "", "topics", f"{error}.")
            return Recording(log=None, findings=(*damage(self.bag), *self.findings, broken), format=self.kind)
        own = own_stamps and self._same_clock(series.values())
        made: dict[str, Channel] = {}
        for name, columns in channels.items():
            components = COMPONENTS.get(name, self.spec.joint_names)
            channel = self._channel(name, components, [columns[c] for c in components], series, own)
            if channel is not None:
                made[name] = channel
        made |= self._cameras(cams, own)
        self._rejected()
        meta = {"source": self.path.name, "layout": self.kind, "stamps": "message" if own else "received"}
        if late_rows is not None:
            meta["late_rows"] = str(late_rows)
        name = self.path.name.split(".")[0]
        log = (
            EpisodeLog(name, self.spec.name, self.spec.fingerprint(), made, meta) if "joint.position" in made else None
        )
        return Recording(log=log, findings=(*damage(self.bag), *self.findings), format=self.kind)

    def _series(self, channels: Mapping[str, Mapping[str, Column]]) -> dict[str, Series]:
        wanted: dict[str, list[str]] = {}
        for columns in channels.values():
            for column in columns.values():
                topic, path = split(column.column)
                wanted.setdefault(topic, []).append(path)
        topics = {t.name: t for t in self.bag.topics}
        return {name: series_of(self.bag, topics[name], paths) for name, paths in wanted.items()}

    def _same_clock(self, series: Iterable[Series]) -> bool:
        """Whether messages' own stamps can be taken for this recording; a finding says which clock it is."""
        full = [s for s in series if len(s.received)]
        stamped = [s for s in full if s.stamped is not None]
        late = np.concatenate([s.late_s for s in stamped]) if stamped else np.zeros(0)
        bare = [s.topic.name for s in full if s.stamped is None]
        if not stamped:
            detail = "no message has a filled stamp; those of reception are taken, which jitter with the recorder."
            self.findings.append(finding("stamps", "", "topics", detail))
            return False
        figures = f"messages came {np.median(late) * 1e3:.1f} ms after their stamps (median; {late.min() * 1e3:.1f} to "
        figures += f"{late.max() * 1e3:.1f} ms)"
        if bare and abs(float(np.median(late))) > OFF_S:
            detail = f"{figures}, another clock, and {', '.join(bare)} has none: stamps of reception are taken for all."
            self.findings.append(finding("stamps", "", "topics", detail))
            return False
        detail = f"the messages' own stamps are taken; {figures}"
        detail += f"; {', '.join(bare)} has none, and keeps those of reception." if bare else "."
        self.findings.append(finding("stamps", "", "topics", detail))
        return True

    def _channel(
        self, name: str, components: tuple[str, ...], columns: Sequence[Column], series: Mapping[str, Series], own: bool
    ) -> Channel | None:
        parts: list[tuple[Times, Array]] = []
        places = [split(c.column) for c in columns]
        for (topic, path), column in zip(places, columns, strict=True):
            one = series[topic]
            there = one.there[path]
            if not there.any():
                detail = f"none of the {len(there)} messages of {topic} has '{path}'."
                self.findings.append(finding("missing_column", name, f"topic {topic}", detail))
                return None
            times = one.stamped if own and one.stamped is not None else one.received
            parts.append((times[there], column.values(one.columns[path][there], UNITS[name])))
        self._told_partial(name, places, series)
        if len({t for t, _ in places}) == 1 and all(len(t) == len(parts[0][0]) for t, _ in parts):
            together = all(np.array_equal(t, parts[0][0]) for t, _ in parts)
        else:
            together = False
        if together:
            return Channel(name, UNITS[name], components, parts[0][0], np.stack([v for _, v in parts], axis=1))
        return self._joined(name, components, parts)

    def _told_partial(self, name: str, places: Sequence[tuple[str, str]], series: Mapping[str, Series]) -> None:
        topics = {t for t, _ in places}
        for topic in topics:
            there = [series[topic].there[p] for t, p in places if t == topic]
            alike = all(np.array_equal(t, there[0]) for t in there)
            if alike and (lacking := int((~there[0]).sum())):
                detail = f"{lacking} of {len(there[0])} messages do not have it, and give no row."
                self.findings.append(finding("left_out", name, f"topic {topic}", detail))

    def _joined(self, name: str, components: tuple[str, ...], parts: Sequence[tuple[Times, Array]]) -> Channel | None:
        """Joints that come in different messages, at the stamps of the most frequent, by straight lines between."""
        base = max(range(len(parts)), key=lambda i: len(parts[i][0]))
        times = parts[base][0]
        inside = np.ones(len(times), np.bool_)
        for t, _ in parts:
            inside &= (times >= t.min()) & (times <= t.max())
        if not inside.any():
            detail = "its joints are in different messages that never overlap in time."
            self.findings.append(finding("missing_channel", name, "topics", detail))
            return None
        times = times[inside]
        start = int(times[0])
        values = []
        for i, (t, v) in enumerate(parts):
            order = np.argsort(t, kind="stable")
            line = np.interp((times - start) * 1e-9, (t[order] - start) * 1e-9, v[order])
            values.append(v[inside] if i == base else line)
        detail = (
            f"its joints are in different messages; all were brought to the stamps of '{components[base]}' by straight "
        )
        detail += f"lines, and {int((~inside).sum())} rows outside the common stretch were left out."
        self.findings.append(finding("joined", name, "topics", detail))
        return Channel(name, UNITS[name], components, times, np.stack(values, axis=1))

    def _cameras(self, cams: Mapping[str, str], own: bool) -> dict[str, Channel]:
        made = {}
        topics = {t.name: t for t in self.bag.topics}
        for camera, topic in cams.items():
            pictures = Pictures(camera, own)
            name = f"camera.{camera}"
            try:
                made[name] = pictures.read(self.bag, topics[topic])
            except SourceError as error:
                self.findings.append(finding("left_out", name, f"topic {topic}", f"{error}."))
                continue
            self.findings.append(finding("mapped", name, "topics", f"from {topics[topic]}."))
            if pictures.damaged:
                detail = f"{pictures.damaged} picture(s) cannot be decoded and were left out."
                self.findings.append(finding("damaged_image", name, f"topic {topic}", detail))
        return made

    def _rejected(self) -> None:
        for topic, reasons in self.bag.rejected.items():
            if total := sum(reasons.values()):
                first = Counter(reasons).most_common(1)[0][0]
                detail = f"{total} message(s) were left out: {first}."
                self.findings.append(finding("damaged_messages", "", f"topic {topic}", detail))
