"""What an episode says of the robot's dynamics, cheaply: one linear regression a joint on the nominal model's terms.

    (M a)_j = k u_j - g (gravity)_j - c (Coriolis)_j - b v_j - f tanh(v_j / V) + o,    V = 0.05 rad/s

where u is the torque, late by one of LAGS_S. The nominal robot has k = g = c = 1. Each recording's joint zero is its
own, known to ZERO_RAD beforehand: it is integrated out of the equations. The normal equations of an episode are all
that is kept of it, a few kilobytes, and any set of episodes is fitted by adding theirs: so what an estimate would be
without one of them costs nothing. For robots that are driven by torques alone: a servo is all friction and gears, its
own loop decides, and the rules of efforts.py hold its position against its command.
"""

from __future__ import annotations

from dataclasses import dataclass

import mujoco
import numpy as np
from scipy.signal import savgol_filter

from sim.model import Model
from transfer.screening.signals import Array, Signal, Signals

TERMS = ("drive", "gravity", "Coriolis", "damping", "friction", "offset")
LAGS_S = (0.0, 0.005, 0.01, 0.02, 0.03, 0.045, 0.06, 0.08, 0.1, 0.12, 0.15, 0.2, 0.25)
"""Ways of the command that are tried [s]."""
HALF_S = 0.05
"""Half width of the cubic through the positions that gives velocities and accelerations [s]."""
STEP_S = 0.01
"""Rows of the regression are at least so far apart [s]."""
ROWS = 1500
"""Most rows of an episode that are used."""
NUDGE_RAD = 1e-4
STILL = 0.05
"""Root mean square of a joint's acceleration [rad/s^2] below which it tells nothing."""
RIDGE = 1e-6
ZERO_RAD = 0.06
"""Deviation of the joint zeros that honest recordings have [rad]: zeros are set by hand, inside the stiction band."""
CORRELATED_S = 0.1
"""Rows nearer than this [s] count as one observation."""
SLIP = 0.05
"""V [rad/s]."""


@dataclass(frozen=True, slots=True)
class Regression:
    """Normal equations of one episode."""

    normal: Array
    """(L, J, P, P) for each lag and joint, of the terms in TERMS."""
    right: Array
    """(L, J, P)"""
    square: Array
    """(L, J) sum of squares of (M a)_j, less what the joint's zero explains."""
    zero: Array
    """(L, J, P + 1) see zero_of()."""
    total: Array
    """(J,) sum of squares of (M a)_j; 0 for a joint that hardly moves."""
    rows: int
    seconds: float

    def rest(self, lag: int, joint: int, parameters: Array) -> float:
        """Sum of squares that parameters (P,) leave of one joint."""
        a, b = self.normal[lag, joint], self.right[lag, joint]
        return float(self.square[lag, joint] - 2.0 * parameters @ b + parameters @ a @ parameters)

    def fit(self, lag: int, joint: int) -> Array:
        """(P,) the episode's own parameters."""
        return solve(self.normal[lag, joint], self.right[lag, joint])

    def zero_of(self, lag: int, joint: int, parameters: Array) -> float:
        """The joint's zero [rad] under given parameters (P,); a constant torque shows as one."""
        weights = self.zero[lag, joint]
        return float((weights[:-1] @ parameters + weights[-1]) / max(abs(parameters[1]), 0.1))

    def nominal_rest(self) -> float:
        """Error of the nominal model: the share of the accelerations that it leaves, at the best delay; 1 is as bad as
        foretelling none. nan where no joint moves."""
        nominal = np.array([1.0, 1.0, 1.0, 0.0, 0.0, 0.0])
        moving = np.flatnonzero(self.total).tolist()
        left = [sum(self.rest(lag, j, nominal) for j in moving) for lag in range(len(LAGS_S))]
        return float(min(left) / self.total.sum()) if self.total.any() else float("nan")

    def own_rest(self, lag: int) -> Array:
        """(J,) share of each joint's sum of squares that its own parameters leave; nan where it hardly moves."""
        left = [self.rest(lag, j, self.fit(lag, j)) for j in range(len(self.total))]
        with np.errstate(invalid="ignore", divide="ignore"):
            return np.where(self.total > 0.0, np.maximum(left, 0.0) / self.total, np.nan)


def solve(normal: Array, right: Array) -> Array:
    """(P,) least squares; terms that did not vary get 0."""
    scale = np.sqrt(np.maximum(np.diag(normal), 1e-30))
    scaled = normal / np.outer(scale, scale)
    return np.asarray(np.linalg.solve(scaled + RIDGE * np.eye(len(scale)), right / scale) / scale)


