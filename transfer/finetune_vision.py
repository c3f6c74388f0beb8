"""`terrafirma finetune encoder=…`: a vision encoder adapted to a video or to logs with pictures, or kept as it was.

A video comes with labels of some frames, or with none. Logs tell the joints' positions beside the pictures; by how much
the pictures are stamped late is estimated first. Simulated pictures, made anew here, are replayed against forgetting,
and others say what was forgotten. To adapt to another kind of recording: make a Footage of it.
"""

from __future__ import annotations

import dataclasses
import json
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from robot import config, files, folders
from robot.config import ConfigError
from robot.log import EpisodeLog
from robot.result import Run
from sim import randomization
from sim.model import RobotConfig
from sim.randomization import NOMINAL
from transfer import filmed, kpi
from transfer.choices import existing, robot_called
from transfer.dataset import DataRefused, load_dataset
from transfer.progress import terminal
from transfer.video import Clip, Labels, angle_errors, change, crop_of, existing_file, summary

if TYPE_CHECKING:
    from policies.encoders.adapt_vision import Footage, VisionAdaptResult
    from policies.encoders.synchrony import Latency
    from policies.encoders.vision import VisionEncoder
    from policies.encoders.vision_data import ImageData
    from transfer.stages.finetune import Config

Array = npt.NDArray[np.float64]
Rows = npt.NDArray[np.intp]

ENCODER = "encoder"
"""Folder of the encoder that is kept."""
REPLAYED, JUDGED = 2048, 1024
"""Simulated pictures that are replayed, and others that say what was forgotten."""
REPLAY_SEED = 400_009
"""Other pictures than those of pretraining, whose seeds are small."""
STRETCH_S = 1.0
"""Pictures of a log are held out in stretches of this length [s], where there are too few logs to hold one out."""


def run(cfg: Config, run: Run) -> dict[str, Any]:
    """The stage's keys of result.json for an encoder."""
    from policies.encoders.adapt_vision import VisionAdaptConfig, adapt

    if (cfg.video is None) == (cfg.logs is None):
        raise ConfigError("finetune encoder= needs one of video= and logs=.")
    settings = config.convert(VisionAdaptConfig, cfg.adapt, "terrafirma finetune", "adapt")
    folder = run.input(existing(cfg.encoder, "encoder", "pretrain encoder=vision"))
    if cfg.quick:
        settings = dataclasses.replace(settings, tune=dataclasses.replace(settings.tune, updates=10), rounds=1)
    encoder = filmed.one_camera(folder) if cfg.video is not None else filmed.vision_encoder(folder)
    if cfg.video is not None:
        clip, labels, footage, judged = _video(cfg, run, encoder)
    else:
        footage, latency = _logs(cfg, run, encoder)
    sizes = (64, 64) if cfg.quick else (REPLAYED, JUDGED)
    replay, source = simulated(encoder, *sizes, cfg.seed, cfg.robot)
    result = adapt(encoder, footage, replay, settings, seed=cfg.seed, report=terminal())
    keys = _keep(result, encoder, folder, source, run, cfg.seed)
    if cfg.video is None:
        return keys | {"latency": latency_keys(latency), "frames": len(footage)}
    told = filmed.told(filmed.see(result.encoder, clip.images), clip, labels, run.out, cfg.seed)
    return keys | told | {"judged": _judged(encoder, result.encoder, clip, labels, judged, cfg.seed)}


def _keep(
    result: VisionAdaptResult, before: VisionEncoder, folder: Path, source: ImageData, run: Run, seed: int
) -> dict[str, Any]:
    """Write the encoder that is kept, and the curve; returns what is told of every adaptation."""
    kept = result.encoder
    if result.accepted:
        kept.card = dataclasses.replace(kept.card, lineage=kept.card.lineage | {"adapted_from": str(folder)})
    kept.save(run.out / ENCODER)
    files.write_text(run.out / "curve.jsonl", "".join(json.dumps(row) + "\n" for row in result.curve))
    return {
        "encoder": str(run.out / ENCODER),
        "accepted": result.accepted,
        "why": result.why,
        "held_out_score": {"before": result.before, "after": result.after},
        "forgetting": forgetting(before, result.encoder, source, np.random.default_rng(seed)),
    }


