"""What spares time in the engine must not change a state, and must in fact be in force."""

from __future__ import annotations

import ctypes
import subprocess
import sys

import mujoco
import numpy as np
import pytest
from mujoco.batch import Batch

from sim import contact_forces, engine
from sim.model import Model, find_robot

CLOCK = """
import ctypes, mujoco, sys
from sim import engine
pointer = ctypes.c_void_p.in_dll(engine.library(), "mjcb_time")
before = pointer.value
model = mujoco.MjModel.from_xml_string("<mujoco/>")
data = mujoco.MjData(model)
mujoco.mj_step(model, data)
timed = data.timer[mujoco.mjtTimer.mjTIMER_STEP].duration
engine.stop_clock()
data = mujoco.MjData(model)
mujoco.mj_step(model, data)
print(before is not None and timed > 0.0, pointer.value, data.timer[mujoco.mjtTimer.mjTIMER_STEP].duration)
"""


def test_the_clock_runs_by_default_and_stops() -> None:
    """If the package's clock ever disappears, stop_clock() is to be deleted."""
    done = subprocess.run([sys.executable, "-c", CLOCK], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.split() == ["True", "None", "0.0"]


def test_making_a_model_stops_the_clock() -> None:
    Model(find_robot("simple_pendulum"))
    assert ctypes.c_void_p.in_dll(engine.library(), "mjcb_time").value is None


@pytest.mark.parametrize("name", ["double_pendulum_c1", "quadruped"])
def test_a_single_tree_moves_the_same_with_and_without_islands(name: str) -> None:
    model = Model(find_robot(name)).mj
    assert model.ntree == 1 and model.opt.disableflags & mujoco.mjtDisableBit.mjDSBL_ISLAND
    ends = []
    for flags in (model.opt.disableflags, model.opt.disableflags & ~int(mujoco.mjtDisableBit.mjDSBL_ISLAND)):
        model.opt.disableflags = flags
        batch = Batch(model, 8, 1)
        batch.reset()
        control, rng = batch.bind("ctrl"), np.random.default_rng(0)
        for _ in range(100):
            control[:] = rng.uniform(-1.0, 1.0, control.shape)
            batch.step(nstep=5)
        ends.append(batch.state.copy())
    np.testing.assert_array_equal(ends[0], ends[1])


def test_islands_stay_where_there_are_several_trees() -> None:
    ball = "<body><freejoint/><geom size='1'/></body>"
    model = mujoco.MjModel.from_xml_string(f"<mujoco><worldbody>{ball}{ball}</worldbody></mujoco>")
    engine.spare_islands(model)
    assert model.ntree == 2 and not model.opt.disableflags & mujoco.mjtDisableBit.mjDSBL_ISLAND


@pytest.mark.parametrize("integrator", ["Euler", "RK4", "implicitfast"])
def test_contact_forces_are_those_after_each_step(integrator: str) -> None:
    """A box falls onto a floor; the force on it is read where gymnasium reads it, at any number of substeps."""
    contact_forces.register()
    contact_forces.register()  # once is enough, twice does no harm
    model = mujoco.MjModel.from_xml_string(
        f"<mujoco>{contact_forces.EXTENSION}<option integrator='{integrator}'/>"
        "<worldbody><geom type='plane' size='1 1 1'/>"
        "<body pos='0 0 .11'><freejoint/><geom type='box' size='.1 .1 .1'/></body></worldbody></mujoco>"
    )
    data, batch = mujoco.MjData(model), Batch(model, 5, 2)
    batch.reset()
    forces, pushed = batch.bind("cfrc_ext"), 0.0
    for _ in range(40):
        batch.step(nstep=3)
        mujoco.mj_step(model, data, nstep=3)
        mujoco.mj_rnePostConstraint(model, data)
        np.testing.assert_array_equal(forces, np.broadcast_to(data.cfrc_ext, forces.shape))
        pushed = max(pushed, float(forces[0, 1, 5]))
    assert pushed > 50.0
