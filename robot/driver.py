"""The contract between the control loop and whatever moves: a bus, a replayed log, a simulator.

The loop paces itself only through `now_ns` and `wait`, so a driver on a simulated clock runs the very
loop that is deployed. To add a driver: a file in robot/drivers/ with a class that has these methods and
`from_config(spec, **options)`, a row in DRIVERS (or an entry point of a package of your own, robot/plugins.py), and one
test, a subclass of tests/robot/driver_conformance.py.
"""

from __future__ import annotations

import importlib
import inspect
from typing import Any, Literal, Protocol, get_type_hints, runtime_checkable

from robot import config
from robot.config import ConfigError, nearest
from robot.plugins import Plugin, pick, plugins
from robot.spec import RobotSpec
from robot.state import JointCommand, Sample

StopReason = Literal["done", "user", "fault", "error"]


class DriverError(RuntimeError):
    """The hardware did not do what it was asked; the loop goes to its safe action."""


class StaleState(DriverError):
    """No new reading has come since the last one; an old sample is never silently repeated."""


class EndOfLog(DriverError):
    """A replayed log has no further rows: the run is over, which is no fault."""


@runtime_checkable
class Driver(Protocol):
    """One robot. Times are in ns on this driver's own clock, which never goes back."""

    def now_ns(self) -> int:
        """This driver's time [ns]; simulated in a simulated driver."""
        ...

    def wait(self, until_ns: int) -> None:
        """Return at `until_ns`, at once if that has passed; the loop paces itself only through this call."""
        ...

    def read(self, timeout_s: float) -> Sample:
        """The newest reading; raises StaleState when none has come since the last one within `timeout_s`."""
        ...

    def write(self, command: JointCommand) -> JointCommand:
        """Send a command; returns what was really sent, after the driver's own limits and rounding."""
        ...

    def stop(self, reason: StopReason) -> None:
        """Put the actuators into their safe action; safe to call twice, and after any other call failed."""
        ...

    def close(self) -> None:
        """Release the device; safe to call twice."""
        ...


DRIVERS = {
    "replay": "robot.drivers.replay:ReplayDriver",
    "can": "robot.drivers.can_mit:MitDriver",
    "feetech": "robot.drivers.feetech:FeetechDriver",
    "dynamixel": "robot.drivers.dynamixel:DynamixelDriver",
}
"""name -> `module:class`; further ones come from the entry-point group `terrafirma.drivers` (sim, surrogate)."""


def driver_class(name: str) -> Any:
    """The class behind a driver's name.

    ConfigError lists the drivers that exist when the name is unknown, and the package to install when the
    driver's own library is missing, or the distribution when it is a plug-in's and cannot be used.
    """
    plugin = pick("driver", name, own=DRIVERS)
    if plugin is not None and not plugin.ours:
        return _plugged(plugin)
    if plugin is None and name not in DRIVERS:
        raise ConfigError(f"driver '{name}' is unknown. {nearest(name, driver_names())}")
    module, _, attribute = (DRIVERS[name] if plugin is None else plugin.value).partition(":")
    try:
        return getattr(importlib.import_module(module), attribute)
    except ModuleNotFoundError as error:
        raise ConfigError(
            f"driver '{name}' needs the package '{error.name}', which is not installed: "
            f"pip install 'terrafirma[{_EXTRA.get(name, 'train')}]'."
        ) from error


def driver_names() -> list[str]:
    """Names of all drivers; none is imported for them."""
    return sorted({*DRIVERS, *(p.name for p in plugins("driver"))})


def _plugged(plugin: Plugin) -> Any:
    cls = plugin.load()
    lacking = [name for name in METHODS if not callable(getattr(cls, name, None))]
    if not inspect.isclass(cls) or lacking:
        raise plugin.wrong(f"it lacks {', '.join(lacking)}" if inspect.isclass(cls) else "it is no class")
    return cls


def on_simulated_clock(name: str) -> bool:
    """Whether a driver's time passes in its wait() alone, which its class says by `simulated = True`."""
    return bool(getattr(driver_class(name), "simulated", False))


def driver_options(name: str) -> dict[str, Any]:
    """Option name -> type, of `from_config` and, where that passes on further options, of the constructor."""
    cls = driver_class(name)
    methods = [cls.from_config]
    if any(p.kind is p.VAR_KEYWORD for p in inspect.signature(cls.from_config).parameters.values()):
        methods.append(cls.__init__)
    return {
        option: get_type_hints(method).get(option, Any)
        for method in reversed(methods)
        for option, parameter in inspect.signature(method).parameters.items()
        if parameter.kind is parameter.KEYWORD_ONLY
    }


def open_driver(name: str, spec: RobotSpec, **options: Any) -> Driver:
    """Open a driver by its name; options given as text are converted to the driver's types.

    ConfigError when the driver or one of the options is unknown; DriverError when the hardware does not answer.
    """
    known = driver_options(name)
    for option, value in options.items():
        if option not in known:
            raise ConfigError(f"driver '{name}' has no option '{option}'. {nearest(option, sorted(known))}")
        if isinstance(value, str):
            options[option] = config.of_text(known[option], value, f"driver '{name}'", option)
    driver: Driver = driver_class(name).from_config(spec, **options)
    return driver


METHODS = ("from_config", "now_ns", "wait", "read", "write", "stop", "close")
"""What the class of a driver must have."""
_EXTRA = {"can": "can", "feetech": "serial", "dynamixel": "serial"}