def regression_of(signals: Signals, model: Model) -> Regression | None:
    """An episode's normal equations; None where the robot floats or is not driven by torques, or where position or
    command are missing or too short."""
    position, command = signals.position, signals.command
    joints = len(signals.joints)
    driven_otherwise = any(a.kind != "torque" for a in signals.spec.actuators)
    if position is None or command is None or driven_otherwise or floats(model):
        return None
    step = max(position.period, 0.002)
    t = np.arange(position.t[0], position.t[-1], step)
    half = max(3, round(HALF_S / step))
    if len(t) < 6 * half:
        return None
    width = 2 * half + 1
    q = np.stack([position.at(t, j) for j in range(joints)], axis=1)
    smooth, rate, bend = (savgol_filter(q, width, 3, deriv=d, delta=step, axis=0) for d in range(3))
    use = _usable(position, t, half * step)
    use[:half], use[-half:] = False, False
    chosen = np.flatnonzero(use)[:: max(1, round(STEP_S / step), int(use.sum()) // ROWS)]
    if len(chosen) < 50:
        return None
    inertial, gravity, coriolis, stiffness = _terms(model, smooth[chosen], rate[chosen], bend[chosen])
    friction = savgol_filter(np.tanh(rate / SLIP), width, 3, axis=0)[chosen]
    late = float(signals.episode.meta.get("late_rows", 0)) * command.period
    square = np.square(inertial).sum(axis=0)
    still = np.sqrt(np.square(bend[chosen]).mean(axis=0)) < STILL
    repeated = max(1.0, CORRELATED_S * len(chosen) / (t[-1] - t[0]))
    normals, rights, totals, zeros = [], [], [], []
    for lag in LAGS_S:
        held = command.values[(np.searchsorted(command.t, t - lag - late, "right") - 1).clip(0)]
        drive = savgol_filter(held, width, 3, axis=0)[chosen]
        columns = np.stack(
            [drive, -gravity, -coriolis, -rate[chosen], -friction, np.ones_like(drive), -stiffness], axis=2
        )
        normal, right = np.einsum("njp,njq->jpq", columns, columns), np.einsum("njp,nj->jp", columns, inertial)
        parts = [_without_zero(n, r, s, len(chosen), repeated) for n, r, s in zip(normal, right, square, strict=True)]
        normals.append([p[0] for p in parts])
        rights.append([p[1] for p in parts])
        totals.append([p[2] for p in parts])
        zeros.append([p[3] for p in parts])
    total = np.where(still, 0.0, square)
    return Regression(
        np.array(normals), np.array(rights), np.array(totals), np.array(zeros), total, len(chosen), float(t[-1] - t[0])
    )


def _without_zero(
    normal: Array, right: Array, square: float, rows: int, repeated: float
) -> tuple[Array, Array, float, Array]:
    """Normal equations, right side and sum of squares with the last term, the joint's zero, integrated out; and
    (P + 1,) how the zero's estimate depends on the other parameters: weights, and what it is without them."""
    noise = max(square - float(right @ solve(normal, right)), 1e-12) / rows
    known = normal[-1, -1] + repeated * noise / ZERO_RAD**2
    column, of_zero = normal[:-1, -1], right[-1]
    return (
        normal[:-1, :-1] - np.outer(column, column) / known,
        right[:-1] - column * of_zero / known,
        square - of_zero**2 / known,
        np.append(-column, of_zero) / known,
    )


def floats(model: Model) -> bool:
    """Whether a free or ball joint carries the robot's own ones, so that their motion alone does not tell it all."""
    mj = model.mj
    for body in {int(mj.dof_bodyid[d]) for d in model.dof_index}:
        while body:
            first, count = mj.body_jntadr[body], mj.body_jntnum[body]
            if any(mj.jnt_type[j] in (0, 1) for j in range(first, first + count)):
                return True
            body = int(mj.body_parentid[body])
    return False


def _usable(position: Signal, t: Array, half_s: float) -> np.ndarray:
    """(n,) whether no gap is near."""
    usable = np.ones(len(t), dtype=bool)
    steps = np.diff(position.t)
    for k in np.flatnonzero(steps > max(5.0 * position.period, position.period + 0.02)):
        usable &= (t < position.t[k] - half_s) | (t > position.t[k + 1] + half_s)
    return usable


def _terms(model: Model, q: Array, v: Array, a: Array) -> tuple[Array, Array, Array, Array]:
    """(n, J) each: M a, gravity, Coriolis and centrifugal torques of the nominal robot [N m], and the slope of each
    joint's gravity torque by its own position [N m/rad]."""
    mj, data = model.mj, mujoco.MjData(model.mj)
    index, dof = model.qpos_index, model.dof_index
    inertial, gravity, bias, slope = (np.empty_like(q) for _ in range(4))
    product, full = np.empty(mj.nv), np.zeros(mj.nv)

    def held(row: Array) -> Array:
        data.qpos[index], data.qvel[dof] = row, 0.0
        mujoco.mj_fwdPosition(mj, data)
        mujoco.mj_fwdVelocity(mj, data)
        return np.array(data.qfrc_bias[dof])

    for i in range(len(q)):
        for j in range(len(index)):
            aside = q[i].copy()
            aside[j] += NUDGE_RAD
            slope[i, j] = held(aside)[j]
        gravity[i] = held(q[i])
        data.qvel[dof] = v[i]
        mujoco.mj_fwdVelocity(mj, data)
        bias[i] = data.qfrc_bias[dof]
        full[dof] = a[i]
        mujoco.mj_mulM(mj, data, product, full)
        inertial[i] = product[dof]
    return inertial, gravity, bias - gravity, (slope - gravity) / NUDGE_RAD
