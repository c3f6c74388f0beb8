"""terrafirma doctor: can this machine do the job, and if not, what mends it."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Mapping
from contextlib import closing
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any, Literal

from robot import config
from robot.checks import Host, Seen, cluster, graphics, ports, realtime, recording, software
from robot.checks.software import installed
from robot.config import ConfigError
from robot.driver import Driver, DriverError, driver_options, open_driver
from robot.drivers.wiring import wiring
from robot.spec import CameraSpec, RobotSpec, find_robot, load_spec
from robot.stages import Options, Outcome
from robot.wizard import corrected, wiggle

EDGE = ("numpy", "onnxruntime", "PyYAML", "mcap", "cryptography")
WIRES = ("ids", "direction", "zero", "calibration")
"""Options of drivers that say which motor moves which joint."""
LOOKED_S = 1.0
"""How long a camera is looked at."""
ENGINES = {"ray": ("ray", "scale"), "submitit": ("submitit", "scale"), "joblib": ("joblib", "sweep")}
"""What rollouts and sweeps are spread with -> its module and extra."""


@dataclass(frozen=True, kw_only=True)
class DoctorOptions(Options):
    robot: str | None = None
    driver: str | None = None
    camera: str | None = None
    wiggle: bool = False
    scale: Literal["ray", "submitit", "joblib"] | None = None
    address: str = "auto"


def doctor(options: DoctorOptions, extra: Mapping[str, str]) -> Outcome:
    """Say whether this machine can do the job, and what to do if it cannot:

        terrafirma doctor
        terrafirma doctor robot=simple_pendulum driver=sim
        terrafirma doctor robot=double_pendulum_c1 driver=can wiggle=true
        terrafirma doctor camera=0
        terrafirma doctor robot=simple_pendulum dr=simple_pendulum_default

    Reads   installed packages, what the kernel tells of real time, idle states, clocks, CAN, serial ports and cameras,
            8 MB written to the disk of the runs, the robot's file, one reading of the driver, a second of the camera.
            Moves nothing but with wiggle=true. Costs 1-2 seconds.
    Writes  result.json; with wiggle=true calibration.yaml, which the driver takes as calibration=FILE.
    Keys    robot=R (name or YAML file), driver=D (needs robot); further keys go to the driver. wiggle=true moves one
            joint after another by six degrees at a fifth of its torque and asks what turned: mirrored and exchanged
            motors come right in calibration.yaml. camera=C is a source as run's video= takes it, with or without the
            name of the robot's camera before it: 0, side:0, /dev/video2, clip.mp4. With dr=NAME or posterior=FILE it
            looks at that randomization instead: what each term does to the robot in a rollout.
            scale=ray|submitit|joblib asks whether rollouts and sweeps can be spread with that; address=HOST:PORT
            names the Ray cluster, which is joined for a moment (else the one that runs, if any).
    Ends with 0 when everything asked for works, 2 when something is missing, 5 when driver or camera do not answer.
    What works, and would work better, is a note, with the command that makes it so.
    """
    if options.wiggle and not options.driver:
        raise ConfigError("wiggle=true needs driver=D: which motors are to move?")
    if options.driver and not options.robot:
        raise ConfigError(f"driver={options.driver} needs robot=R: a driver is opened for a robot.")
    if extra and not options.driver:
        raise ConfigError(f"'{next(iter(extra))}' is no key of doctor, and without driver=D no driver takes it.")
    run = options.start("doctor", extra)
    examination = _Examination()
    examination.machine(options.out)
    if options.robot:
        examination.robot(options.robot)
    if options.driver and examination.spec is not None:
        examination.driver(options.driver, options.robot or "", extra)
        if options.wiggle and examination.exit_code == 0:
            examination.wiring(options.driver, options.robot or "", extra, run.out / "calibration.yaml")
    if options.camera:
        examination.camera(options.camera)
    if options.scale:
        examination.engine(options.scale, options.address)
    summary = "\n".join(_line(check) for check in examination.checks)
    return Outcome(run.finish({"checks": examination.checks}, ("checks",)), examination.exit_code, summary)


def _line(check: Mapping[str, Any]) -> str:
    """What was seen, and in the same line what to do."""
    if not check["ok"]:
        return f"FAIL  {check['name']}: {check['detail']}. Mend: {check['fix']}"
    if check["fix"]:
        return f"note  {check['name']}: {check['detail']}. Better: {check['fix']}"
    return f"ok    {check['name']}: {check['detail']}"


class _Examination:
    """The checks made so far."""

    def __init__(self) -> None:
        self.checks: list[dict[str, Any]] = []
        self.spec: RobotSpec | None = None
        self.exit_code = 0

    def check(self, name: str, look: Callable[[], str | Seen], fix: str) -> None:
        """Record what `look` finds; an error it raises is the detail of a failed check, which `fix` mends."""
        try:
            found = look()
            seen = found if isinstance(found, Seen) else Seen(found)
            self.checks.append({"name": name, "ok": True, "detail": seen.detail, "fix": seen.fix})
        except (ConfigError, DriverError, ImportError, OSError, metadata.PackageNotFoundError) as error:
            self.checks.append({"name": name, "ok": False, "detail": str(error) or type(error).__name__, "fix": fix})
            self.exit_code = 5 if isinstance(error, DriverError) else self.exit_code or 2

    def machine(self, out: Path | None) -> None:
        """Packages, a place to write, and what the subjects of robot/checks look at."""
        for package in EDGE:
            self.check(package, lambda p=package: metadata.version(p), f"pip install '{package}'")  # type: ignore[misc]
        self.check("onnxruntime providers", _providers, "pip install --force-reinstall onnxruntime")
        folder = out or Path("runs")
        self.check("out", lambda: _writable(folder), f"make {folder} writable, or give out=DIR")
        host = Host(folder)
        for subject in (software, graphics, realtime, recording, ports):
            for name, look in subject.LOOKS.items():
                self.note(name, lambda look=look: look(host))  # type: ignore[misc]

    def note(self, name: str, look: Callable[[], Seen]) -> None:
        """Record a look at what no job depends on: an error it raises is told, and fails nothing."""
        try:
            seen = look()
        except (OSError, ValueError, metadata.PackageNotFoundError) as error:
            seen = Seen(f"could not be looked at ({type(error).__name__}: {error})")
        self.checks.append({"name": name, "ok": True, "detail": seen.detail, "fix": seen.fix})

    def engine(self, name: str, address: str) -> None:
        """Whether rollouts and sweeps can be spread with an engine."""
        module, extra = ENGINES[name]
        if name == "ray":
            self.check("scale ray", lambda: cluster.ray(address), cluster.mend(address))
            more = "give the machine or container more (docker run --shm-size=1g)"
            self.check("shared memory", lambda: cluster.shared_memory(Host(Path())), more)
            return

        def look() -> str:
            if not installed(module):
                raise ConfigError(f"the package '{module}' is not installed")
            return metadata.version(module)

        self.check(f"scale {name}", look, f"pip install 'terrafirma[{extra}]'")

    def robot(self, name: str) -> None:
        """The robot's file, and where MuJoCo is installed its simulation."""

        def load() -> str:
            self.spec = load_spec(name)
            return f"{self.spec.name} ({self.spec.fingerprint()}): {', '.join(self.spec.joint_names)}"

        self.check("robot", load, "give the name of a robot in configs/robot, or a YAML file with `spec:`")
        if self.spec is not None and installed("mujoco"):
            fix = "give the robot's file a `model:` with an `mjcf:` that has the joints of its spec"
            self.check("simulation", lambda: self._answers("sim", name, {}), fix)

    def driver(self, driver: str, name: str, extra: Mapping[str, str]) -> None:
        """The driver opens and gives one reading."""
        fix = "check power, cable, port and permissions; driver options are given as key=value"
        self.check(f"driver {driver}", lambda: self._answers(driver, name, extra), fix)

    def camera(self, source: str) -> None:
        """The camera opens, and gives pictures that change at a rate."""
        fix = (
            "check its number (ls /dev/video*), cable, whether another program has it, and that you may read it "
            "(sudo usermod -aG video $USER, then log in again)"
        )
        self.check(f"camera {source}", lambda: _seen(source, self.spec), fix)

    def wiring(self, driver: str, name: str, extra: Mapping[str, str], path: Path) -> None:
        """Every joint turns when it is told to, and the right way; `path` gets the wiring that makes it so."""
        self.check("wiring", lambda: self._wiggled(driver, name, extra, path), f"give the driver calibration={path}")

    def _wiggled(self, driver: str, name: str, extra: Mapping[str, str], path: Path) -> str:
        assert self.spec is not None
        known = driver_options(driver)
        given = {k: config.of_text(known[k], extra[k], f"driver '{driver}'", k) for k in WIRES if k in extra}
        wires = wiring(self.spec, **given)
        with closing(self._open(driver, name, extra)) as opened:
            seen = wiggle(opened, self.spec, _ask)
        config.save(path, corrected(wires, seen))
        wrong = [s for s in seen if s.joint != s.commanded or s.sense < 0]
        if wrong:
            told = ", ".join(f"'{s.commanded}' turned {'-' if s.sense < 0 else ''}{s.joint}" for s in wrong)
            raise ConfigError(f"{told}; {path} has it right")
        return f"{len(seen)} joints turn as they are told"

    def _open(self, driver: str, name: str, extra: Mapping[str, str]) -> Driver:
        assert self.spec is not None
        given = {"robot": find_robot(name)} if "robot" in driver_options(driver) else {}
        return open_driver(driver, self.spec, **{**given, **extra})

    def _answers(self, driver: str, name: str, extra: Mapping[str, str]) -> str:
        assert self.spec is not None
        with closing(self._open(driver, name, extra)) as opened:
            joints = opened.read(1.0).joints.ordered(self.spec.joint_names)
        return "reads " + ", ".join(f"{n} {q:.3f}" for n, q in zip(joints.names, joints.position, strict=True))


