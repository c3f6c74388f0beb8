"""A real video of a pendulum: an encoder pretrained in simulation beside the baselines it has to beat.

    TERRAFIRMA_REAL_LOGS=<recordings> python tests/benchmarks/pendulum_video.py out=DIR encoders=DIR,DIR,DIR
        [video=FILE labels=CSV] [minutes=5] [only=NAME,NAME]

`encoders` are pretrained with different seeds, one a run. Zero-shot and label-free ways are judged on all frames that
move; ways that use 20 labels on the second half of the motion, which has poses that the first half never shows. Every
run of a way is a file in `out`, so that a benchmark that was killed goes on where it was; table.json and table.md are
made of them. `minutes` is the CPU time of each baseline network on drawings. Costs about 35 minutes of one core, half
of them for the baseline networks.
"""

from __future__ import annotations

import csv
import functools
import json
import os
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
import video_baselines as baselines

from policies.encoders.adapt_vision import VisionAdaptConfig, adapt
from policies.encoders.guards import GUARDS, GuardConfig
from policies.encoders.vision import VisionEncoder
from policies.encoders.vision_data import ImageData
from policies.encoders.vision_probes import probe
from robot import files
from robot.config import ConfigError
from robot.result import mean_ci
from transfer import filmed
from transfer.finetune_vision import JUDGED, REPLAYED, explained, footage_of, simulated
from transfer.video import Clip, Labels, angle_errors, change, read_clip, summary

Array = npt.NDArray[np.float64]
Rows = npt.NDArray[np.intp]
LABELLED = 20
TUNING_S = 20.0
"""CPU time of tuning a baseline network on a few frames [s]."""
DISC = 19.1 / 161.2
"""Radius of the weight over its distance from the pivot, by the label's geometry."""
ZERO_SHOT, LABEL_FREE, OURS = "encoder zero-shot", "encoder label-free", "encoder + 20 labels"


@dataclass
class Bench:
    """What the ways share."""

    out: Path
    encoders: list[Path]
    video: Path
    labels: Path
    seconds: float
    clip: Clip
    """At the size of the encoder's pictures times filmed.FINE."""
    known: Labels

    @property
    def small(self) -> npt.NDArray[np.uint8]:
        """Pictures as the baseline networks take them."""
        return read_clip(self.video, baselines.SIZE, baselines.SIZE).images

    @property
    def truth(self) -> Array:
        return self.known.of(len(self.clip))[0]

    def chosen(self, seed: int, spread: bool) -> Rows:
        """20 frames with labels: of the first half of the motion, or spread over all of it."""
        first, second = self.known.halves()
        if not spread:
            return np.sort(np.random.default_rng(seed).choice(first, LABELLED, replace=False))
        moving = np.concatenate([first, second])
        begin = np.random.default_rng(seed).uniform(0.0, len(moving) / LABELLED)
        return moving[(begin + np.arange(LABELLED) * len(moving) / LABELLED).astype(np.intp)]

    def file(self, way: str, seed: int) -> Path:
        return self.out / f"{way.replace(' ', '_')}-{seed}.json"

    def encoder(self, seed: int) -> VisionEncoder:
        return filmed.one_camera(self.encoders[seed])

    def drawn(self, seed: int) -> baselines.SmallCnn:
        """The baseline network on drawings; trained once."""
        path = self.out / f"cnn{seed}.safetensors"
        if not path.is_file():
            baselines.save_cnn(baselines.train_cnn(self.seconds, seed), path)
        return baselines.load_cnn(path)

    @functools.cached_property
    def simulated(self) -> tuple[ImageData, ImageData]:
        """Pictures to replay, and others to judge by; those of one prior, for all runs."""
        return simulated(self.encoder(0), REPLAYED, JUDGED, 0)


Outcome = tuple[Array, Rows, dict[str, Any]]
"""Angles of all frames, frames whose labels were used, and what else is told."""


def told_constant(bench: Bench, seed: int) -> Outcome:
    rows = bench.chosen(seed, spread=False)
    return baselines.constant(bench.truth[rows], len(bench.clip)), rows, {}


def told_blob(bench: Bench, seed: int) -> Outcome:
    """The geometry is the median over the labelled frames of the columns hub_* and disc_*, in pixels of the video."""
    rows = bench.chosen(seed, spread=False)
    with bench.labels.open(newline="") as stream:
        table = [row for row in csv.DictReader(stream) if int(row["frame"]) in set(rows.tolist())]
    places = np.array([[float(row[c]) for c in ("hub_x", "hub_y", "disc_x", "disc_y")] for row in table])
    pivot, length = np.median(places[:, :2], axis=0), float(np.median(np.hypot(*(places[:, 2:] - places[:, :2]).T)))
    scale = baselines.SIZE / pixels_of(bench.video)
    middle = (pivot + 0.5) * scale - 0.5
    return baselines.blob_angles(bench.small, middle, length * scale, DISC * length * scale), rows, {}


