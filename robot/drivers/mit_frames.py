"""Joint commands as the frames of MIT-mode motors, and what those frames really say."""

from __future__ import annotations

import dataclasses
import time

import numpy as np

from robot.driver import DriverError
from robot.drivers import mit_protocol as mit
from robot.drivers.mit_protocol import Command
from robot.drivers.readings import Readings
from robot.drivers.wiring import Wiring
from robot.spec import RobotSpec
from robot.state import JointCommand


class Framer:
    """Frames for the motors of one robot, in the order of its joints."""

    def __init__(self, spec: RobotSpec, wires: Wiring, motors: tuple[mit.Range, ...]) -> None:
        self._spec, self._wires, self._motors = spec, wires, motors
        kd = np.zeros(len(motors))
        kd[spec.driven] = [0.0 if a.safe_action == "zero" else a.safe_kd for a in spec.actuators]
        self.damping = [mit.encode_command(Command(0, 0, 0, d, 0), m) for d, m in zip(kd, motors, strict=True)]
        """The safe action: no torque, resisting motion. A torque motor cannot `hold`: it damps instead."""

    def encode(self, c: JointCommand, readings: Readings) -> tuple[list[bytes], JointCommand]:
        """The frames of a command in the spec's order, and what they say, back in the joints' sense.

        DriverError for a value that is not finite, and for a position beyond the end of a motor's encoder.
        """
        if not np.isfinite(c.position + c.velocity + c.effort + c.kp + c.kd).all():
            raise DriverError("the command has a value that is not finite; nothing was sent")
        if (k := readings.wrapped()) is not None and c.kp[k] > 0.0:
            raise DriverError(
                f"joint '{c.names[k]}' has turned past the end of its encoder: no position can be commanded there"
            )
        sense, limits = self._wires.direction, self._spec.effort_limits
        position, frames, said = readings.to_motor(c.position), [], []
        for k, motor in enumerate(self._motors):
            # truncation takes a negative torque away from 0: a count of room keeps it within the limit
            room = 2.0 * motor.torque / 4095 if limits[k] < motor.torque else 0.0
            torque = min(max(sense[k] * c.effort[k], min(room - limits[k], 0.0)), limits[k])
            wanted = Command(position[k], sense[k] * c.velocity[k], c.kp[k], c.kd[k], torque)
            frames.append(mit.encode_command(wanted, motor))
            said.append(mit.decode_command(frames[-1], motor))
        motor_position, velocity, kp, kd, torques = np.array(said).T
        sent = dataclasses.replace(
            c,
            t_ns=time.monotonic_ns(),
            position=c.position + sense * (motor_position - position),
            velocity=sense * velocity,
            effort=sense * torques,
            kp=kp,
            kd=kd,
        )
        return frames, sent
