"""MuJoCo Warp behind Batch's interface: what goes to the device and comes back. Its physics is compared with MuJoCo's
where there is a CUDA device, and by tests/benchmarks/warp_parity.py; its kernels take minutes to compile for a CPU, so
here a stand-in advances the state.
"""

from __future__ import annotations

import importlib
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from robot.config import ConfigError, shipped
from sim import engine, randomization, warp
from sim.model import Model, find_robot
from sim.plant import Plant
from sim.warp import WarpBatch

WITHOUT = importlib.util.find_spec("mujoco_warp") is None
needs_warp = pytest.mark.skipif(WITHOUT, reason="MuJoCo Warp is not installed (extra gpu)")


def has_cuda() -> bool:
    """Without asking warp where there is no device's file: importing it takes seconds."""
    try:
        return not WITHOUT and any(Path("/dev").glob("nvidia[0-9]*")) and bool(warp.cuda_device())
    except ConfigError:
        return False


@pytest.fixture(scope="module")
def plant() -> Plant:
    """A plant whose physics is a stand-in: each step adds 1 to the angles, and shows the controls as forces."""
    plant = Plant(Model(find_robot("double_pendulum_c1")), 3, nthread=1, backend="warp_on_cpu")
    batch = plant.batch
    assert isinstance(batch, WarpBatch)

    def step(model: Any, now: Any) -> None:
        now.qpos.numpy()[...] += 1.0
        now.qfrc_actuator.numpy()[...] = now.ctrl.numpy()

    batch._engine = SimpleNamespace(step=step, forward=lambda model, now: None)
    return plant


def test_without_the_package_the_pip_line_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(warp, "PACKAGES", ("warp", "no_such_package"))
    with pytest.raises(ConfigError, match=r"pip install 'terrafirma\[gpu\]'"):
        engine.simulations(Model(find_robot("simple_pendulum")).mj, 2, 1, "warp_on_cpu")


def test_without_a_device_backend_warp_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    none = SimpleNamespace(init=lambda: None, get_cuda_device_count=lambda: 0)
    monkeypatch.setattr(warp, "_packages", lambda: (none, None))
    with pytest.raises(ConfigError, match=r"needs a CUDA device.*backend=cpu"):
        engine.simulations(Model(find_robot("simple_pendulum")).mj, 2, 1, "warp")


@needs_warp
@pytest.mark.parametrize("robot", ["double_pendulum_c1", "quadruped"])
def test_a_draw_means_the_same_on_the_device(robot: str) -> None:
    """Every field that a prior changes, and every constant that follows from it, stands there as in MuJoCo's Batch."""
    law = randomization.load(shipped() / "dr" / f"{robot}_default.yaml")
    plants = [Plant(Model(find_robot(robot)), 4, nthread=1, backend=b) for b in ("cpu", "warp_on_cpu")]
    some = np.array([1, 3])
    for plant in plants:
        rng = np.random.default_rng(0)
        plant.set(law.draw(plant.model, rng, 4))
        plant.set(law.draw(plant.model, rng, 2), some)
    batch = plants[1].batch
    assert isinstance(batch, WarpBatch)
    batch._send()
    compared = 0
    for sim in range(4):
        ours = plants[0].batch.get_model(sim)
        for field in ("body_mass", "body_inertia", "body_ipos", "body_iquat", "dof_armature", "dof_damping",
                      "dof_frictionloss", "dof_invweight0", "body_invweight0", "body_subtreemass", "actuator_gainprm",
                      "actuator_biasprm", "actuator_biastype", "geom_friction", "tendon_armature",
                      "opt.timestep", "opt.gravity"):  # fmt: skip
            expected = np.asarray(getattr(ours.opt if field[:4] == "opt." else ours, field.removeprefix("opt.")))
            there = batch._host(field)
            alone = field == "actuator_biastype"  # one for all simulations
            seen = there if alone else there[sim % len(there)]
            np.testing.assert_allclose(seen.reshape(expected.shape), expected, rtol=1e-6, atol=1e-9, err_msg=field)
            compared += len(there) == 4
    assert compared > 12  # the prior did reach fields that differ between simulations


