"""What a physics encoder finds strange: how well it tells shifted robots and broken wiring from what it was trained on.

Part of the examination for its card (examine_physics.py); transfer/novelty.py reads the files that are fitted here. To
add a fault: a row in faults().
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from policies.encoders import readout, signatures
from policies.encoders.heads import Heads
from policies.encoders.novelty import Novelty, verdict
from policies.encoders.physics import PhysicsEncoder
from policies.encoders.windows import WindowData
from transfer.robustness import BEYOND, PRIOR, Cases

Array = npt.NDArray[np.float64]


def novelty(
    folder: Path,
    encoder: PhysicsEncoder,
    heads: Heads,
    train: WindowData,
    test: WindowData,
    simulated: WindowData,
    cases: Cases,
) -> dict[str, Any]:
    """Fit and write the novelty files; how well they tell shifted data from data of the prior."""
    rng = np.random.default_rng(0)
    known, held = (signatures.of_windows(encoder, heads, d) for d in (train, test))
    windows = signatures.fitted(known, held)
    means = [signatures.of_recordings(x, d.group)[0] for x, d in ((known, train), (held, test))]
    recordings = signatures.fitted(means[0], means[1])
    windows.save(folder, signatures.WINDOWS)
    recordings.save(folder, signatures.RECORDINGS)
    inside = simulated.take(cases.rows(PRIOR, simulated.group))
    shifted = {f"beyond the prior: {case.term}": simulated.take(cases.rows(case, simulated.group))
               for case in cases.cases if case.side == BEYOND}  # fmt: skip
    shifted |= {f"fault: {name}": data for name, data in faults(inside, len(encoder.card.components), rng).items()}
    judged = {name: _judged(encoder, heads, d, windows, recordings) for name, d in {"": inside, **shifted}.items()}
    usual, table = judged.pop(""), {}
    for name, strange in judged.items():
        table[name] = {judge: _told_apart(usual[judge], strange[judge], rng) for judge in strange}
        table[name] |= {f"strange_{judge}": verdict(found.rank)["strange_share"] for judge, found in strange.items()}
    return {"auroc": table, "inside": verdict(usual["windows"].rank), "windows_a_recording": signatures.RECORDING}


@dataclass(frozen=True, slots=True)
class _Judged:
    score: Array
    rank: Array
    group: npt.NDArray[np.intp]


def _judged(
    encoder: PhysicsEncoder, heads: Heads, data: WindowData, windows: Novelty, recordings: Novelty
) -> dict[str, _Judged]:
    parts = signatures.of_windows(encoder, heads, data)
    means, group = signatures.of_recordings(parts, data.group)
    sets = {"windows": (windows, np.hstack(parts), data.group), "recordings": (recordings, np.hstack(means), group)}
    return {name: _Judged(n.score(x), n.rank(x), g) for name, (n, x, g) in sets.items()}


def _told_apart(inside: _Judged, outside: _Judged, rng: np.random.Generator) -> dict[str, Any]:
    scores = np.concatenate([inside.score, outside.score])
    marks = np.repeat([0.0, 1.0], [len(inside.score), len(outside.score)])
    group = np.concatenate([inside.group, outside.group + 1 + inside.group.max(initial=0)])
    return readout.area(scores, marks, group, rng)


def faults(data: WindowData, width: int, rng: np.random.Generator) -> Mapping[str, WindowData]:
    """What a robot's wiring does to windows: noise, a frozen channel, actions of the wrong sign, actions that are late.

    `width` components of the observation come before the actions in a row of the history.
    """
    size = data.history[data.mask > 0].std(axis=0)[:width]
    noise = [0.2 * size * rng.standard_normal(a.shape) for a in (data.history[..., :width], data.observation)]
    noisy, frozen, reversed_, late = (data.history.copy() for _ in range(4))
    noisy[..., :width] += noise[0] * data.mask[..., None]
    frozen[..., :1] = frozen[:, -1:, :1] * data.mask[..., None]
    reversed_[..., width:] *= -1.0
    late[:, 10:, width:] = data.history[:, :-10, width:]
    return {
        "noise of 20 % on every sensor": replace(
            data, history=noisy, observation=(data.observation + noise[1]).astype(np.float32)
        ),
        "first sensor frozen": replace(data, history=frozen),
        "actuators reversed": replace(data, history=reversed_, action=-data.action),
        "commands 10 steps late": replace(data, history=late),
    }