def pixels_of(video: Path) -> int:
    """Height of a video's frames."""
    import cv2

    capture = cv2.VideoCapture(str(video))
    height = int(capture.get(cv2.CAP_PROP_FRAME_HEIGHT))
    capture.release()
    return height


def drawn_zero_shot(bench: Bench, seed: int) -> Outcome:
    return baselines.cnn_angles(bench.drawn(seed), bench.small), np.zeros(0, np.intp), {}


def tuned(pretrained: bool, spread: bool) -> Callable[[Bench, int], Outcome]:
    def run(bench: Bench, seed: int) -> Outcome:
        rows = bench.chosen(seed, spread)
        torch.manual_seed(seed)
        model = bench.drawn(seed) if pretrained else baselines.SmallCnn()
        rate = 2e-4 if pretrained else 1e-3
        images = bench.small
        model = baselines.tune_cnn(model, images[rows], bench.truth[rows], TUNING_S, seed, rate)
        return baselines.cnn_angles(model, images), rows, {}

    return run


def zero_shot(bench: Bench, seed: int) -> Outcome:
    return filmed.see(bench.encoder(seed), bench.clip.images).angle, np.zeros(0, np.intp), {}


def adapted(labels: bool, guard: str = "replay", spread: bool = False, **settings: Any) -> Callable[..., Outcome]:
    """An encoder adapted to the clip; what simulation still knows of it is told beside its angles."""

    def run(bench: Bench, seed: int) -> Outcome:
        rows = bench.chosen(seed, spread) if labels else np.zeros(0, np.intp)
        encoder, (replay, source) = bench.encoder(seed), bench.simulated
        config = VisionAdaptConfig(**settings)
        if guard != config.tune.guard.method:
            config = replace(config, tune=replace(config.tune, guard=GuardConfig(method=guard)))  # type: ignore[arg-type]
        result = adapt(encoder, footage_of(encoder, bench.clip, bench.known, rows), replay, config, seed=seed)
        notes = {"accepted": result.accepted, "why": result.why} | _simulation(encoder, result.encoder, replay, source)
        return filmed.see(result.encoder, bench.clip.images).angle, rows, notes

    return run


def _simulation(before: VisionEncoder, after: VisionEncoder, train: ImageData, test: ImageData) -> dict[str, Any]:
    """Scores on simulated pictures before and after: linear probes of the state, and the state that it tells itself."""
    probes = [np.mean([p["score"] for p in probe(e, train, test).values()]) for e in (before, after)]
    heads = [explained(e, test).mean() for e in (before, after)]
    return {"probe": [float(p) for p in probes], "head": [float(h) for h in heads]}


WAYS: dict[str, Callable[[Bench, int], Outcome]] = {
    "constant": told_constant,
    "dark blob on the labelled geometry": told_blob,
    "CNN on drawings zero-shot": drawn_zero_shot,
    "CNN on drawings + 20 labels": tuned(pretrained=True, spread=False),
    "20 labels alone badly spread": tuned(pretrained=False, spread=False),
    "20 labels alone well spread": tuned(pretrained=False, spread=True),
    ZERO_SHOT: zero_shot,
    LABEL_FREE: adapted(labels=False),
    OURS: adapted(labels=True),
    "encoder + 20 labels without the other frames": adapted(labels=True, rounds=0),
    **{f"encoder + 20 labels by {g}": adapted(labels=True, guard=g) for g in GUARDS if g != "replay"},
}
"""Name -> what one run of it gives."""


def measure(bench: Bench, only: list[str]) -> None:
    """Run what has no file yet."""
    for name, way in WAYS.items():
        if only and name not in only:
            continue
        for seed in range(len(bench.encoders)):
            path = bench.file(name, seed)
            if path.is_file():
                continue
            began = time.process_time()
            angle, rows, notes = way(bench, seed)
            row = {"angle": angle.tolist(), "labelled": rows.tolist(), "cpu_s": time.process_time() - began, **notes}
            files.write_json(path, row)
            print(f"{name}, seed {seed}: {row['cpu_s']:.0f} s of CPU", flush=True)