# -- video -------------------------------------------------------------------------------------------------------------
def _video(cfg: Config, run: Run, encoder: VisionEncoder) -> tuple[Clip, Labels | None, Footage, Rows]:
    """Clip, labels, what the encoder is adapted to, and the frames that judge it: the second half of the motion."""
    video = run.input(existing_file(cfg.video, "video"))
    path = None if cfg.labels is None else run.input(existing_file(cfg.labels, "labels"))
    clip, labels = filmed.read(encoder, video, path, crop_of(cfg.crop), filmed.FINE)
    nothing = np.zeros(0, dtype=np.intp)
    if labels is None:
        return clip, None, footage_of(encoder, clip, None, nothing), nothing
    if not cfg.n_labels:
        return clip, labels, footage_of(encoder, clip, labels, labels.frames), nothing
    first, second = labels.halves()
    if len(first) < cfg.n_labels:
        raise DataRefused(
            f"n_labels={cfg.n_labels}: the first half of the motion has {len(first)} labelled frames that move; "
            "ask for fewer, or for all labels with n_labels=0."
        )
    chosen = first[np.linspace(0, len(first) - 1, cfg.n_labels).round().astype(np.intp)]
    return clip, labels, footage_of(encoder, clip, labels, chosen), second


def footage_of(encoder: VisionEncoder, clip: Clip, labels: Labels | None, chosen: Rows) -> Footage:
    """All frames of a clip, of which only those `chosen` keep their label."""
    from policies.encoders.adapt_vision import Footage
    from policies.encoders.consensus import repeats

    angle = np.full(len(clip), np.nan)
    if labels is not None:
        angle[chosen] = labels.of(len(clip))[0][chosen]
    return Footage(
        images=clip.images,
        seconds=clip.seconds,
        fresh=~repeats(clip.images),
        angle=angle,
        state=np.full((len(clip), len(encoder.card.states)), np.nan),
        group=np.arange(len(clip)),
    )


def _judged(
    before: VisionEncoder, after: VisionEncoder, clip: Clip, labels: Labels | None, frames: Rows, seed: int
) -> dict[str, Any] | None:
    """Errors of the angle before and after on frames whose labels were not used, and the change; None without any."""
    if labels is None or not len(frames):
        return None
    truth, seconds = labels.of(len(clip))[0][frames], clip.seconds[frames]
    errors = [angle_errors(filmed.see(e, clip.images[frames]).angle, truth) for e in (before, after)]
    found: dict[str, Any] = {
        name: dict(summary(e, seconds, np.random.default_rng(seed))) | {"max_deg": float(e.max())}
        for name, e in zip(("before", "after"), errors, strict=True)
    }
    return found | {"change": change(errors[1], errors[0], seconds, np.random.default_rng(seed))}


# -- logs --------------------------------------------------------------------------------------------------------------
def _logs(cfg: Config, run: Run, encoder: VisionEncoder) -> tuple[Footage, Latency]:
    spec = (cfg.robot or robot_called(encoder.card.robot)).spec
    encoder.card.check(spec)
    logs = load_dataset(run.input(existing(cfg.logs, "logs", "ingest")), spec)
    return proprioceptive(encoder, logs, np.random.default_rng(cfg.seed))


