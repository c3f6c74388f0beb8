"""Joint commands as the frames of MIT-mode motors, and what those frames really say."""

from __future__ import annotations

import math
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
        self._sense = wires.direction
        self._motors = list(zip(motors, spec.effort_limits.tolist(), wires.direction.tolist(), strict=True))
        """Of each joint: the motor's ranges, the joint's torque limit [N m], and the motor's sense."""
        kd = np.zeros(len(motors))
        kd[spec.driven] = [0.0 if a.safe_action == "zero" else a.safe_kd for a in spec.actuators]
        self.damping = [mit.encode_command(Command(0, 0, 0, d, 0), m) for d, m in zip(kd, motors, strict=True)]
        """The safe action: no torque, resisting motion. A torque motor cannot `hold`: it damps instead."""

    def encode(self, c: JointCommand, readings: Readings) -> tuple[list[bytes], JointCommand]:
        """The frames of a command in the spec's order, and what they say, back in the joints' sense.

        DriverError for a value that is not finite, and for a position beyond the end of a motor's encoder.
        """
        wishes = [values.tolist() for values in (c.position, c.velocity, c.kp, c.kd, c.effort)]
        if not math.isfinite(sum(map(sum, wishes))):
            raise DriverError("the command has a value that is not finite; nothing was sent")
        if (k := readings.wrapped()) is not None and c.kp[k] > 0.0:
            raise DriverError(
                f"joint '{c.names[k]}' has turned past the end of its encoder: no position can be commanded there"
            )
        position, frames, said = readings.to_motor(c.position), [], []
        for (motor, limit, sense), q, (_, v, kp, kd, effort) in zip(
            self._motors, position.tolist(), zip(*wishes, strict=True), strict=True
        ):
            # truncation takes a negative torque away from 0: a count of room keeps it within the limit
            room = 2.0 * motor.torque / 4095 if limit < motor.torque else 0.0
            torque = min(max(sense * effort, min(room - limit, 0.0)), limit)
            frames.append(mit.encode_command(Command(q, sense * v, kp, kd, torque), motor))
            said.append(mit.decode_command(frames[-1], motor))
        sense, (motor_position, velocity, gain, damping, torques) = self._sense, np.array(said).T
        sent = JointCommand(
            names=c.names,
            t_ns=time.monotonic_ns(),
            position=c.position + sense * (motor_position - position),
            velocity=sense * velocity,
            effort=sense * torques,
            kp=gain,
            kd=damping,
        )
        return frames, sent
