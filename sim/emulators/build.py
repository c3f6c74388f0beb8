"""From the keys of an emulator's command line to an emulator that can run."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from robot.config import ConfigError, nearest
from robot.drivers import mit_protocol
from robot.drivers.wiring import wiring
from robot.spec import RobotSpec
from sim.driver import SimDriver
from sim.emulators.client import control_path
from sim.emulators.dynamixel import DynamixelServos
from sim.emulators.faults import Faults
from sim.emulators.feetech import FeetechServos
from sim.emulators.lines import Line, Pty, PythonCan, Slcan
from sim.emulators.mit import MitMotors
from sim.emulators.motors import Body, Motors
from sim.emulators.server import Server
from sim.emulators.world import World
from sim.model import find_robot


@dataclass(frozen=True, kw_only=True)
class EmulatorOptions:
    """Keys of the command line."""

    port: Path
    """Symbolic link to the port, and the first part of the control socket's name."""
    tell: str | None = None
    """An order to the emulator that runs at `port`, instead of running one."""
    robot: str = ""
    """Robot whose motors are emulated: a name, or a YAML file."""
    motors: Literal["mit", "feetech", "dynamixel"] = "mit"
    bus: Literal["slcan", "udp_multicast", "socketcan"] = "slcan"
    """Of MIT motors."""
    channel: str = "239.74.163.2:43113"
    """Of udp_multicast (ADDRESS:PORT) or socketcan."""
    motor: str = "AK80-6_V1.1"
    temperature: bool = False
    """Whether MIT motors send it: frames of 8 bytes."""
    mode: int = 3
    """Operating mode of Dynamixel servos: 3, 4 or 5."""
    ids: tuple[int, ...] | None = None
    """True wiring, in the order of the joints."""
    direction: tuple[int, ...] | None = None
    zero: tuple[float, ...] | None = None
    start: tuple[float, ...] | None = None
    """Joint positions [rad] (default: the rest pose)."""
    posterior: Path | None = None
    """Law of the robot's parameters; `seed` draws one robot."""
    seed: int = 0
    parent: int | None = None
    """Process to end with."""


def make_motors(options: EmulatorOptions, spec: RobotSpec, body: Body) -> Motors:
    """The motors of the protocol that the options name."""
    n = len(spec.joints)
    gains = np.zeros((n, 3))
    for joint, a in zip(spec.driven, spec.actuators, strict=True):
        speed = spec.joints[joint].velocity_limit
        gains[joint] = a.kp, a.kd, a.effort_limit / speed
    if options.motors == "feetech":
        return FeetechServos(body, tuple((float(p), float(d), float(s)) for p, d, s in gains))
    if options.motors == "dynamixel":
        return DynamixelServos(body, tuple((float(p), float(d)) for p, d, _ in gains), options.mode)
    if options.motor not in mit_protocol.MOTORS:
        raise ConfigError(f"motor={options.motor}: unknown. {nearest(options.motor, list(mit_protocol.MOTORS))}")
    return MitMotors(body, (mit_protocol.MOTORS[options.motor],) * n, options.temperature)


def make_line(options: EmulatorOptions) -> Line:
    """The end of the bus."""
    if options.motors != "mit":
        return Pty(options.port)
    return Slcan(options.port) if options.bus == "slcan" else PythonCan(options.bus, options.channel)


def make_server(options: EmulatorOptions) -> tuple[Server, Body]:
    """The emulator of these options, ready to run(), and the body of its motors."""
    robot = find_robot(options.robot)
    spec = robot.spec
    sim = SimDriver.from_config(spec, robot=robot, posterior=options.posterior, seed=options.seed, start=options.start)
    wires = wiring(spec, options.ids, options.direction, options.zero)
    body = Body(World(sim, wires, time.monotonic_ns(), options.seed), Faults(options.seed))
    line, motors = make_line(options), make_motors(options, spec, body)
    return Server(line, motors, body, control_path(options.port), options.parent), body
