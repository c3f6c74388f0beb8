"""Examination of a vision encoder, for its card: what it knows, how sure it may be, where it fails, what it looks at.

Everything is measured on simulated pictures that the encoder was not trained on. The result is plain data (card.json)
and two sheets of pictures; transfer/report/encoder_card.py draws it. A new measurement: a function here, its key in
examine(), its section there.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional

from policies.encoders import readout, signatures
from policies.encoders.attribution import occlusion, spread_over
from policies.encoders.calibration import Estimates, calibration
from policies.encoders.novelty import Part, verdict
from policies.encoders.vision import COSINE, VisionCard, VisionConfig, VisionEncoder
from policies.encoders.vision_data import ImageData
from policies.encoders.vision_probes import joint_errors, look
from robot.result import Budget, mean_ci
from sim.model import Model, RobotConfig
from sim.randomization import Randomization
from sim.render import choose
from sim.synthesize import Job, Synthesizer
from transfer.images import RAYS_UP_TO, free_bodies, state_of
from transfer.report import picture_sheets
from transfer.robustness import BEYOND, NOMINAL, PRIOR, Cases, arrange, ranking

Array = npt.NDArray[np.float64]
Pictures = npt.NDArray[np.uint8]

CONTACT = "contact"
OCCLUSION, NEIGHBOURS = "occlusion.png", "neighbours.png"
SHOWN, NEAREST = 6, 6
NORMS, FAULTY, NEIGHBOURHOOD = 256, 64, 2000
"""Pictures: behind the statistics of an untrained network, damaged on purpose, and searched for neighbours."""
COARSE = 8
"""Side of the picture as the baseline reads it [pixel]."""
READABLE = 0.5
"""R squared of the linear probe from which a component of the state counts as readable."""
WORDS = {
    "readout": "Raw input is the picture at 8 x 8 pixels.",
    "robust": "joint",
    "axis": "mean joint error",
    "robustness": "Each term of the prior alone at its low and its high end, all else nominal, the same states in "
    "every case: mean error of the joints over pictures, and of the keypoints in shares of the picture's height.",
    "novelty": "Distance of a picture (what the encoder tells of it, how surely, and what it looks like) to the "
    "nearest of training, against pictures of a kind that the encoder never saw: each term one width beyond the prior, "
    "and faults of the camera. A frame is called strange when only 1 % of held-out simulated ones are stranger. What "
    "the prior itself covers (colours, say, or any pose) cannot be noticed, and need not be.",
}
"""How the card speaks of these measurements."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Effort:
    """How much an examination may cost; the defaults are about 10 s of one core for the pendulum at 64 pixels."""

    rows: int = 1500
    """Pictures that probes are fitted on."""
    scratch_updates: int = 30
    """Training of the supervised network beside the encoder, on batches of 32."""
    states: int = 8
    """Of each case of the robustness."""


EFFORTS: dict[Budget, Effort] = {
    "full": Effort(),
    "demo": Effort(rows=600, scratch_updates=10, states=3),
    "quick": Effort(rows=120, scratch_updates=2, states=2),
}


@dataclass(frozen=True, slots=True)
class Subject:
    """Whose encoder it is, and how its pictures are made."""

    robot: RobotConfig
    prior: Randomization
    config: VisionConfig


