"""Published figures of position servos: motor constants, what the firmware does, friction of the gearbox.

`servo:` in a robot's YAML names a row of SERVOS; it makes the targets of motor constants and supply apply to that
robot (sim/targets/motors.py). `firmware()` and `friction()` give target values for a parameter set, a truth of a
surrogate, or a test. To add a servo: a row, with its source.

Position loop of both families, as Better Actuator Models (Rhoban, Apache-2.0) identified it:
duty = clip(P x duty_per_rad x (goal - position), +-max_duty), torque = kt (V duty - kt speed) / R at the joint.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

COUNT = 2.0 * math.pi / 4096.0
"""[rad] of a 12-bit encoder over one turn."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Servo:
    """One type of servo; torques and speeds are those of its output."""

    torque_constant: float
    """kt [N m/A], which is the back-EMF constant [V s/rad] too."""
    resistance: float
    """[ohm]"""
    supply: float
    """Voltage of the figures here [V]."""
    duty_per_rad: float
    """Duty per rad of error and unit of the P gain register."""
    p_gain: int
    """P gain register of the figures here."""
    max_duty: float = 1.0
    count: float = COUNT
    """Step of its encoder and of its goals [rad]."""
    dead_zone: int = 0
    """Error that the loop does not see [counts]."""
    speed_ceiling: float = 0.0
    """Of the goal's own profile [rad/s]; 0 for none."""
    d_gain: int = 0
    """D gain register as it is usually set; 0 where the loop has none."""
    accelerations: tuple[float, ...] = ()
    """Of the profile [rad/s²], as common programs leave its register; it is lost at power-off, and none is in force
    then. Whatever stands in it belongs to a session, not to the robot."""

    @property
    def stall_torque(self) -> float:
        """[N m] at the full supply."""
        return self.torque_constant * self.supply / self.resistance

    @property
    def back_emf(self) -> float:
        """What the back-EMF takes of the torque [N m s/rad]."""
        return self.torque_constant**2 / self.resistance

    def kp(self, p_gain: int | None = None) -> float:
        """[N m/rad] of the position loop at a value of the P gain register."""
        return (self.p_gain if p_gain is None else p_gain) * self.duty_per_rad * self.stall_torque


SERVOS = {
    # BAM, main branch, 7.4 V, M1; register values of Feetech's memory table; ceiling 3400 counts/s; LeRobot
    # sets D to 32 and the acceleration register to 254, in units of 100 counts/s²
    "sts3215": Servo(
        torque_constant=1.21164135, resistance=2.67616633, supply=7.4, duty_per_rad=0.166, p_gain=32, max_duty=0.97,
        dead_zone=1, speed_ceiling=3400 * COUNT, d_gain=32, accelerations=(254 * 100 * COUNT,),
    ),
    # BAM, M1; the position P gain counts in 1/256 of 885 steps of duty, where the manual says 1/128
    "xl330": Servo(
        torque_constant=0.386696, resistance=4.017129, supply=7.5, duty_per_rad=(4096 / (2 * math.pi)) / (256 * 885),
        p_gain=400,
    ),
}  # fmt: skip

FRICTION: dict[str, tuple[dict[str, float], ...]] = {
    # BAM's fits M1 to M6 of each servo; quantities are rows of sim/targets/motors.py and joints.py
    "sts3215": ({"damping": 0.05908516, "frictionloss": 0.05239296},),
    "xl330": (
        {"damping": 0.003662, "frictionloss": 0.012833},
        {"damping": 0.005621, "frictionloss": 0.0, "stribeck_friction": 0.012651, "stribeck_velocity": 4.166521,
         "stribeck_exponent": 1.363645},
        {"damping": 0.004379, "frictionloss": 0.008882, "motor_friction": 0.121665, "load_friction": 0.121665},
        {"damping": 0.004621, "frictionloss": 0.008759, "motor_friction": 0.068034, "load_friction": 0.068034,
         "motor_stribeck": 0.073812, "load_stribeck": 0.073812, "stribeck_velocity": 2.557702,
         "stribeck_exponent": 0.760116},
        {"damping": 0.006348, "frictionloss": 0.000366, "stribeck_friction": 0.008678, "motor_friction": 0.289652,
         "load_friction": 0.0, "motor_stribeck": 0.000031, "load_stribeck": 0.058683,
         "stribeck_velocity": 3.188912, "stribeck_exponent": 2.9904},
        {"damping": 0.00536, "frictionloss": 0.004771, "stribeck_friction": 0.004676, "motor_friction": 0.266786,
         "load_friction": 0.000009, "motor_stribeck": 0.000011, "load_stribeck": 0.080779,
         "motor_quadratic": 0.009972, "load_quadratic": 0.004903, "stribeck_velocity": 2.890372,
         "stribeck_exponent": 8.68326},
    ),
}  # fmt: skip


def firmware(servo: Servo, actuators: Sequence[str]) -> dict[str, float]:
    """Target values of what the firmware does beside its gains: counts, dead zone, largest duty, profile."""
    quantities = {
        "encoder_step": servo.count,
        "dead_zone": servo.dead_zone * servo.count,
        "torque_limit": servo.max_duty * servo.stall_torque,
    }
    if servo.speed_ceiling:
        quantities["speed_ceiling"] = servo.speed_ceiling
    return {f"actuator/{a}/{q}": value for a in actuators for q, value in quantities.items()}


def friction(servo: str, model: int, joints: Sequence[str], back_emf: float = 0.0) -> dict[str, float]:
    """Target values of BAM's friction model 1 to 6 of a servo; IndexError where it was never published.

    `back_emf` [N m s/rad] is added to the damping, for models that have it there.
    """
    values = FRICTION[servo][model - 1]
    return {f"joint/{j}/{q}": v + (back_emf if q == "damping" else 0.0) for j in joints for q, v in values.items()}