def table(bench: Bench) -> dict[str, Any]:
    """Statistics of every way that has runs, on all frames that move and on the second half of the motion."""
    runs = {name: _runs(bench, name) for name in WAYS}
    first, second = bench.known.halves()
    judged = {"moving": np.concatenate([first, second]), "second half": second}
    rows = {}
    for name, cells in runs.items():
        if not cells:
            continue
        errors = np.stack([_errors(bench, cell) for cell in cells])
        rows[name] = {"seeds": len(cells), "cpu_s": float(np.mean([c["cpu_s"] for c in cells]))} | {
            part: _part(errors[:, frames], bench.clip.seconds[frames]) for part, frames in judged.items()
        }
        if "probe" in cells[0]:
            rows[name] |= {"forgetting": {k: _forgetting(cells, k) for k in ("probe", "head")}}
    return {"rows": rows, "changes": _changes(bench, runs, judged), "frames": {k: len(v) for k, v in judged.items()}}


def _runs(bench: Bench, name: str) -> list[dict[str, Any]]:
    paths = [bench.file(name, seed) for seed in range(len(bench.encoders))]
    return [json.loads(path.read_text()) for path in paths if path.is_file()]


def _errors(bench: Bench, cell: dict[str, Any]) -> Array:
    errors = angle_errors(np.array(cell["angle"]), bench.truth)
    errors[cell["labelled"]] = np.nan
    return errors


def _part(errors: Array, seconds: Array) -> dict[str, Any]:
    found: dict[str, Any] = dict(summary(errors, seconds, np.random.default_rng(0)))
    return found | {
        "max_deg": float(np.nanmax(errors)),
        "median_by_seed": [float(v) for v in np.nanmedian(errors, axis=1)],
    }


def _changes(bench: Bench, runs: dict[str, list[dict[str, Any]]], judged: dict[str, Rows]) -> dict[str, Any]:
    """Paired changes of an encoder by adaptation."""
    out: dict[str, Any] = {}
    for name in (LABEL_FREE, OURS):
        if runs[name] and len(runs[name]) == len(runs[ZERO_SHOT]):
            after, before = (np.stack([_errors(bench, c) for c in runs[n]]) for n in (name, ZERO_SHOT))
            out[f"{name}, against zero-shot"] = {
                part: change(after[:, f], before[:, f], bench.clip.seconds[f], np.random.default_rng(0))
                for part, f in judged.items()
            }
    return out


def _forgetting(cells: list[dict[str, Any]], key: str) -> dict[str, Any]:
    """Share of a simulation score that is lost, over the runs."""
    lost = np.array([(c[key][0] - c[key][1]) / abs(c[key][0]) for c in cells])
    if len(lost) < 2:
        return {"mean": float(lost.mean()), "ci95": None, "n": 1}
    return mean_ci(lost)


def markdown(found: dict[str, Any]) -> str:
    """The table for people."""
    lines = [
        "| method | seeds | judged on | median | mean | p90 | > 10° | max | simulation lost |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for name, row in found["rows"].items():
        for part in found["frames"]:
            told = row[part]
            numbers = [_number(told[k]) for k in ("median_deg", "mean_deg", "p90_deg")]
            far = f"{100 * told['share_over_10_deg']['mean']:.0f} %"
            lost = f"{100 * row['forgetting']['probe']['mean']:.1f} %" if "forgetting" in row else ""
            by_seed = ", ".join(f"{v:.2f}" for v in told["median_by_seed"])
            lines.append(
                f"| {name} | {row['seeds']} ({by_seed}) | {part} | {' | '.join(numbers)} | {far} | "
                f"{told['max_deg']:.1f} | {lost} |"
            )
    for name, parts in found["changes"].items():
        for part, told in parts.items():
            lines.append(f"\n{name}, {part}: median {_number(told['median_deg'])}, p90 {_number(told['p90_deg'])}")
    return "\n".join(lines) + "\n"


def _number(value: dict[str, Any]) -> str:
    low, high = value["ci95"]
    return f"{value['mean']:.2f} [{low:.2f}, {high:.2f}]"


def main(words: list[str]) -> None:
    given = dict(word.split("=", 1) for word in words)
    real = Path(os.environ.get("TERRAFIRMA_REAL_LOGS", ".")) / "pendulum_video"
    video = Path(given.get("video", real / "clip_a.mp4"))
    labels = Path(given.get("labels", real / "clip_a_labels.csv"))
    encoders = [Path(p) for p in given["encoders"].split(",")]
    out = Path(given["out"])
    out.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(1)
    clip, known = filmed.read(filmed.one_camera(encoders[0]), video, labels, None, filmed.FINE)
    if known is None or not known.scored.any():
        raise ConfigError(f"labels={labels}: no labelled frame moves.")
    bench = Bench(out, encoders, video, labels, 60.0 * float(given.get("minutes", 5.0)), clip, known)
    measure(bench, [w for w in given.get("only", "").split(",") if w])
    found = table(bench)
    files.write_json(out / "table.json", found)
    files.write_text(out / "table.md", markdown(found))
    print(markdown(found))


if __name__ == "__main__":
    main(sys.argv[1:])