def examine(folder: Path, data: ImageData, subject: Subject, *, seed: int, budget: Budget = "full") -> dict[str, Any]:
    """Examine the encoder in `folder`, pretrained on `data` with this configuration and `seed`.

    Returns what card.json holds, and leaves the novelty file and the sheets of pictures beside the encoder.
    """
    effort = EFFORTS[budget]
    encoder, rng = VisionEncoder.load(folder), np.random.default_rng([seed, 1])
    train, test = data.split(subject.config.held_out, np.random.default_rng(seed))
    train, test = (d.take(np.sort(rng.permutation(len(d))[: effort.rows])) for d in (train, test))
    read = _readout(encoder, train, test, encoder.card.states, effort, seed)
    touching = _contacts(encoder, subject, effort, seed)
    if touching is not None:
        read |= _readout(encoder, *touching, (CONTACT,), effort, seed)
    simulated, cases = _cases(encoder.card, subject, effort, seed)
    factor, unit = _unit(subject.robot)
    return {
        "kind": "vision",
        "readout": read,
        "readable": [n for n in encoder.card.states if n in read and read[n]["encoder"]["mean"] >= READABLE],
        "units": {n: "1" if COSINE in n else "rad or m" for n in encoder.card.states},
        "calibration": _calibration(encoder, test),
        "robustness": _robustness(encoder, simulated, cases, factor),
        "novelty": _novelty(folder, encoder, train, test, simulated, cases),
        "pictures": [_occlusion(folder, encoder, test), _neighbours(folder, encoder, train, test)],
        "effort": {"rows": len(train), "scratch_updates": effort.scratch_updates, "readable_from": READABLE},
        "words": WORDS | {"unit": unit, "axis": f"{WORDS['axis']} [{unit}]"},
    }


def _unit(robot: RobotConfig) -> tuple[float, str]:
    """What joint errors are shown in: degrees where every joint turns."""
    turns = all(joint.unit == "rad" for joint in robot.spec.joints)
    return (180.0 / np.pi, "deg") if turns else (1.0, "rad or m")


def _readout(
    encoder: VisionEncoder, train: ImageData, test: ImageData, names: tuple[str, ...], effort: Effort, seed: int
) -> dict[str, dict[str, dict[str, Any]]]:
    """Linear probes of the state (or what stands in its place) on the features and on what stands beside them."""
    wanted, group = (train.state.astype(np.float64), test.state.astype(np.float64)), test.group.astype(np.intp)
    targets = readout.Targets(names, *wanted, group, frozenset({CONTACT}))
    inputs = list(torch.from_numpy(train.images).unbind(dim=1))
    fresh = readout.untrained(
        lambda: VisionEncoder(encoder.card), readout.measured_norms([x[:NORMS] for x in inputs]), seed + 1
    )
    scratch = readout.supervised(
        fresh,
        lambda network, images: network(*images).features,
        encoder.card.features,
        inputs,
        targets.train,
        updates=effort.scratch_updates,
        batch=32,
        seed=seed,
        learning_rate=3e-3,
    )
    networks = {"encoder": encoder, "random": fresh, "scratch": scratch}
    features = {n: (_features(e, train), _features(e, test)) for n, e in networks.items()}
    features["raw"] = _coarse(train.images), _coarse(test.images)
    return readout.readout(features, targets, np.random.default_rng(seed))


def _features(encoder: VisionEncoder, data: ImageData) -> Array:
    return np.asarray(look(encoder, data).features.numpy(), dtype=np.float64)


def _coarse(images: Pictures) -> Array:
    """(N, cameras * 3 * 64) means over blocks of pixels."""
    flat = torch.from_numpy(images).flatten(1, 2).float() / 255.0
    return np.asarray(functional.adaptive_avg_pool2d(flat, COARSE).flatten(1).numpy(), dtype=np.float64)


def _draw(
    card: VisionCard, subject: Subject, randomization: Randomization, n: int, appearances: int, seed: int
) -> tuple[ImageData, npt.NDArray[np.bool_]]:
    """n pictures, each state in `appearances` of them, and (n,) whether something touches."""
    images, keypoints = [], []
    for camera in card.cameras:
        job = Job(
            robot=subject.robot,
            camera=camera,
            n=n,
            seed=seed,
            width=card.width,
            height=card.height,
            renderer="ray" if card.height <= RAYS_UP_TO else choose("auto"),
            randomization=randomization,
            keypoints=card.keypoints,
            samples=subject.config.samples,
            appearances=appearances,
            shard=n,
        )
        maker = Synthesizer(job)
        columns, made = maker.make(0)
        images.append(made["rgb"].transpose(0, 3, 1, 2))
        keypoints.append(columns["keypoints"].reshape(n, -1, 2) / [card.width, card.height] * 2.0 - 1.0)
    bodies, spec = free_bodies(maker.model), subject.robot.spec
    state = [
        state_of(position, qpos, card, spec, bodies)
        for position, qpos in zip(columns["joint_position"], columns["qpos"], strict=True)
    ]
    data = ImageData(
        images=np.stack(images, axis=1),
        state=np.stack(state),
        keypoints=np.concatenate(keypoints, axis=1).astype(np.float32),
        group=np.arange(n) // appearances,
    )
    return data, columns["contact"]


