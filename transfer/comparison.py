"""Episodes beside one another: dynamics that contradict, copies, and stretches that stand in a test set as well."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from robot import log
from robot.log import LogError
from robot.spec import RobotSpec
from sim.model import Model
from transfer.dataset import load_index
from transfer.screening import consensus, kept, leakage
from transfer.screening.config import ScreenConfig
from transfer.screening.kept import Kept
from transfer.screening.signals import Evidence, Noticed, Signals


@dataclass(frozen=True, slots=True)
class Known:
    """What is kept of an episode, and where it is."""

    name: str
    kept: Kept
    foreign: bool = False
    """Whether it is of a data set that the new episodes must share nothing with."""


def place(folder: Path, file: str) -> Path:
    """Where a data set keeps what comparisons need of an episode."""
    return Path(folder) / kept.FOLDER / f"{Path(file).stem}.npz"


def known(folder: Path, spec: RobotSpec, model: Model | None) -> list[Known]:
    """What is kept of a data set's accepted episodes; looked at again where that is missing.

    DataRefused when the folder is no data set of this robot.
    """
    out = []
    for episode in load_index(folder, spec).episodes:
        if not episode.accepted:
            continue
        found = kept.load(place(folder, episode.file))
        if found is None or (model is not None and found.regression is None):
            try:
                found = kept.keep(Signals(log.load(Path(folder) / episode.file), spec), model)
            except LogError:
                continue  # load_dataset() will say so when the data set is used
        out.append(Known(f"{Path(folder).name}/{Path(episode.file).stem}", found))
    return out


def alone(episode: Kept, config: ScreenConfig) -> list[Noticed]:
    """What the dynamics of one episode say without others."""
    if episode.regression is None or (detail := consensus.unexplained(episode.regression, config)) is None:
        return []
    return [Noticed("unexplained", "command.effort", "file", detail)]


def compare(
    news: Sequence[Known], there: Sequence[Known], spec: RobotSpec, config: ScreenConfig
) -> list[list[Noticed]]:
    """For each new episode what shows beside the other new ones and those that are there."""
    out: list[list[Noticed]] = [[] for _ in news]
    for k, new in enumerate(news):
        out[k] += _copies(new, [*there, *news[:k]], config)
    own = [*news, *(t for t in there if not t.foreign)]
    for number, found in _dynamics(own, spec, config):
        if number < len(news):
            out[number].append(found)
    return out


def _copies(new: Known, others: Sequence[Known], config: ScreenConfig) -> list[Noticed]:
    """`leakage` and `duplicate`: the longest stretch shared with a foreign and with an own episode."""
    found: dict[str, tuple[float, Noticed]] = {}
    for other in others:
        common = leakage.shared(other.kept.fingerprints, new.kept.fingerprints)
        if common is None or common.seconds < config.leak_s:
            continue
        kind = "leakage" if other.foreign else "duplicate"
        whose = f"{common.seconds:.1f} s at {common.start:.1f} s are in '{other.name}', too, at {common.there:.1f} s"
        rows = common.rows * new.kept.fingerprints.period
        evidence = Evidence("shared with the other recording", {"shared": (rows[:400], np.ones(len(rows[:400])))})
        if kind not in found or common.seconds > found[kind][0]:
            detail = f"{whose}."
            found[kind] = common.seconds, Noticed(kind, "joint.position", f"t = {common.start:.1f} s", detail, evidence)
    return [n for _, n in found.values()]


def _dynamics(episodes: Sequence[Known], spec: RobotSpec, config: ScreenConfig) -> list[tuple[int, Noticed]]:
    """(number, finding) of `outlier`, `poisoned`, and what all episodes together say of robot, units and signs."""
    numbers = [k for k, e in enumerate(episodes) if e.kept.regression is not None and e.kept.regression.total.any()]
    regressions = [r for k in numbers if (r := episodes[k].kept.regression) is not None]
    names = [episodes[k].name for k in numbers]
    if not regressions:
        return []
    found = consensus.consensus_of(regressions)
    out = [(k, n) for k, n in consensus.outliers(names, regressions, config).items()]
    if len(regressions) >= config.episodes:
        out += consensus.poisoned(names, spec.joint_names, found, config).items()
    told = consensus.implausible(found, regressions, spec.joint_names, config)
    for i in range(len(regressions)):
        if found.agreeing[i]:
            out += [(i, Noticed(kind, "command.effort", "all episodes", detail)) for kind, detail in told]
    return [(numbers[i], n) for i, n in out]
