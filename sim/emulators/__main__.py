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
from collections.abc import Sequence

from robot.cli import parse
from robot.config import ConfigError
from sim.emulators.build import EmulatorOptions, make_server
from sim.emulators.client import tell


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
