"""Evidence: equations of motion that are the simulator's, estimates that need no more than arithmetic, an export."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch

from policies.encoders.evidence import Evidence
from policies.encoders.grounding import Grounding
from policies.encoders.motion import Motion
from policies.encoders.physics import PhysicsEncoder
from policies.encoders.windows import WindowData
from sim.model import find_robot
from sim.plant import Plant
from sim.tasks import load_task
from transfer.rigid import equations_of_motion

PARAMETERS = {"body/lower/mass": 0.7, "joint/shoulder/damping": 0.2, "actuator/shoulder/gain": 0.9}


def test_equations_of_motion_are_the_simulators() -> None:
    robot, task = find_robot("double_pendulum_c1"), load_task("pendubot_swingup")
    found = equations_of_motion(robot, task.observation, task.action, PARAMETERS)
    assert found is not None
    motion = Motion(2, 1, 0)
    motion.set(found | {f"{name}_slopes": np.zeros((*value.shape, 0)) for name, value in found.items()})
    from sim.model import Model

    plant, rng = Plant(Model(robot), 40, timestep_s=1e-4, period_s=1e-4, nthread=1), np.random.default_rng(0)
    plant.set({name: np.full(40, value) for name, value in PARAMETERS.items()})
    position, velocity = rng.uniform(-3.0, 3.0, (40, 2)), rng.uniform(-6.0, 6.0, (40, 2))
    action = rng.uniform(-1.0, 1.0, (40, 1))
    plant.reset(position, velocity)
    plant.step(action * [[6.0, 0.0]])
    wanted = (plant.velocity - velocity) / 1e-4
    angles = torch.from_numpy(position)
    at = motion.posed(torch.cos(angles), torch.sin(angles), torch.from_numpy(velocity))
    made = motion(at, torch.from_numpy(action))
    np.testing.assert_allclose(made.numpy(), wanted, rtol=0.02, atol=0.5)


@pytest.mark.parametrize("name, task", [("quadruped", "quadruped_velocity"), ("so101", "arm_reach")])
def test_robots_that_move_otherwise_have_none(name: str, task: str) -> None:
    chosen = load_task(task)
    assert equations_of_motion(find_robot(name), chosen.observation, chosen.action, {}) is None


def test_a_grounded_model_gives_the_latents_of_a_made_up_robot() -> None:
    """A point that is pushed: velocity changes by (1 + latent) x action; no simulator, nothing to tune."""
    rng, torch_rng = np.random.default_rng(0), torch.Generator().manual_seed(0)
    torch.manual_seed(0)
    count, rows = 600, 32
    latent = rng.uniform(-0.5, 0.5, count)
    action = rng.uniform(-1.0, 1.0, (count, rows)).astype(np.float32)
    velocity = np.cumsum((1.0 + latent[:, None]) * action, axis=1) - (1.0 + latent[:, None]) * action
    place = np.cumsum(velocity, axis=1) + 0.5 * (1.0 + latent[:, None]) * np.cumsum(action * 0, axis=1)
    history = torch.from_numpy(np.stack([place, velocity, action], axis=2).astype(np.float32))
    mask, parameters = torch.ones(count, rows), torch.from_numpy(latent[:, None].astype(np.float32))
    evidence = Evidence(("position/x", "velocity/x"), 1, span=2, latents=1, hidden=(32,), period_s=1.0)
    evidence.stretches.set_statistics(history, mask)
    grounding = Grounding(1, 1)
    empty = np.zeros((count, 0), np.float32)
    grounding.set_statistics(
        WindowData(history=empty, mask=empty, observation=empty, action=empty, future=empty,
                   group=np.arange(count), parameters=latent[:, None])
    )  # fmt: skip
    weights = [*evidence.parameters(), *grounding.parameters()]
    optimizer = torch.optim.Adam(weights, lr=1e-2)
    for _ in range(400):
        some = torch.randint(count, (64,), generator=torch_rng)
        loss = grounding.loss(evidence, history[some], mask[some], parameters[some])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    with torch.no_grad():
        mean, variance = evidence(history, mask)
        short = evidence(history, mask * (torch.arange(rows) >= rows - 8))
        none = evidence(history, 0.0 * mask)
    assert np.corrcoef(mean[:, 0].numpy(), latent)[0, 1] ** 2 > 0.95
    assert (short[1] > variance).all() and (none[0] == 0.0).all() and (none[1] == 1.0).all()


def test_the_exported_encoder_agrees(encoder: PhysicsEncoder, windows: WindowData, tmp_path: Path) -> None:
    some = windows.take(np.arange(0, len(windows), 40))
    inputs = torch.from_numpy(some.history), torch.from_numpy(some.mask)
    torch.onnx.export(
        encoder, inputs, tmp_path / "encoder.onnx", input_names=["history", "mask"], output_names=["context"],
        dynamic_shapes=({0: torch.export.Dim("B")}, {0: torch.export.Dim("B")}), dynamo=True,
    )  # fmt: skip
    session = onnxruntime.InferenceSession(tmp_path / "encoder.onnx")
    (made,) = session.run(None, {"history": some.history, "mask": some.mask})
    with torch.no_grad():
        wanted = encoder(*inputs).numpy()
    assert np.isfinite(made).all() and np.abs(made - wanted).max() <= 1e-5
    (one,) = session.run(None, {"history": some.history[:1], "mask": some.mask[:1]})
    assert np.abs(one - wanted[:1]).max() <= 1e-5
