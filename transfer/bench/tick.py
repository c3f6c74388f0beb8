"""`bench what=tick`: how long one control step takes onboard, and how much of it is the network.

The rows are `tick` (check the reading, encode, infer, check the observation, decode, guard) and `onnxruntime` (the
same network alone, called as plainly as it can be). Without bundle= an untrained policy of 256 x 256 for the simple
pendulum is exported first, which is what the design's figures are for.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from robot import bundle
from robot.config import ConfigError
from robot.controller import Controller
from robot.result import Run
from robot.safety import Safety
from robot.state import Imu, Joints, Sample
from transfer.bench.measure import row
from transfer.choices import existing

if TYPE_CHECKING:
    from transfer.stages.bench import Config

Array = npt.NDArray[np.float64]
ROUNDS, TICKS, QUICK_TICKS = 20, 5_000, 200
HIDDEN = (256, 256)
ROBOT_TASK = "pendulum_swingup"


def measure(cfg: Config, run: Run) -> dict[str, Any]:
    """Rows `tick` and `onnxruntime` with p50_us, p99_us, p999_us; `ratio` is the tick's time over the network's."""
    path = run.input(existing(cfg.bundle, "bundle", "export")) if cfg.bundle else _untrained(run.out / "bundle")
    ticks = QUICK_TICKS if cfg.quick else TICKS
    controller, rng = bundle.load(path), np.random.default_rng(cfg.seed)
    contestants = {"tick": _tick(controller, rng), "onnxruntime": _network(controller, rng)}
    times: dict[str, list[Array]] = {name: [] for name in contestants}
    for work in contestants.values():
        _timed(work, ticks)
    for _ in range(ROUNDS):
        for name, work in contestants.items():
            times[name].append(_timed(work, ticks))
    rows = [_row(name, np.array(rounds)) for name, rounds in times.items()]
    return {"rows": rows, "ratio": {"onnxruntime": rows[0]["p50_us"] / rows[1]["p50_us"]}, "bundle": str(path)}


def _row(name: str, rounds: Array) -> dict[str, Any]:
    """`rounds` (n_rounds, ticks) [µs]: the spread is that of the rounds' medians; percentiles are over all ticks."""
    percentiles = {f"p{p:g}".replace(".", "") + "_us": float(np.percentile(rounds, p)) for p in (50, 99, 99.9)}
    return row(name, "µs", np.median(rounds, axis=1), **percentiles)


def _timed(work: Callable[[], None], ticks: int) -> Array:
    spent = np.empty(ticks)
    for k in range(ticks):
        start = time.perf_counter_ns()
        work()
        spent[k] = time.perf_counter_ns() - start
    return spent * 1e-3


def _tick(controller: Controller, rng: np.random.Generator) -> Callable[[], None]:
    samples = _samples(controller, rng)
    safety = Safety(controller.spec, controller.period_ns * 1e-9)
    k = [0]

    def tick() -> None:
        sample = samples[k[0] % len(samples)]
        k[0] += 1
        safety.accept(sample.joints, 0)  # always the same time, so that no reading is ever too old
        command = controller.act(sample)
        safety.familiar(controller.unfamiliar, 0)
        if safety.guard(command, sample.joints, 0) is None:
            raise ConfigError(f"the bundle ends its run at the rest pose: {safety.faults[0].reason}.")

    return tick


def _network(controller: Controller, rng: np.random.Generator) -> Callable[[], None]:
    inputs = {
        name: rng.integers(0, 256, (1, *shape), dtype=np.uint8)
        if name.startswith("image_")
        else rng.standard_normal((1, *shape)).astype(np.float32)
        for name, shape in controller.input_shapes.items()
    }

    session, names = controller.network.session, list(controller.network.outputs)

    def infer() -> None:
        session.run(names, inputs)

    return infer


def _samples(controller: Controller, rng: np.random.Generator) -> list[Sample]:
    """Readings about the rest pose, with an image of each camera that the policy looks at."""
    spec, names = controller.spec, controller.spec.joint_names
    found = []
    for _ in range(64):
        small = 0.01 * rng.standard_normal((3, len(names)))
        images = {
            c: (0, rng.integers(0, 256, (*controller.input_shapes[f"image_{c}"][1:], 3), dtype=np.uint8))
            for c in controller.encoder.config.cameras
        }
        found.append(
            Sample(
                t_ns=0,
                joints=Joints(
                    names=names, t_ns=0, position=spec.default_pose + small[0], velocity=small[1], effort=small[2]
                ),
                imu=Imu(t_ns=0, gyro=np.zeros(3), accel=np.array([0.0, 0.0, 9.81]), orientation=np.eye(4)[0]),
                images=images,
            )
        )
    return found


def _untrained(path: Path) -> Path:
    """The bundle of a policy with random weights."""
    import torch

    from policies.network import NetworkConfig
    from policies.policy import Policy, PolicyCard
    from sim.model import find_robot
    from sim.randomization import NOMINAL
    from sim.tasks import load_task
    from transfer.export import export
    from transfer.training import recorded_inputs

    task = load_task(ROBOT_TASK)
    robot = find_robot(task.robot)
    torch.manual_seed(0)
    policy = Policy(
        PolicyCard(
            task=task.name,
            control_period_s=task.control_period_s,
            spec=robot.spec,
            observation=task.observation,
            action=task.action,
            network=NetworkConfig(hidden=HIDDEN),
        )
    ).eval()
    golden = recorded_inputs(policy, task, robot, NOMINAL, seed=0)
    return export(policy, path, golden=golden, rng=np.random.default_rng(0)).bundle