@needs_warp
def test_what_the_host_writes_is_there_before_a_step_and_the_state_after_it(plant: Plant) -> None:
    plant.reset(np.tile([0.25, -0.5], (3, 1)), np.zeros((3, 2)))
    plant.step(np.full((3, 2), 0.1))
    np.testing.assert_allclose(plant.position, [[plant.substeps + 0.25, plant.substeps - 0.5]] * 3)
    np.testing.assert_allclose(plant.effort, np.full((3, 2), 0.1), rtol=1e-6)
    plant.reset(np.zeros((1, 2)), np.zeros((1, 2)), np.array([1]))
    plant.step(np.zeros((3, 2)))
    np.testing.assert_allclose(
        plant.position[:, 0], [2 * plant.substeps + 0.25, plant.substeps, 2 * plant.substeps + 0.25]
    )


@needs_warp
def test_a_simulation_that_is_no_longer_finite_is_put_back_and_named(plant: Plant) -> None:
    plant.reset(np.zeros((3, 2)), np.zeros((3, 2)))
    plant.qpos[1, 0] = np.inf
    plant.step(np.zeros((3, 2)))
    assert plant.unstable.tolist() == [False, True, False]
    assert np.isfinite(plant.position).all()
    plant.reset(np.zeros((1, 2)), np.zeros((1, 2)), np.array([1]))
    assert not plant.unstable.any()


@needs_warp
def test_more_contacts_than_there_is_room_for_are_an_error_and_never_dropped(plant: Plant) -> None:
    batch = plant.batch
    assert isinstance(batch, WarpBatch)
    plant.reset(np.zeros((3, 2)), np.zeros((3, 2)))
    batch._now.overflow.numpy()[2] = 1
    try:
        with pytest.raises(ConfigError, match="more constraints than there is room for"):
            plant.step(np.zeros((3, 2)))
    finally:
        batch._now.overflow.numpy()[2] = 0


@needs_warp
def test_a_field_that_cannot_differ_between_simulations_is_refused_by_name(plant: Plant) -> None:
    batch = plant.batch
    assert isinstance(batch, WarpBatch)
    kinds = batch.expand("actuator_biastype")
    before = kinds.copy()
    kinds[...], kinds[0, 0] = 1, 2  # 0, no bias at all, would be as good as one of nothing
    with pytest.raises(ConfigError, match="one 'actuator_biastype' for all simulations"):
        batch.step()
    batch.expand("actuator_biastype")[...] = before
    batch.step()


@needs_warp
def test_what_is_on_in_some_simulations_is_as_good_as_off_in_the_others(plant: Plant) -> None:
    """MuJoCo Warp has one flag for all; those without a limit get a range that is none."""
    plant.set({})
    plant.set({"actuator/shoulder/torque_limit": np.array([0.3])}, np.array([1]))
    batch, row = plant.batch, int(plant.model.ctrl_index[0])
    assert isinstance(batch, WarpBatch)
    batch._send()
    native = bool(plant.model.mj.actuator_forcelimited[row])
    assert batch._host("actuator_forcelimited")[row]
    ranges = batch._host("actuator_forcerange")[:, row]
    np.testing.assert_allclose(ranges[1], [-0.3, 0.3], rtol=1e-6)
    assert native or (ranges[[0, 2], 1] > 1e20).all()


@pytest.mark.skipif(not has_cuda(), reason="no CUDA device")
def test_physics_on_a_cuda_device_is_mujocos(tmp_path: Path) -> None:
    from tests.benchmarks import warp_parity

    assert warp_parity.main([str(tmp_path / "parity.json"), "device=cuda"]) == 0