def _seen(source: str, spec: RobotSpec | None) -> str:
    """Size, rate and brightness of a second of pictures; DriverError when none come or they stay the same."""
    from robot.drivers.camera import Camera

    named, _, rest = source.partition(":")
    known = {c.name: c for c in spec.cameras} if spec is not None else {}
    given = known.get(named, CameraSpec(name="camera", width=64, height=64))
    camera = Camera(given, rest if named in known else source)
    try:
        pictures = {}
        until = time.monotonic() + LOOKED_S
        while time.monotonic() < until and camera.problem is None:  # a short clip ends earlier
            t_ns, image = camera.newest
            pictures[t_ns] = image
            time.sleep(0.005)
    finally:
        camera.close()
    stamps = sorted(pictures)
    if len(stamps) < 2 or all((p == pictures[stamps[0]]).all() for p in pictures.values()):
        raise DriverError(f"camera {source}: the same picture for {LOOKED_S:g} s; it is frozen, or its lens is covered")
    height, width = pictures[stamps[0]].shape[:2]
    rate = (len(stamps) - 1) / (1e-9 * (stamps[-1] - stamps[0]))
    light = sum(float(p.mean()) for p in pictures.values()) / len(pictures)
    return f"{width} x {height} at {rate:.0f} Hz, mean brightness {light:.0f} of 255"


def _ask(question: str) -> str:
    try:
        return input(question)
    except EOFError as error:
        raise ConfigError("wiggle=true asks what turned, and nobody answers: run it in a terminal") from error


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
