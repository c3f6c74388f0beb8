"""How much friction a gearbox can hold against: from viscous-Coulomb to load-dependent and quadratic. Batched numpy.

The six models of Rhoban's Better Actuator Models, M1 to M6, are one formula here with some of its coefficients 0:

    M1 Coulomb            coulomb
    M2 Stribeck           M1 + stribeck, stribeck_velocity, stribeck_exponent
    M3 load-dependent     M1 + motor_friction = load_friction
    M4                    M2 + M3 + motor_stribeck = load_stribeck
    M5 directional        M4 with those of motor and load apart
    M6 quadratic          M5 + motor_quadratic, load_quadratic

The viscous part of all six is the joint's damping, which MuJoCo has. sim/plant.py writes the level into MuJoCo's
frictionloss before each physics step, so the solver keeps true stiction: what it applies is the stopping torque
clipped to the level, as in BAM.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]


@dataclass(frozen=True, kw_only=True, slots=True)
class Friction:
    """Coefficients of n simulations; each (n, n_joints), live."""

    coulomb: Array
    """[N m]"""
    stribeck: Array
    """What sticking adds to it [N m]."""
    stribeck_velocity: Array
    """[rad/s]"""
    stribeck_exponent: Array
    motor_friction: Array
    """Share of the motor's torque that the teeth turn into friction; the load's torque has its own."""
    load_friction: Array
    motor_stribeck: Array
    """The same, only while it sticks."""
    load_stribeck: Array
    motor_quadratic: Array
    """[1/(N m)]"""
    load_quadratic: Array

    @property
    def varies(self) -> bool:
        """Whether any level depends on the state, and so must be written before each physics step."""
        return bool((self.stribeck != 0.0).any()) or self.depends_on_load

    @property
    def depends_on_load(self) -> bool:
        """Whether any level depends on torques."""
        return any(
            bool((x != 0.0).any())
            for x in (
                self.motor_friction, self.load_friction, self.motor_stribeck, self.load_stribeck,
                self.motor_quadratic, self.load_quadratic,
            )
        )  # fmt: skip


def sticking(velocity: Array, friction: Friction) -> Array:
    """(n, n_joints) 1 at rest, towards 0 at speeds [rad/s] above the Stribeck velocity."""
    ratio = np.abs(velocity / friction.stribeck_velocity)
    return np.exp(-np.power(ratio, friction.stribeck_exponent))


def stribeck_level(velocity: Array, friction: Friction) -> Array:
    """Friction level [N m] at `velocity` [rad/s] without load-dependent parts, M1 and M2; both (n, n_joints).

    Source: Armstrong-Hélouvry et al., Automatica 30(7), 1994, with a free exponent.
    """
    return friction.coulomb + sticking(velocity, friction) * friction.stribeck


def load_level(velocity: Array, motor: Array, load: Array, friction: Friction) -> Array:
    """Friction level [N m], M1 to M6, at `velocity` [rad/s] under torques of the motor and of the load [N m].

    All (n, n_joints); `load` has its own sign, so a motor that holds a load wears the gears with the sum of both.
    Source: Duclusaud et al., "Extended friction models for the physics simulation of servo actuators", 2024.
    """
    teeth = np.abs(friction.motor_friction * motor - friction.load_friction * load)
    sticky = np.abs(friction.motor_stribeck * motor - friction.load_stribeck * load)
    sticky = sticky + friction.stribeck + _quadratic(motor, load, friction)
    return friction.coulomb + teeth + sticking(velocity, friction) * sticky


def _quadratic(motor: Array, load: Array, friction: Friction) -> Array:
    """[N m] only while motor and load oppose each other: grows with the square of the weaker one."""
    strong, weak = np.abs(motor), np.abs(load)
    level = np.where(strong > weak, friction.load_quadratic * np.square(load), 0.0)
    level = np.where(weak > strong, friction.motor_quadratic * np.square(motor), level)
    return np.where(np.sign(motor) != np.sign(load), level, 0.0)
