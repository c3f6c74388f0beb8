"""Foresight: what equations of motion say of a stretch is what the simulator does, for robots near and far from the
middle one, under actions that step and come late."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor

from policies.encoders.evidence import Evidence
from policies.encoders.foreseen import LATEST, Foreseen, kernels
from policies.encoders.grounding import Grounding
from policies.encoders.physics import EncoderConfig
from policies.encoders.windows import WindowData
from robot.observation import Observation
from sim.model import RobotConfig, find_robot
from sim.randomization import Randomization, Term, Uniform
from sim.tasks import Task, load_task
from transfer.windows import simulated_windows

SPAN, PERIOD = 2, 0.01


@pytest.mark.parametrize("delay", [0.0, 0.3, 1.0, 1.7])
def test_kernels_weigh_delayed_actions_as_a_second_difference_does(delay: float) -> None:
    """A free body of mass 1, pushed by actions that step from row to row and come `delay` rows late."""
    rng, fine = np.random.default_rng(3), 200
    action = rng.normal(size=2 * SPAN + LATEST)
    time = np.arange(0, len(action) * fine + 1) / fine - SPAN - LATEST  # rows; the middle anchor is at 0
    pushed = action[
        np.clip(np.floor(time - delay + SPAN + LATEST + 1e-9), 0, None).astype(int).clip(max=len(action) - 1)
    ]
    speed = np.concatenate([[0.0], np.cumsum(pushed[:-1])]) / fine
    place = np.concatenate([[0.0], np.cumsum(speed[:-1] + 0.5 * pushed[:-1] / fine)]) / fine
    before, here, after = (place[(k + SPAN + LATEST) * fine] for k in (-SPAN, 0, SPAN))
    weights = kernels(SPAN, delay)
    assert weights[0] @ action == pytest.approx((after - 2.0 * here + before) / SPAN**2, abs=1e-3)
    ahead = kernels(SPAN, delay + 1e-5)
    np.testing.assert_allclose((ahead[0] - weights[0]) / 1e-5, weights[1], atol=1e-4)
    assert weights[0].sum() == pytest.approx(1.0)


@pytest.fixture(scope="module")
def bench() -> tuple[Task, RobotConfig]:
    """A double pendulum with exact sensors: what is left over is the equations' fault."""
    robot = find_robot("double_pendulum_c1")
    sensors = tuple(replace(s, noise=0.0, resolution=0.0) for s in robot.spec.sensors)
    robot = replace(robot, spec=replace(robot.spec, sensors=sensors), model=replace(robot.model, timestep_s=0.0005))
    return load_task("pendubot_swingup"), robot


def _windows(bench: tuple[Task, RobotConfig], size: float) -> WindowData:
    task, robot = bench
    terms = [
        Term(targets=("body/upper/mass", "body/lower/mass"), how="scale", law=Uniform(low=1 - size, high=1 + size)),
        Term(targets=("body/lower/com",), how="scale", law=Uniform(low=1 - size, high=1 + size)),
        Term(targets=("joint/elbow/damping",), law=Uniform(low=0.0, high=0.1 * size)),
        Term(targets=("actuator/shoulder/gain",), law=Uniform(low=1 - size, high=1 + size)),
        Term(targets=("timing/command/delay",), law=Uniform(low=0.004 * (1 - size), high=0.004 * (1 + size))),
    ]
    law = Randomization(name="around", terms=tuple(terms))
    encoder = EncoderConfig(history=64, span=SPAN, context=12, simulations=48, seconds=2.5, windows=6, base=False)
    return simulated_windows(task, robot, law, encoder, seed=3, nthread=1)


def _left(bench: tuple[Task, RobotConfig], data: WindowData) -> tuple[float, float]:
    """(without, with) the parameters' slopes: what the equations leave of the accelerations [rad/s²], RMS."""
    task, robot = bench
    layout = Observation(robot.spec, task.observation, task.action)
    evidence = Evidence(
        layout.components, 1, span=SPAN, latents=len(data.names), hidden=(8,), period_s=PERIOD,
        parameters=len(data.names),
    )  # fmt: skip
    foreseen = evidence.stretches.foreseen
    assert foreseen is not None and data.equations is not None and evidence.mixing is not None
    foreseen.set(data.equations)
    grounding = Grounding(len(data.names), len(data.names), fixed=True)
    grounding.set_statistics(data)
    evidence.mixing.copy_(grounding.mixing(foreseen))
    whole = data.take(data.mask.all(axis=1))
    seen = evidence.stretches(torch.from_numpy(whole.history), torch.from_numpy(whole.mask))
    assert seen.slopes is not None
    latents = grounding.latents(torch.from_numpy(whole.parameters).float()).double()
    late = foreseen.delay_slopes @ grounding.spread()
    late = late / late.norm()
    known = torch.cat([latents, (latents @ late).square()[:, None] - 1.0], dim=1)
    slopes = seen.slopes @ evidence.mixing
    explained = (slopes * known[:, None, None]).sum(dim=-1) + slopes[..., -1]

    def rms(x: Tensor) -> float:
        return float((x / (SPAN * PERIOD) ** 2).square().mean().sqrt())

    return rms(seen.outcomes), rms(seen.outcomes - explained)


def test_the_slopes_explain_how_robots_differ(bench: tuple[Task, RobotConfig]) -> None:
    before, after = _left(bench, _windows(bench, 0.1))
    assert before > 2.0 and after < 0.15 * before


def test_they_are_linear_so_a_tenth_of_the_difference_leaves_far_less(bench: tuple[Task, RobotConfig]) -> None:
    """What is left is of second order in the parameters, and the rule's own error."""
    near, far = _left(bench, _windows(bench, 0.03)), _left(bench, _windows(bench, 0.3))
    assert near[1] < 0.35 * far[1]


def test_a_stuck_delay_is_no_trouble() -> None:
    """Without a delay that varies the nuisance has no slope, and the latents are those of the others."""
    foreseen = Foreseen(1, 1, 2, span=SPAN, period_s=PERIOD)
    angle = torch.linspace(0.0, 1.0, 11, dtype=torch.float64)[None, :, None]
    made = foreseen(torch.cos(angle), torch.sin(angle), torch.zeros(1, 20, 1, dtype=torch.float64))
    assert made.slopes.shape == (1, 7, 1, 3) and (made.slopes == 0.0).all()
    assert made.curved.abs().max() < 1e-9  # it turns evenly


def test_what_is_no_angle_stays_within_what_an_angle_can_do() -> None:
    """An export compares torch with ONNX on random numbers, too."""
    rng = np.random.default_rng(0)
    cosine, sine = (torch.from_numpy(10.0 * rng.normal(size=(8, 20, 2))) for _ in range(2))
    seen = Foreseen(2, 1, 3, span=2, period_s=0.01)(cosine, sine, torch.zeros(8, 38, 1, dtype=torch.float64))
    assert seen.curved.abs().max() < np.pi and torch.isfinite(seen.slopes).all()
