"""MuJoCo computes `cfrc_ext`, the contact force on each body, only when asked; this asks after every physics step.

A model asks by naming PLUGIN (add EXTENSION to its MJCF) after register(). Then a Batch that binds `cfrc_ext` reads
what `mj_rnePostConstraint` gives after `mj_step`, as gymnasium calls it: with RK4 that is the last of the four
stages, which no sensor sees. A MuJoCo plugin's advance() is the one place that runs there, on the Batch's own
threads, and mj_rnePostConstraint itself has its signature: no compiler is needed, and no Python runs in a step.
"""

from __future__ import annotations

import ctypes
import functools

import mujoco

from sim import engine

PLUGIN = "terrafirma.contact_forces"
EXTENSION = f'<extension><plugin plugin="{PLUGIN}"><instance name="contact_forces"/></plugin></extension>'
"""Child of the root of an MJCF."""

_CAPABILITY_SENSOR = 2  # mjPLUGIN_SENSOR; without a sensor that names it, MuJoCo never calls compute()
_POINTERS = (
    "nstate", "nsensordata", "init", "destroy", "copy", "reset", "compute", "advance", "visualize", "actuator_act_dot",
    "sdf_distance", "sdf_gradient", "sdf_staticdistance", "sdf_attribute", "sdf_aabb",
)  # fmt: skip


class _Plugin(ctypes.Structure):
    """mjpPlugin of mujoco/mjplugin.h."""

    _fields_ = (
        ("name", ctypes.c_char_p),
        ("nattribute", ctypes.c_int),
        ("attributes", ctypes.c_void_p),
        ("capabilityflags", ctypes.c_int),
        ("needstage", ctypes.c_int),
        *((name, ctypes.c_void_p) for name in _POINTERS),
        ("of_later_versions", ctypes.c_void_p * 16),  # empty: a longer mjpPlugin reads nothing that is not ours
    )


_nstate = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_void_p, ctypes.c_int)(lambda model, instance: 0)
_init = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int)(lambda model, data, instance: 0)


@functools.cache
def register() -> None:
    """Make PLUGIN known to MuJoCo in this process; a model that names it is refused by MuJoCo before."""
    library = engine.library()
    plugin = _Plugin()
    library.mjp_defaultPlugin(ctypes.byref(plugin))
    plugin.name, plugin.capabilityflags = PLUGIN.encode(), _CAPABILITY_SENSOR
    plugin.nstate, plugin.init = _address(_nstate), _address(_init)
    # these two must be there; a function without arguments and without effect does nothing in their place
    plugin.reset = plugin.compute = _address(library.mjp_pluginCount)
    plugin.advance = _address(library.mj_rnePostConstraint)
    library.mjp_registerPlugin.argtypes = [ctypes.c_void_p]
    if library.mjp_registerPlugin(ctypes.byref(plugin)) < 0:
        raise RuntimeError(f"MuJoCo {mujoco.__version__} does not take the plugin {PLUGIN}")


def _address(function: object) -> int | None:
    return ctypes.cast(function, ctypes.c_void_p).value  # type: ignore[arg-type]