def _contacts(
    encoder: VisionEncoder, subject: Subject, effort: Effort, seed: int
) -> tuple[ImageData, ImageData] | None:
    """(train, test) pictures whose state is whether something touches; None where it never, or always, does."""
    data, touches = _draw(encoder.card, subject, subject.prior, 64, 1, seed + 3)
    if touches.all() or not touches.any():
        return None
    data, touches = _draw(encoder.card, subject, subject.prior, max(effort.rows // 2, 64), 1, seed + 2)
    data = replace(data, state=touches[:, None].astype(np.float32))
    return data.split(0.3, np.random.default_rng(seed))


def _calibration(encoder: VisionEncoder, test: ImageData) -> dict[str, Any]:
    seen = look(encoder, test)
    deviation = np.exp(0.5 * seen.log_variance.numpy().astype(np.float64))
    truth = test.state.astype(np.float64)
    spread = np.maximum(truth.std(axis=0), 1e-9)
    mean = seen.state.numpy().astype(np.float64)
    return calibration(Estimates(encoder.card.states, mean, deviation, truth, test.group.astype(np.intp), spread))


def _cases(card: VisionCard, subject: Subject, effort: Effort, seed: int) -> tuple[ImageData, Cases]:
    """Pictures of every case of the robustness, the same states in each; their group is the number of the picture."""
    cases = arrange(subject.prior, Model(subject.robot), effort.states, np.random.default_rng([seed, 2]))
    mixed = cases.mixed()
    data, _ = _draw(card, subject, mixed.randomization, len(mixed.of), len(mixed.cases), seed + 1)
    return replace(data, group=np.arange(len(data))), mixed


def _robustness(encoder: VisionEncoder, data: ImageData, cases: Cases, factor: float) -> dict[str, Any]:
    seen = look(encoder, data)
    joint = joint_errors(seen.state.numpy(), data.state, encoder.card)
    aspect = np.array([encoder.card.width / encoder.card.height, 1.0])
    away = np.linalg.norm((seen.keypoints.numpy() - data.keypoints) * 0.5 * aspect, axis=2)
    found = {"keypoint": away.mean(axis=1)}
    if joint.size:
        found = {"joint": factor * joint.mean(axis=1)} | found
    out: dict[str, Any] = {}
    for name, values in found.items():
        errors = {case: mean_ci(values[cases.rows(case, data.group)]) for case in cases.cases}
        terms = ranking(errors, cases.cases)
        out[name] = {"nominal": errors[NOMINAL], "prior": errors[PRIOR], "terms": terms}
    return out


def _novelty(
    folder: Path, encoder: VisionEncoder, train: ImageData, test: ImageData, simulated: ImageData, cases: Cases
) -> dict[str, Any]:
    """Fit and write the novelty file; how well it tells shifted pictures from those of the prior."""
    rng = np.random.default_rng(0)
    known, held = (signatures.of_images(encoder, d.images) for d in (train, test))
    novelty = signatures.fitted(known, held)
    novelty.save(folder, signatures.IMAGES)

    def judged(pictures: Pictures) -> tuple[Array, Array]:
        """Scores and ranks."""
        marked = np.hstack(signatures.of_images(encoder, pictures))
        return novelty.score(marked), novelty.rank(marked)

    usual = simulated.images[cases.rows(PRIOR, simulated.group)]  # the same states as in the cases beyond the prior
    shifted = {
        f"beyond the prior: {case.term}": (usual, simulated.images[cases.rows(case, simulated.group)])
        for case in cases.cases
        if case.side == BEYOND
    }
    whole = test.images[:FAULTY]
    shifted |= {f"fault: {name}": (whole, pictures) for name, pictures in faults(whole, rng).items()}
    table = {}
    for name, (inside, outside) in shifted.items():
        scores, (strange, rank) = judged(inside)[0], judged(outside)
        marks = np.repeat([0.0, 1.0], [len(scores), len(strange)])
        both = np.concatenate([scores, strange])
        table[name] = {
            "frames": readout.area(both, marks, np.arange(len(both)), rng),
            "strange_frames": verdict(rank)["strange_share"],
        }
    return {"auroc": table, "inside": verdict(judged(usual)[1])}


def faults(images: Pictures, rng: np.random.Generator) -> Mapping[str, Pictures]:
    """What a camera does to pictures (N, cameras, 3, h, w): colours exchanged, mounted upside down, night, a smear on
    the lens, a hand before it, static."""
    height = images.shape[-2]
    covered = images.copy()
    covered[..., : height // 2, :] = 120
    flat = torch.from_numpy(images).flatten(0, 1).float()
    smeared = functional.avg_pool2d(flat, 9, 1, 4, count_include_pad=False).reshape(images.shape).numpy()
    return {
        "red and blue exchanged": np.ascontiguousarray(images[:, :, ::-1]),
        "upside down": np.ascontiguousarray(images[..., ::-1, ::-1]),
        "night": (0.04 * images).astype(np.uint8),
        "smeared lens": smeared.astype(np.uint8),
        "upper half covered": covered,
        "static": rng.integers(0, 256, images.shape, dtype=np.uint8),
    }


def _occlusion(folder: Path, encoder: VisionEncoder, test: ImageData) -> dict[str, str]:
    card, chosen = encoder.card, test.take(np.arange(min(SHOWN, len(test))))
    maps = region_maps(encoder, chosen.images)
    seen = look(encoder, chosen)
    points = seen.keypoints.numpy().reshape(len(chosen), len(card.cameras), -1, 2)
    picture_sheets.save_regions(folder / OCCLUSION, chosen.images, maps, points)
    return {
        "file": OCCLUSION,
        "title": "Where it looks",
        "note": "Held-out pictures; below, how far the told state moves when a patch is hidden, from not at all (blue) "
        "to the picture's most (red). Circles: where the encoder sees the keypoints.",
    }


def region_maps(encoder: VisionEncoder, images: Pictures) -> Array:
    """(N, cameras, h, w) from 0 to 1: how much each region of pictures (N, cameras, 3, h, w) matters for the state."""
    card, parts = encoder.card, list(torch.from_numpy(images).unbind(dim=1))
    out = []
    for camera in range(len(card.cameras)):

        def state(seen: Tensor, camera: int = camera) -> Tensor:
            return encoder(*parts[:camera], seen, *parts[camera + 1 :]).state

        maps = occlusion(state, parts[camera], patch=max(card.height // 6, 4), stride=max(card.height // 12, 2))
        out.append(spread_over(maps, card.height, card.width))
    return np.stack(out, axis=1)


def _neighbours(folder: Path, encoder: VisionEncoder, train: ImageData, test: ImageData) -> dict[str, str]:
    queries = test.take(np.arange(min(SHOWN, len(test))))
    near = nearest(encoder, train, queries.images)
    picture_sheets.save_neighbours(folder / NEIGHBOURS, queries.images, [train.images[rows] for rows in near])
    return {
        "file": NEIGHBOURS,
        "title": "What looks alike to it",
        "note": "Left, a held-out picture; beside it the training pictures that are nearest in feature space. They "
        "should agree in the robot's pose, and in nothing else.",
    }


def nearest(encoder: VisionEncoder, known: ImageData, images: Pictures, count: int = NEAREST) -> npt.NDArray[np.intp]:
    """(N, count) samples of `known` that are nearest in feature space to pictures (N, cameras, 3, h, w)."""
    asked = ImageData(
        images=images,
        state=np.zeros((len(images), 0), np.float32),
        keypoints=np.zeros((len(images), 0, 2), np.float32),
        group=np.arange(len(images)),
    )
    some = known.take(np.arange(min(len(known), NEIGHBOURHOOD)))
    features = _features(encoder, some)
    return Part.fit(features, np.arange(len(features)), features[:1]).nearest(_features(encoder, asked), count)[0]
