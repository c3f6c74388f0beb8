"""Pictures come at the camera's rate and as late as each simulation's own camera is."""

from __future__ import annotations

import numpy as np

from sim.frames import Frames
from sim.model import Model, find_robot
from sim.plant import Plant


def test_each_simulations_camera_is_late_by_its_own_latency() -> None:
    model = Model(find_robot("simple_pendulum"))
    camera = model.spec.cameras[0].name  # 50 Hz, here read at 50 Hz
    plant = Plant(model, 3, nthread=1)
    plant.set({f"camera/{camera}/latency": np.array([0.0, 0.04, 0.1])})
    frames = Frames(model, (camera,), 3, 0.02, nthread=1)
    angles = np.linspace(0.0, 2.0, 11)
    frames.reset(np.full((3, 1), angles[0]), np.arange(3))
    for angle in angles[1:]:
        frames.push(np.full((3, 1), angle))
    frames.update(np.full(3, 10), plant.outer, np.random.default_rng(0))
    late = Frames(model, (camera,), 11, 0.02, nthread=1)
    late.reset(angles[:, None], np.arange(11))
    late.update(np.zeros(11, dtype=np.int64), Plant(model, 11, nthread=1).outer, np.random.default_rng(0))
    for simulation, step in enumerate((10, 8, 5)):
        np.testing.assert_array_equal(
            frames.inputs[f"image_{camera}"][simulation], late.inputs[f"image_{camera}"][step]
        )
