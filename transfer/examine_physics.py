"""Examination of a physics encoder, for its card: what it knows, how sure it may be, where it fails, what it looks at.

Everything is measured on simulations that the encoder was not trained on. The result is plain data (card.json);
transfer/report/encoder_card.py draws it. A new measurement: a function here, its key in examine(), its section there.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import mujoco
import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from policies.encoders import readout, signatures
from policies.encoders.attribution import integrated_gradients
from policies.encoders.calibration import Estimates, calibration
from policies.encoders.heads import STRIDE, Heads
from policies.encoders.physics import EncoderConfig, PhysicsEncoder
from policies.encoders.probes import contexts, prediction_errors
from policies.encoders.windows import WindowData, cut
from robot.observation import Observation
from robot.result import Budget, mean_ci
from sim.identifiability import attainable
from sim.model import Model, RobotConfig
from sim.open_loop import OpenLoop
from sim.randomization import Randomization
from sim.rollouts import roll_out
from sim.tasks import Task
from sim.vecenv import BatchedEnv
from transfer.examine_novelty import novelty
from transfer.robustness import NOMINAL, PRIOR, Cases, arrange, ranking
from transfer.windows import base_of, simulated_windows

Array = npt.NDArray[np.float64]

READABLE = 0.3
"""R squared of the linear probe from which a parameter counts as readable, and its error is followed."""

CONTACT, CONTACTS = "contact", "contacts"
"""Whether anything of the robot touches, and in how many points."""
WORDS = {
    "readout": "A context is meant to tell which robot this is, not where it is: state/... may well be unreadable.",
    "robust": "prediction",
    "unit": "of the base's error",
    "axis": "prediction error / mean error of the base over the prior",
    "robustness": "Each term of the prior alone at its low and its high end, all else nominal. Prediction: open-loop "
    "error with the context, 1 being what the base of the prediction (a simulator without context, or the last state) "
    "leaves on average over the prior. Beside it the same prediction trained without a context, and the mean error of "
    "the readable parameters in deviations of the prior.",
    "novelty": "Distance of a window's signature (context, prediction errors, what its channels look like) to the "
    "nearest of training, against data that the encoder never saw: each term one width beyond the prior, and faults "
    f"of wiring and sensors. A recording is the mean of {signatures.RECORDING} windows. A single window is called "
    "strange when only 1 % of held-out simulated ones are stranger.",
}
"""How the card speaks of these measurements."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Effort:
    """How much an examination may cost; the defaults are about 10 s of one core for the pendulum."""

    rows: int = 3000
    """Windows that probes are fitted on."""
    scratch_updates: int = 80
    """Training of the supervised network beside the encoder."""
    simulations: int = 10
    """Of each case of the robustness."""
    seconds: float = 2.5
    """Length of their rollouts."""
    explained: int = 6
    """Windows behind the attribution."""
    sensitive: int = 16
    """Windows behind what is attainable; 0: it is not worked out."""


EFFORTS: dict[Budget, Effort] = {
    "full": Effort(),
    "demo": Effort(rows=1200, scratch_updates=15, simulations=4, seconds=1.8, explained=3, sensitive=0),
    "quick": Effort(rows=600, scratch_updates=4, simulations=2, seconds=1.8, explained=2, sensitive=2),
}


@dataclass(frozen=True, slots=True)
class Subject:
    """Whose encoder it is."""

    task: Task
    robot: RobotConfig
    prior: Randomization


def examine(
    folder: Path,
    data: WindowData,
    subject: Subject,
    *,
    held_out: float,
    seed: int,
    budget: Budget = "full",
) -> dict[str, Any]:
    """Examine the encoder in `folder`, pretrained on `data` with this `held_out` share and `seed`.

    Returns what card.json holds, and leaves the novelty files beside the encoder.
    """
    effort = EFFORTS[budget]
    encoder, rng = PhysicsEncoder.load(folder), np.random.default_rng([seed, 1])
    heads = Heads.load(folder, encoder.card).eval()
    train, test = data.split(held_out, np.random.default_rng(seed))
    train, test = _some(train, effort.rows, rng), _some(test, effort.rows, rng)
    read = _readout(encoder, train, test, effort, seed)
    moved = _contacts(encoder, subject, effort, seed)
    if moved is not None:
        read |= _readout(encoder, *moved, effort, seed)
    readable = [n for n in train.names if read.get(n, {}).get("encoder", {"mean": 0.0})["mean"] >= READABLE]
    simulated, cases = _cases(encoder, heads, subject, effort, seed)
    return {
        "kind": "physics",
        "readout": read,
        "readable": readable,
        "attainable": _attainable(subject, encoder.card.history, effort, seed) if train.names else {},
        "units": dict(zip(train.names, train.units, strict=True)),
        "calibration": _calibration(encoder, heads, train, test),
        "robustness": _robustness(encoder, heads, simulated, cases, readable),
        "novelty": novelty(folder, encoder, heads, train, test, simulated, cases),
        "attribution": _attribution(encoder, heads, test, read, effort),
        "effort": {"rows": len(train), "scratch_updates": effort.scratch_updates, "readable_from": READABLE},
        "words": WORDS,
    }


