"""What is unknown of robots whose actuators are position servos: their loops, motors, gearboxes and zeros.

Loads are weighed and printed parts nearly so; what their torque is worth in a servo's stiffness is then told by how far
it sags. Servos of one type share their firmware. What friction laws a gearbox may follow is friction_unknowns().
"""

from __future__ import annotations

from collections.abc import Iterator

from robot.spec import ActuatorSpec
from sim.model import Model
from sim.servos import SERVOS
from transfer.unknowns import Unknown, log_unknown, logit_unknown, plain_unknown

ARM_FROM = 3
"""Joints from which a robot is an arm, whose parts are known less well than a weight on a bench."""


def servo_unknowns(model: Model, friction: int | None = None) -> tuple[Unknown, ...]:
    """Unknowns of a robot with position servos; `friction` 1 to 6 is its gearboxes' model, see sim/friction.py.

    Without it M3 on a bench, where the load is weighed and friction is seen to grow with it, and M1 of an arm.
    """
    spec, found = model.spec, list(_bodies(model))
    number = friction or (1 if len(spec.joints) >= ARM_FROM else 3)
    servo = SERVOS.get(model.robot.model.servo)
    for actuator in spec.actuators:
        found += _loop(model, actuator)
        found += _zero(model, actuator)
        found += friction_unknowns(model, actuator, number)
    if servo is not None and servo.speed_ceiling:
        targets = tuple(f"actuator/{a.name}/speed_ceiling" for a in spec.actuators if a.kind == "position_pd")
        found.append(log_unknown(targets, servo.speed_ceiling, 0.1))
    found.append(logit_unknown("timing/command/delay", 0.012, 0.060, 1.0))
    return tuple(found)


def _bodies(model: Model) -> Iterator[Unknown]:
    sd = 0.2 if len(model.spec.joints) >= ARM_FROM else 0.02
    for body in model.objects(("body", "com")):
        yield log_unknown(f"body/{body}/mass", model.nominal(f"body/{body}/mass"), sd)


def _loop(model: Model, actuator: ActuatorSpec) -> Iterator[Unknown]:
    """Stiffness, D gain, back-EMF with viscous friction, reflected inertia, largest torque."""
    name, joint = actuator.name, actuator.joint
    servo = SERVOS.get(model.robot.model.servo)
    kp = model.nominal(f"actuator/{name}/kp")
    yield log_unknown(f"actuator/{name}/kp", kp, 0.4, joint)
    if servo is not None and servo.d_gain:
        yield log_unknown(f"actuator/{name}/error_kd", 0.03 * kp, 0.5, joint)
    yield log_unknown(f"joint/{joint}/damping", max(model.nominal(f"joint/{joint}/damping"), 1e-3 * kp), 0.4, joint)
    armature = model.nominal(f"joint/{joint}/armature")
    yield log_unknown(f"joint/{joint}/armature", max(armature, 1e-6), 0.7, joint)
    yield log_unknown(f"actuator/{name}/torque_limit", model.nominal(f"actuator/{name}/torque_limit"), 0.3, joint)


def _zero(model: Model, actuator: ActuatorSpec) -> Iterator[Unknown]:
    """Where gravity shows it, the zero of the joint; and a constant torque, of cables say."""
    name, joint = actuator.name, actuator.joint
    if joint in model.objects(("joint", "load_friction")):
        yield plain_unknown(f"sensor/{joint}/offset", 0.0, 0.3 if len(model.spec.joints) >= ARM_FROM else 0.02, joint)
    yield plain_unknown(f"actuator/{name}/bias", 0.0, 0.01 * actuator.effort_limit, joint)


def friction_unknowns(model: Model, actuator: ActuatorSpec, number: int) -> Iterator[Unknown]:
    """Coefficients of friction model 1 to 6; of a load-dependent one only where the joint bears a load."""
    joint, limit = actuator.joint, actuator.effort_limit
    coulomb = max(model.nominal(f"joint/{joint}/frictionloss"), 0.003 * limit)
    yield log_unknown(f"joint/{joint}/frictionloss", coulomb, 0.8, joint)
    if number in (2, 4, 5, 6):
        yield log_unknown(f"joint/{joint}/stribeck_friction", 0.5 * coulomb, 1.0, joint)
        yield log_unknown(f"joint/{joint}/stribeck_velocity", 0.3, 1.0, joint)
        yield log_unknown(f"joint/{joint}/stribeck_exponent", 1.35, 0.4, joint)
    loaded = joint in model.objects(("joint", "load_friction"))
    if number < 3:
        return
    for quantity, middle in (("friction", 0.08), ("stribeck", 0.05)):
        if quantity == "stribeck" and number == 3:
            continue
        both = (f"joint/{joint}/motor_{quantity}", f"joint/{joint}/load_{quantity}")
        if number < 5 and loaded:
            yield log_unknown(both, middle, 1.0, joint)
            continue
        yield log_unknown(both[0], middle, 1.0, joint)
        if loaded:
            yield log_unknown(both[1], middle, 1.0, joint)
    if number == 6 and loaded:
        for end in ("motor", "load"):
            yield log_unknown(f"joint/{joint}/{end}_quadratic", 0.01, 1.0, joint)