def proprioceptive(
    encoder: VisionEncoder, logs: Sequence[EpisodeLog], rng: np.random.Generator
) -> tuple[Footage, Latency]:
    """The pictures of recordings with the states by the joints' sensors, and the camera's latency, estimated first.

    DataRefused when no log has pictures of the encoder's camera.
    """
    from policies.encoders.adapt_vision import Footage
    from policies.encoders.synchrony import joints_of, latency, sight_of, states_at, turning

    card = encoder.card
    camera, joints = card.cameras[0], joints_of(card)
    seen = [log for log in logs if f"camera.{camera}" in log and len(log[f"camera.{camera}"].t_ns)]
    if not seen:
        raise DataRefused(f"logs: none of the {len(logs)} episodes has pictures of camera '{camera}'; record with it.")
    pictures = [_pictures(log, camera, encoder) for log in seen]
    sights = [sight_of(log, camera, joints, filmed.joints(encoder, p)) for log, p in zip(seen, pictures, strict=True)]
    late = latency(sights, turning(card), rng)
    start, seconds, groups = 0.0, [], []
    for k, sight in enumerate(sights):
        seconds.append(start + sight.seconds - sight.seconds[0])
        start = float(seconds[-1][-1]) + STRETCH_S
        stretch = np.floor((sight.seconds - sight.seconds[0]) / STRETCH_S)
        groups.append(np.full(len(sight.seconds), k) if len(sights) > 2 else 1000 * k + stretch)
    count = sum(len(p) for p in pictures)
    return Footage(
        images=np.concatenate(pictures),
        seconds=np.concatenate(seconds),
        fresh=np.ones(count, dtype=bool),
        angle=np.full(count, np.nan),
        state=np.concatenate([states_at(card, s, late) for s in sights]),
        group=np.concatenate(groups).astype(np.int64),
    ), late


def _pictures(log: EpisodeLog, camera: str, encoder: VisionEncoder) -> npt.NDArray[np.uint8]:
    """(N, 3, h, w) of a log, reduced by area to the encoder's size."""
    import cv2

    images, card = log[f"camera.{camera}"].values, encoder.card
    if images.shape[3] != 3:
        raise DataRefused(f"log '{log.name}': camera '{camera}' is grey; the encoder takes RGB.")
    if images.shape[1:3] != (card.height, card.width):
        size = (card.width, card.height)
        images = np.stack([cv2.resize(image, size, interpolation=cv2.INTER_AREA) for image in images])
    return np.ascontiguousarray(images.transpose(0, 3, 1, 2))


def latency_keys(late: Latency) -> dict[str, Any]:
    """As result.json has it [ms]."""
    ends = [1e3 * late.ci95[0], 1e3 * late.ci95[1]]
    return {"ms": {"mean": 1e3 * late.seconds, "ci95": ends, "n": late.frames}, "identified": late.identified}


# -- simulation --------------------------------------------------------------------------------------------------------
def simulated(
    encoder: VisionEncoder, replayed: int, judged: int, seed: int, robot: RobotConfig | None = None
) -> tuple[ImageData, ImageData]:
    """Pictures to replay, and others to judge by, of the prior that the encoder was pretrained with.

    `robot`: the encoder's, where it is no name. ConfigError when its card does not tell a prior that is there.
    """
    from policies.encoders.vision import VisionConfig
    from transfer.images import simulated_images

    card, name = encoder.card, encoder.card.lineage.get("randomization", "")
    path = None if name == NOMINAL.name else folders.look_up("dr", name)
    if name != NOMINAL.name and path is None:
        raise ConfigError(f"the encoder was pretrained with the prior '{name}', and no configs have a dr/{name}.yaml.")
    prior = NOMINAL if path is None else randomization.load(path)
    images = VisionConfig(cameras=card.cameras, width=card.width, height=card.height, images=replayed + judged)
    robot = robot or robot_called(card.robot)
    with tempfile.TemporaryDirectory() as scratch:
        data = simulated_images(Path(scratch), robot, prior, card, images, seed=REPLAY_SEED + seed)
    rows = np.arange(len(data))
    return data.take(rows < replayed), data.take(rows >= replayed)


def forgetting(before: VisionEncoder, after: VisionEncoder, source: ImageData, rng: np.random.Generator) -> kpi.Kpi:
    """Share of the score on simulated pictures that is lost; the score is the mean of explained() over samples."""
    groups = np.unique(source.group)
    scores = [explained(encoder, source) for encoder in (before, after)]
    means = [np.array([s[source.group == g].mean() for g in groups]) for s in scores]
    return kpi.forgetting(means[0], means[1], rng)


def explained(encoder: VisionEncoder, data: ImageData) -> Array:
    """(N,) 1 minus squared errors of the states over their variance, averaged over states: the mean of it is an R²."""
    from policies.encoders.vision_probes import look

    errors = np.square(look(encoder, data).state.numpy() - data.state)
    return np.asarray(1.0 - np.nanmean(errors / np.nanvar(data.state, axis=0), axis=1), dtype=np.float64)