def _some(data: WindowData, most: int, rng: np.random.Generator) -> WindowData:
    return data if len(data) <= most else data.take(np.sort(rng.permutation(len(data))[:most]))


def _readout(
    encoder: PhysicsEncoder, train: WindowData, test: WindowData, effort: Effort, seed: int
) -> dict[str, dict[str, dict[str, Any]]]:
    """Linear probes of parameters and of the present state, on the context and on what stands beside it."""
    states = tuple(f"state/{encoder.card.components[i]}" for i in encoder.card.measured)
    targets = readout.Targets(
        names=(*train.names, *states),
        train=_targets(encoder, train),
        test=_targets(encoder, test),
        group=test.group,
        classes=frozenset({CONTACT}),
    )
    fresh = readout.untrained(lambda: type(encoder)(encoder.card), readout.same_buffers(encoder), seed + 1)
    arrays = [torch.from_numpy(a) for a in (train.history, train.mask)]
    scratch = readout.supervised(
        fresh,
        lambda network, inputs: network(*inputs),
        encoder.card.context,
        arrays,
        train.parameters if train.names else targets.train,
        updates=effort.scratch_updates,
        batch=128,
        seed=seed,
    )
    features = {"encoder": (contexts(encoder, train), contexts(encoder, test)), "raw": (_raw(train), _raw(test))}
    features |= {n: (contexts(e, train), contexts(e, test)) for n, e in (("random", fresh), ("scratch", scratch))}
    return readout.readout(features, targets, np.random.default_rng(seed))


def _targets(encoder: PhysicsEncoder, data: WindowData) -> Array:
    return np.concatenate([data.parameters, data.observation[:, encoder.card.measured]], axis=1, dtype=np.float64)


def _raw(data: WindowData) -> Array:
    return readout.narrowed(np.concatenate([data.history, data.mask[..., None]], axis=2))


def _attainable(subject: Subject, history: int, effort: Effort, seed: int) -> dict[str, float]:
    """Parameter -> R squared of a full window at best; empty where contacts make readings jump with parameters."""
    if not effort.sensitive or _touches(Model(subject.robot).mj):
        return {}
    best = attainable(subject.task, subject.robot, subject.prior, history=history, windows=effort.sensitive, seed=seed)
    return dict(zip(best.names, best.median.tolist(), strict=True))


def _touches(mj: mujoco.MjModel) -> bool:
    return not mj.opt.disableflags & mujoco.mjtDisableBit.mjDSBL_CONTACT.value and bool(mj.geom_contype.any())


def _contacts(
    encoder: PhysicsEncoder, subject: Subject, effort: Effort, seed: int
) -> tuple[WindowData, WindowData] | None:
    """(train, test) windows whose parameters are the contacts at their present; None where nothing ever touches."""
    card, task = encoder.card, subject.task

    def touching(env: BatchedEnv) -> Array:
        return np.asarray(env.plant.batch.bind("ncon"), dtype=np.float64).reshape(-1, 1)

    if not _touches(Model(subject.robot).mj):
        return None
    rollouts = roll_out(
        task,
        subject.robot,
        subject.prior,
        simulations=8 * effort.simulations,
        seconds=max(effort.seconds, (card.history + 2) * card.control_period_s),
        seed=seed + 2,
        watch=touching,
    )
    assert rollouts.watched is not None
    if rollouts.watched.std() == 0.0:
        return None
    # the contacts travel through the cutting as one more component of the observation
    wide = np.concatenate([rollouts.observation, rollouts.watched], axis=2)
    windows = cut(
        wide,
        rollouts.action,
        rollouts.start,
        history=card.history,
        horizon=1,
        count=16,
        rng=np.random.default_rng(seed),
    )
    points, width = windows.observation[:, -1:].astype(np.float64), len(card.components)
    windows = replace(
        windows,
        history=np.delete(windows.history, width, axis=2),
        observation=windows.observation[:, :-1],
        future=windows.future[..., :-1],
        parameters=np.concatenate([points > 0, points], axis=1, dtype=np.float64),
        names=(CONTACT, CONTACTS),
        units=("", ""),
    )
    return windows.split(0.3, np.random.default_rng(seed))


def _estimates(encoder: PhysicsEncoder, heads: Heads, data: WindowData) -> tuple[Array, Array]:
    """(N, P) estimate and (N, P) stated deviation of each parameter, in standard deviations of the prior."""
    with torch.no_grad():
        mean, log_variance = heads.parameters_head(torch.from_numpy(contexts(encoder, data).astype(np.float32)))
    return mean.numpy().astype(np.float64), np.exp(0.5 * log_variance.numpy().astype(np.float64))


