"""Where physics runs, and what a process asks of MuJoCo's C library that its Python package has no word for.

`simulations()` is the seam between the rest of sim/ and a physics engine: another one is a Batch with these methods.
Here and in sim/contact_forces.py are the only uses of ctypes on the library; both change how long a step takes or what
it leaves to be read, never the state it leads to.
"""

from __future__ import annotations

import ctypes
import functools
from pathlib import Path
from typing import Literal

import mujoco
from mujoco.batch import Batch

Backend = Literal["cpu", "warp", "warp_on_cpu"]
"""MuJoCo on the cores; MuJoCo Warp on a CUDA device; or, slowly and for checks, MuJoCo Warp on one core."""


def simulations(model: mujoco.MjModel, nsim: int, nthread: int, backend: Backend) -> Batch:
    """nsim simulations of a model. ConfigError when the backend is not installed, has no device, or lacks something
    that the model has."""
    if backend == "cpu":
        return Batch(model, nsim, nthread)
    from sim.warp import WarpBatch  # it is paid for only by those who use it

    return WarpBatch(model, nsim, nthread, on_cpu=backend == "warp_on_cpu")


@functools.cache
def library() -> ctypes.CDLL:
    """The shared library that the package mujoco has loaded."""
    folder = Path(mujoco.__file__).parent
    found = [*folder.glob("libmujoco*.so*"), *folder.glob("libmujoco*.dylib"), *folder.glob("mujoco.dll")]
    if not found:
        raise RuntimeError(f"there is no MuJoCo library in {folder}; reinstall the package mujoco")
    return ctypes.CDLL(str(found[0]))


@functools.cache
def stop_clock() -> None:
    """Let MuJoCo no longer time its stages (mjData.timer), in this process.

    The Python package installs a clock that is read some forty times in each physics step: half of the time of a step
    of a pendulum, a tenth of that of an ant. `mujoco.set_mjcb_time(None)` leaves it in place.
    """
    try:
        clock = ctypes.c_void_p.in_dll(library(), "mjcb_time")
    except ValueError:  # a build that does not export it keeps its clock, and is slower for it
        return
    clock.value = None


def spare_islands(model: mujoco.MjModel) -> None:
    """Let MuJoCo not look for islands of constraints in a model of one tree, which can have but one.

    The states are the same to the last bit, some 5 % sooner.
    """
    if model.ntree == 1:
        model.opt.disableflags |= int(mujoco.mjtDisableBit.mjDSBL_ISLAND)
