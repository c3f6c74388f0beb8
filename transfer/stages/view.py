"""Look at what a robot did, recorded or simulated:

    terrafirma view log=runs/run/episode.mcap
    terrafirma view run=runs/train
    terrafirma view run=runs/trials format=mp4 camera=side
    terrafirma view run=runs/train live=true

Reads   an episode; or a folder: its episodes, or else its policy or bundle, which is then simulated at its task.
Writes  view.html, one file that opens without a network, or view.mp4; and result.json.
Costs   a second; an mp4 some seconds an episode.
live=true also shows it at http://localhost:8080 until Ctrl-C (needs the extra `view`).
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from robot import log as logs
from robot.config import ConfigError
from robot.result import Run
from sim.model import Model, RobotConfig
from sim.motion import Motion, find_logs, of_controller, of_log
from sim.randomization import NOMINAL
from transfer.choices import robot_called
from transfer.cli import Common

VOLATILE = ("view",)


@dataclass(frozen=True, kw_only=True)
class Config(Common):
    run: Path | None = None
    """The folder of a stage, a data set, a policy or a bundle."""
    log: Path | None = None
    """One episode (MCAP)."""
    robot: RobotConfig | None = None
    """Whose log it is; default the robot that the log names. A robot that is no name is given by its file."""
    n: int = 6
    """At most so many episodes."""
    format: Literal["html", "mp4"] = "html"
    camera: str | None = None
    """Of the model, for an mp4; default its first."""
    width: int = 640
    height: int = 480
    """Of an mp4."""
    live: bool = False
    port: int = 8080

    def __post_init__(self) -> None:
        if (self.run is None) == (self.log is None):
            raise ConfigError("view needs one of run=DIR and log=FILE.")
        if min(self.n, self.width, self.height) < 1:
            raise ConfigError("n, width and height must be at least 1.")


def run(cfg: Config, run: Run) -> dict[str, Any]:
    if cfg.live:
        from transfer.live import load_viser, serve

        load_viser()  # before any work is done
    motions = motions_of(cfg, run)
    if cfg.format == "mp4":
        from transfer.film import write_film

        path = write_film(run.out / "view.mp4", motions, cfg.camera, cfg.width, cfg.height)
    else:
        from robot import files
        from transfer.viewer import build_page

        path = run.out / "view.html"
        shown = cfg.log if cfg.log is not None else cfg.run
        files.write_text(path, build_page(f"terrafirma: {shown}", motions))
    if cfg.live:
        serve(motions, cfg.port, seconds=1.0 if cfg.quick else None)
    return {"view": str(path), "episodes": [m.name for m in motions]}


def motions_of(cfg: Config, run: Run) -> list[Motion]:
    """What the configuration points at; ConfigError says what would do."""
    if cfg.log is not None:
        return [_of_file(cfg.log, cfg.robot, run, cfg.log.name)]
    folder = cfg.run
    assert folder is not None
    if not folder.is_dir():
        raise ConfigError(f"run={folder}: there is no such folder.")
    episodes = [p for p in find_logs(folder) if run.out.resolve() not in p.resolve().parents][: cfg.n]
    if episodes:
        return [_of_file(p, cfg.robot, run, p.relative_to(folder).as_posix()) for p in episodes]
    for place in (folder, folder / "policy"):
        if (place / "policy.yaml").is_file():
            return _of_policy(place, cfg, run)
    for place in (folder, folder / "bundle"):
        if (place / "manifest.yaml").is_file():
            return _of_bundle(place, cfg, run)
    raise ConfigError(f"run={folder}: it holds no episode (.mcap), no policy and no bundle.")


def _of_file(path: Path, robot: RobotConfig | None, run: Run, name: str) -> Motion:
    log = logs.load(path)
    run.input(path)
    return of_log(log, Model(robot or robot_called(log.robot)), name)


def _of_policy(folder: Path, cfg: Config, run: Run) -> list[Motion]:
    """Evaluation episodes of a policy on the nominal robot."""
    from policies.policy import Policy
    from sim.tasks import load_task
    from transfer.shaping import as_made

    policy = Policy.load(run.input(folder))
    task = as_made(load_task(policy.task), policy)
    robot = cfg.robot or robot_called(policy.spec.name)
    seeds = range(cfg.seed, cfg.seed + min(cfg.n, 1 if cfg.quick else 3))
    return [of_controller(policy.episode(), task, robot, NOMINAL, seed=s) for s in seeds]


def _of_bundle(folder: Path, cfg: Config, run: Run) -> list[Motion]:
    """Episodes of a bundle in the onboard loop, on the simulated robot: what such a run records."""
    from robot import bundle
    from transfer.trials import Trial, episode_of

    controller = bundle.load(run.input(folder))
    model = Model(cfg.robot or robot_called(controller.spec.name))
    motions = []
    for seed in range(cfg.seed, cfg.seed + min(cfg.n, 1 if cfg.quick else 3)):
        log = episode_of(Trial(bundle=folder, driver="sim", task=controller.task, seed=seed), controller)
        log.save(run.out / f"episode_{seed}.mcap")
        motions.append(of_log(log, model, f"{controller.task}, seed {seed}"))
    return motions
