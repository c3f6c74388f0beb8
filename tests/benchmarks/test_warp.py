"""MuJoCo Warp on one core, with its kernels compiled (a minute the first time): the physics of backend=cpu, and tensors
that are the device's own memory. `make test` leaves this out; warp_parity.py beside it does all robots."""

from __future__ import annotations

import numpy as np
import pytest

from sim.warp import WarpBatch
from tests.benchmarks.warp_parity import actions, differences, environment

pytest.importorskip("mujoco_warp", reason="MuJoCo Warp is not installed (extra gpu)")


def test_an_environment_goes_the_same_way_on_both_backends() -> None:
    found = differences("pendulum_swingup", 4, "warp_on_cpu")
    assert found["ok"], found


def test_the_state_on_the_device_is_a_tensor_without_a_copy() -> None:
    pytest.importorskip("torch")
    env = environment("pendulum_swingup", 3, 0, "warp_on_cpu")
    batch = env.plant.batch
    assert isinstance(batch, WarpBatch)
    tensor = batch.tensor("qpos")
    env.reset()
    for action in actions(env, 2, 0):
        env.step(action)
        np.testing.assert_array_equal(tensor.numpy(), env.state.qpos.astype(np.float32))
