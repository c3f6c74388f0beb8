"""terrafirma doctor: can this machine do the job, and if not, what mends it."""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Callable, Mapping
from contextlib import closing
from dataclasses import dataclass
from importlib import metadata, util
from pathlib import Path
from typing import Any

from robot.config import ConfigError
from robot.driver import DriverError, driver_options, open_driver
from robot.spec import RobotSpec, find_robot, load_spec
from robot.stages import Options, Outcome

EDGE = ("numpy", "onnxruntime", "PyYAML", "mcap", "cryptography")
TRAIN = ("torch", "mujoco", "gymnasium", "stable_baselines3", "hydra")


@dataclass(frozen=True, kw_only=True)
class DoctorOptions(Options):
    robot: str | None = None
    driver: str | None = None


def doctor(options: DoctorOptions, extra: Mapping[str, str]) -> Outcome:
    """Say whether this machine can do the job, and what to do if it cannot:

        terrafirma doctor
        terrafirma doctor robot=simple_pendulum driver=sim
        terrafirma doctor robot=simple_pendulum dr=simple_pendulum_default

    Reads   installed packages, the robot's file, one reading of the driver. Moves nothing. Writes result.json.
    Keys    robot=R (name or YAML file), driver=D (needs robot); further keys go to the driver. With dr=NAME or
            posterior=FILE it looks at that randomization instead: what each term does to the robot in a rollout.
    Ends with 0 when everything asked for works, 2 when something is missing, 5 when the driver does not answer.
    """
    if options.driver and not options.robot:
        raise ConfigError(f"driver={options.driver} needs robot=R: a driver is opened for a robot.")
    if extra and not options.driver:
        raise ConfigError(f"'{next(iter(extra))}' is no key of doctor, and without driver=D no driver takes it.")
    examination = _Examination()
    examination.machine(options.out)
    if options.robot:
        examination.robot(options.robot)
    if options.driver and examination.spec is not None:
        examination.driver(options.driver, options.robot or "", extra)
    run = options.start("doctor", extra)
    lines = [f"{'ok  ' if c['ok'] else 'FAIL'}  {c['name']}: {c['detail']}" for c in examination.checks]
    lines += [f"      mend {c['name']}: {c['fix']}" for c in examination.checks if not c["ok"]]
    return Outcome(run.finish({"checks": examination.checks}), examination.exit_code, "\n".join(lines))


class _Examination:
    """The checks made so far."""

    def __init__(self) -> None:
        self.checks: list[dict[str, Any]] = []
        self.spec: RobotSpec | None = None
        self.exit_code = 0

    def check(self, name: str, look: Callable[[], str], fix: str) -> None:
        """Record what `look` finds; an error it raises is the detail of a failed check."""
        try:
            self.checks.append({"name": name, "ok": True, "detail": look(), "fix": ""})
        except (ConfigError, DriverError, ImportError, OSError, metadata.PackageNotFoundError) as error:
            self.checks.append({"name": name, "ok": False, "detail": str(error) or type(error).__name__, "fix": fix})
            self.exit_code = 5 if isinstance(error, DriverError) else self.exit_code or 2

    def machine(self, out: Path | None) -> None:
        """Python, packages, a place to write."""
        self.check("python", lambda: sys.version.split()[0], "")
        for package in EDGE:
            self.check(package, lambda p=package: metadata.version(p), f"pip install '{package}'")  # type: ignore[misc]
        self.check("onnxruntime providers", _providers, "pip install --force-reinstall onnxruntime")
        folder = out or Path("runs")
        self.check("out", lambda: _writable(folder), f"make {folder} writable, or give out=DIR")
        missing = [p for p in TRAIN if not _installed(p)]
        what = f"not installed ({', '.join(missing)}); only training needs it: pip install 'terrafirma[train]'"
        self.check("extra train", lambda: what if missing else "installed", "")

    def robot(self, name: str) -> None:
        """The robot's file, and where MuJoCo is installed its simulation."""

        def load() -> str:
            self.spec = load_spec(name)
            return f"{self.spec.name} ({self.spec.fingerprint()}): {', '.join(self.spec.joint_names)}"

        self.check("robot", load, "give the name of a robot in configs/robot, or a YAML file with `spec:`")
        if self.spec is not None and _installed("mujoco"):
            fix = "give the robot's file a `model:` with an `mjcf:` that has the joints of its spec"
            self.check("simulation", lambda: self._answers("sim", name, {}), fix)

    def driver(self, driver: str, name: str, extra: Mapping[str, str]) -> None:
        """The driver opens and gives one reading."""
        fix = "check power, cable, port and permissions; driver options are given as key=value"
        self.check(f"driver {driver}", lambda: self._answers(driver, name, extra), fix)

    def _answers(self, driver: str, name: str, extra: Mapping[str, str]) -> str:
        assert self.spec is not None
        given = {"robot": find_robot(name)} if "robot" in driver_options(driver) else {}
        with closing(open_driver(driver, self.spec, **{**given, **extra})) as opened:
            joints = opened.read(1.0).joints.ordered(self.spec.joint_names)
        return "reads " + ", ".join(f"{n} {q:.3f}" for n, q in zip(joints.names, joints.position, strict=True))


def _installed(package: str) -> bool:
    try:
        return util.find_spec(package) is not None
    except ModuleNotFoundError:
        return False


def _providers() -> str:
    import onnxruntime

    found = onnxruntime.get_available_providers()
    if "CPUExecutionProvider" not in found:
        raise ImportError(f"no CPUExecutionProvider among {', '.join(found)}")
    return ", ".join(found)


def _writable(folder: Path) -> str:
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryFile(dir=folder):
        return str(folder.resolve())