def _calibration(encoder: PhysicsEncoder, heads: Heads, train: WindowData, test: WindowData) -> dict[str, Any]:
    if not train.names:
        return {}
    mean, deviation = _estimates(encoder, heads, test)
    scale = heads.parameters_head.scale
    truth = (test.parameters - scale.mean.numpy()) / scale.deviation.numpy()
    return calibration(Estimates(test.names, mean, deviation, truth, test.group, np.ones(len(test.names))))


def _cases(
    encoder: PhysicsEncoder, heads: Heads, subject: Subject, effort: Effort, seed: int
) -> tuple[WindowData, Cases]:
    """Windows of every case of the robustness; their group is the number of the simulation."""
    card, task = encoder.card, subject.task
    cases = arrange(subject.prior, Model(subject.robot), effort.simulations, np.random.default_rng([seed, 2]))
    horizon = heads.predictor.spread.shape[0] * STRIDE
    size = EncoderConfig(
        history=card.history,
        context=card.context,
        horizon=horizon,
        base=False,
        equations=False,
        simulations=len(cases.of),
        seconds=max(effort.seconds, (horizon + 0.75 * card.history) * card.control_period_s),
        windows=signatures.RECORDING,
    )
    layout = Observation(subject.robot.spec, replace(task.observation, history=card.history), task.action)
    base: OpenLoop | None = base_of(card, subject.robot, layout)
    return simulated_windows(task, subject.robot, cases.randomization, size, seed=seed + 1, base=base), cases


def _robustness(
    encoder: PhysicsEncoder, heads: Heads, data: WindowData, cases: Cases, readable: list[str]
) -> dict[str, Any]:
    """Error of each case: of the prediction with the context, without it, and of the parameters that are readable."""
    estimate, _ = _estimates(encoder, heads, data)
    columns = [data.names.index(name) for name in readable]
    own = [encoder.card.parameters.index(name) for name in readable]
    scale = heads.parameters_head.scale
    error = np.abs(
        estimate[:, own] - (data.parameters[:, columns] - scale.mean.numpy()[own]) / scale.deviation.numpy()[own]
    ).mean(axis=1) if readable else np.zeros(len(data))  # fmt: skip
    found = {
        "prediction": prediction_errors(encoder, heads.predictor, data),
        "without_context": prediction_errors(encoder, heads.blind, data),
        "parameters": error,
    }
    out: dict[str, Any] = {}
    for name, values in found.items():
        errors = {
            case: mean_ci(_medians(values[rows], data.group[rows]))
            for case in cases.cases
            if (rows := cases.rows(case, data.group)).any()
        }
        out[name] = {
            "nominal": errors[NOMINAL],
            "prior": errors[PRIOR],
            "terms": ranking(errors, cases.cases),
        }
    return out


def _medians(values: Array, group: npt.NDArray[np.intp]) -> Array:
    """(G,) of each simulation; a median, because one impact must not decide."""
    return np.array([np.median(values[group == g]) for g in np.unique(group)])


def _attribution(
    encoder: PhysicsEncoder, heads: Heads, test: WindowData, read: Mapping[str, Any], effort: Effort
) -> dict[str, Any]:
    """Which channels and how far back, for the parameters that are best read: mean absolute integrated gradients."""
    best = sorted(test.names, key=lambda n: -read.get(n, {}).get("encoder", {"mean": -1.0})["mean"])[:3]
    if not best:
        return {}
    full = np.flatnonzero(test.mask.all(axis=1))
    rows = full[:: max(len(full) // effort.explained, 1)][: effort.explained]
    if not len(rows):
        return {}
    history, mask = (torch.from_numpy(a[rows]) for a in (test.history, test.mask))
    columns = [encoder.card.parameters.index(name) for name in best]

    def estimate(past: Tensor) -> Tensor:
        return heads.parameters_head(encoder(past, mask))[0][:, columns]

    still = torch.from_numpy(test.history[full].mean(axis=(0, 1)))  # a robot at which nothing happens
    found = integrated_gradients(estimate, history, still)
    size = np.abs(found.values).mean(axis=1)  # (K, H, channels)
    share = size / np.maximum(size.sum(axis=(1, 2), keepdims=True), 1e-12)
    back = np.cumsum(share.sum(axis=2)[:, ::-1], axis=1)
    return {
        "parameters": best,
        "channels": [*encoder.card.components, *(f"action/{a}" for a in encoder.card.actuators)],
        "by_channel": share.sum(axis=1),
        "by_age": share.sum(axis=2)[:, ::-1],
        "half_within_s": (np.argmax(back >= 0.5, axis=1) + 1) * encoder.card.control_period_s,
        "control_period_s": encoder.card.control_period_s,
        "gap": found.gap,
        "windows": len(rows),
    }
