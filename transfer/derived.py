"""Quantities that follow from the parameters and have a name of their own: a voltage motor's time constant."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from sim.model import Model
from transfer.posterior import IDENTIFIED, Fit
from transfer.unknowns import physical

Array = npt.NDArray[np.float64]

DRAWS = 2000


def derived(fit: Fit, model: Model) -> dict[str, dict[str, Any]]:
    """`motor/<name>/time_constant` [s] of every motor on voltage: estimate, ci95, unit, identified, why.

    With inertia J at the joint, torque constant k, resistance R and damping d it is J R / (k² + R d). Whatever the
    likelihood says, it is not identified where it may be shorter than the time between two rows: there a slower motor
    and a longer way of the commands look the same.
    """
    out = {}
    rng, period = np.random.default_rng(0), float(np.median([np.median(np.diff(s.t)) for s in fit.series]))
    mean, sd = np.array([u.mean for u in fit.unknowns]), np.array([u.sd for u in fit.unknowns])
    for actuator in (a for a in model.spec.actuators if a.kind == "dcmotor"):
        estimate = float(_constant(fit, model, actuator.name, actuator.joint, fit.x[None])[0])
        after = _constant(
            fit,
            model,
            actuator.name,
            actuator.joint,
            rng.multivariate_normal(fit.x, fit.covariance, DRAWS, method="eigh"),
        )
        before = _constant(fit, model, actuator.name, actuator.joint, mean + sd * rng.normal(size=(DRAWS, len(sd))))
        low, high = np.quantile(after, [0.025, 0.975])
        narrow, slow = bool(np.std(np.log(after)) < IDENTIFIED * np.std(np.log(before))), bool(low > period)
        why = "" if narrow else "the logs do not tell it"
        why = why if slow else f"it may be shorter than the {1e3 * period:.1f} ms between rows"
        out[f"motor/{actuator.name}/time_constant"] = {
            "estimate": estimate,
            "ci95": [float(low), float(high)],
            "unit": "s",
            "identified": narrow and slow,
            "why": why,
        }
    return out


def _constant(fit: Fit, model: Model, motor: str, joint: str, x: Array) -> Array:
    """(n,) time constants [s] at coordinates (n, P)."""
    values = physical(fit.unknowns, x)
    known = {t: values[:, i] for i, u in enumerate(fit.unknowns) for t in u.targets}
    body = model.mj.body(model.mj.jnt_bodyid[model.mj.joint(joint).id]).name
    names = (f"body/{body}/inertia", f"joint/{joint}/armature", f"motor/{motor}/torque_constant",
             f"motor/{motor}/resistance", f"joint/{joint}/damping")  # fmt: skip
    inertia, armature, constant, ohms, damping = (known.get(n, np.full(len(x), model.nominal(n))) for n in names)
    if f"motor/{motor}/rotor_inertia" in known:
        gear = next(a.gear for a in model.spec.actuators if a.name == motor)
        armature = known[f"motor/{motor}/rotor_inertia"] * gear**2
    return (inertia + armature) * ohms / (constant**2 + ohms * damping)
