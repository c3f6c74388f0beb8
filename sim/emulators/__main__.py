"""python -m sim.emulators: motors on a port of this machine.

    python -m sim.emulators robot=so101 motors=feetech port=/tmp/arm
    python -m sim.emulators robot=double_pendulum_c1 motors=mit bus=slcan port=/tmp/can
    python -m sim.emulators robot=double_pendulum_c1 motors=mit bus=udp_multicast port=/tmp/can
    python -m sim.emulators robot=servo_bench motors=dynamixel port=/tmp/servo
    python -m sim.emulators port=/tmp/arm tell='fault lost joint=elbow_flex seconds=0.5'

The port is a symbolic link to a pseudo-terminal; `PORT.control` takes orders (the last line above is how). Troubles:
see sim/emulators/faults.py.
"""

from __future__ import annotations

import signal
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from robot.cli import parse
from robot.config import ConfigError, nearest
from robot.drivers import mit_protocol
from robot.drivers.wiring import wiring
from robot.spec import RobotSpec
from sim.driver import SimDriver
from sim.emulators.client import control_path, tell
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
    body = Body(World(sim, wires, time.monotonic_ns()), Faults(options.seed))
    line, motors = make_line(options), make_motors(options, spec, body)
    return Server(line, motors, body, control_path(options.port), options.parent), body


def main(argv: Sequence[str] | None = None) -> int:
    """Run an emulator, or tell one something."""
    words = list(sys.argv[1:] if argv is None else argv)
    if not words or words[0] in ("-h", "--help"):
        print(__doc__)
        return 0
    try:
        options, _ = parse(EmulatorOptions, words, "python -m sim.emulators")
        if options.tell is not None:
            print(tell(options.port, options.tell))
        else:
            signal.signal(signal.SIGTERM, signal.default_int_handler)
            server, _ = make_server(options)
            print(f"ready: {options.motors} motors of {options.robot} at {options.port}", flush=True)
            server.run()
    except ConfigError as error:
        print(error, file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        pass
    return 0


if __name__ == "__main__":
    sys.exit(main())
