"""Plug-ins: the example package gives a robot, a task, a format and a driver; broken ones are told of by name."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
import tomllib

from robot import cli, driver, folders, plugins
from robot.config import ConfigError
from robot.spec import RobotSpec, load_spec
from tests.robot.driver_conformance import DriverConformance

ROOT = Path(__file__).resolve().parents[1]
EXAMPLE = ROOT / "tests" / "example_plugin"


@pytest.fixture(scope="session")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The example, built by its own pyproject.toml and unpacked as pip would; nothing is asked of any network."""
    source, out = tmp_path_factory.mktemp("source") / "plugin", tmp_path_factory.mktemp("wheel")
    shutil.copytree(EXAMPLE, source, ignore=shutil.ignore_patterns("__pycache__", "build", "*.egg-info"))
    code = f"from setuptools.build_meta import build_wheel; build_wheel({str(out)!r})"
    done = subprocess.run([sys.executable, "-c", code], cwd=source, capture_output=True, text=True)
    if "No module named 'setuptools'" in done.stderr:
        pytest.skip("building the example needs setuptools")
    assert done.returncode == 0, done.stderr
    site = tmp_path_factory.mktemp("site")
    zipfile.ZipFile(next(out.glob("*.whl"))).extractall(site)
    return site


@pytest.fixture
def installed(wheel: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The example beside the other packages, and an empty folder to work in."""
    monkeypatch.syspath_prepend(str(wheel))
    monkeypatch.chdir(tmp_path)
    return wheel


def distribution(site: Path, name: str, entries: str, **modules: str) -> None:
    """A distribution as pip leaves it: metadata, and modules."""
    info = site / f"{name}-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(entries)
    for module, text in modules.items():
        (site / f"{module}.py").write_text(text)


def result(path: str | Path) -> dict:
    return json.loads((Path(path) / "result.json").read_text())


def test_a_robot_that_has_the_edge_packages_alone_records_on_the_plug_ins_driver(wheel: Path, tmp_path: Path) -> None:
    """A process of its own, as a shell starts it."""
    words = ["record", "robot=flywheel", "driver=flywheel_bench", "inertia=0.004", "excitation=chirp", "seconds=2"]
    blocked = ["torch", "mujoco", "gymnasium", "stable_baselines3", "hydra", "scipy", "cv2", "sim", "policies"]
    code = (
        f"import sys; sys.modules |= dict.fromkeys({blocked!r}); from robot.cli import main; "
        f"sys.exit(main([*{words!r}, 'out=bench']))"
    )
    path = os.pathsep.join([str(wheel), str(ROOT)])
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, env={**os.environ, "PYTHONPATH": path}, capture_output=True,
        text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert result(tmp_path / "bench")["frames"] == 200


def test_a_person_uses_robot_format_and_task_from_the_command_line(
    installed: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    t = np.arange(0.0, 4.0, 0.01)
    rows = "\n".join(f"{1e6 * x:.0f};{90.0 * (1 - np.cos(2 * x)):.3f};{0.02 * np.cos(2 * x):.4f}" for x in t)
    Path("a.wheel").write_text(f"# flywheel bench\n{rows}\n")
    Path("torn.wheel").write_text("# flywheel bench\n1;2;3\n4;5\n")
    for words in (
        "record robot=flywheel driver=sim excitation=chirp seconds=2 out=sim",
        "ingest robot=flywheel path=[a.wheel,torn.wheel] out=logs",
        "bench what=env tasks=[flywheel_turn] peers=[] scaling=false quick=true out=steps",
    ):
        assert cli.main(words.split()) == 0, capsys.readouterr().err
    assert result("sim")["frames"] == 200
    whole, torn = result("logs")["episodes"]
    assert whole["accepted"] and not torn["accepted"]
    assert any(row["name"].startswith("flywheel_turn") for row in result("steps")["rows"])


class TestFlywheelBench(DriverConformance):
    @pytest.fixture
    def spec(self, installed: Path) -> RobotSpec:
        return load_spec("flywheel")

    @pytest.fixture
    def driver(self, spec: RobotSpec) -> driver.Driver:
        return driver.open_driver("flywheel_bench", spec)


def test_the_prior_and_the_recipe_of_a_plug_in_follow_from_its_task(installed: Path) -> None:
    from transfer.cli import compose

    data = compose("train", ["task=flywheel_turn"])
    assert data["robot"]["spec"]["name"] == "flywheel" and data["dr"]["name"] == "flywheel_default"
    assert data["recipe"]["env_steps"] == 100_000
    assert Path(data["robot"]["model"]["mjcf"]) == (installed / "flywheel" / "robot" / "flywheel.xml").resolve()


BROKEN = "import no_such_package\n"
RECORD = "record robot=simple_pendulum excitation=chirp seconds=2 driver"


@pytest.mark.parametrize(
    ("group", "entry", "module", "words", "said"),
    [
        ("drivers", "odd = odd:Odd", BROKEN, f"{RECORD}=odd", "No module named 'no_such_pa"),
        ("drivers", "odd = odd:Odd", "x = 1\n", f"{RECORD}=odd", "odd has no 'Odd'"),
        ("drivers", "odd = odd:Odd", "class Odd: read = write = print\n", f"{RECORD}=odd",
         "lacks from_config, now_ns, wait, stop, close"),
        ("drivers", "odd = odd:Odd", "Odd = 3\n", f"{RECORD}=odd", "it is no class"),
        ("drivers", "odd = not a module", "", f"{RECORD}=odd", "`package.module`"),
        ("drivers", "can = odd:Odd", "", f"{RECORD}=can", "from terrafirma itself and from"),
        ("drivers", "sim = odd:Odd", "", f"{RECORD}=sim", "from terrafirma itself and from"),
        ("tasks", "odd = odd", "def f(:\n", "evaluate task=odd", "SyntaxError"),
        ("tasks", "odd = odd", "raise SystemExit(3)\n", "evaluate task=odd", "SystemExit: 3"),
        ("tasks", "odd = odd", "TASKS = {'odd': 1}\n", "evaluate task=odd", "TASKS has no Task 'odd'"),
        ("tasks", "arm_reach = odd", BROKEN, "evaluate task=arm_reach", "from terrafirma itself and from"),
        ("robots", "odd = odd", "", "doctor robot=odd", "there is no package 'odd'"),
        ("robots", "odd = robot", "", "doctor robot=odd", "it has no robot/odd.yaml"),
    ],
)  # fmt: skip
def test_a_broken_plug_in_is_one_sentence_that_names_its_distribution(
    group: str, entry: str, module: str, words: str, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    site = tmp_path / "site"
    distribution(site, "broken-plug", f"[terrafirma.{group}]\n{entry}\n", odd=module)
    if not module:
        (site / "odd.py").unlink()
    monkeypatch.syspath_prepend(str(site))
    monkeypatch.delitem(sys.modules, "odd", raising=False)
    monkeypatch.chdir(tmp_path)
    code = cli.main([*words.split(), "out=o"])
    captured = capsys.readouterr()
    told = captured.err if code == 2 and captured.err else captured.out
    assert code == 2 and "broken-plug" in told and said in told
    assert "Traceback" not in captured.err + captured.out


def test_what_does_not_use_a_broken_plug_in_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from sim import tasks
    from transfer.cli import compose
    from transfer.formats import format_of, plugged

    entries = "".join(f"[terrafirma.{kind}]\nbad = bad_one\n" for kind in ("robots", "tasks", "formats", "drivers"))
    distribution(tmp_path / "site", "broken-plug", entries, bad_one=BROKEN)
    monkeypatch.syspath_prepend(str(tmp_path / "site"))
    monkeypatch.chdir(tmp_path)
    plugged._tell.cache_clear()
    assert "bad" in tasks.names() and "bad" in driver.driver_names()
    assert compose("train", [])["robot"]["spec"]["name"] == "simple_pendulum"
    assert tasks.tasks_of("simple_pendulum")[0].name == "pendulum_swingup"
    assert load_spec("simple_pendulum").name == "simple_pendulum"
    Path("a.csv").write_text("time,pos_meas\n0,1\n")
    for _ in range(2):
        reader = format_of(Path("a.csv"))
        assert reader is not None and reader.__name__ == "transfer.formats.csv"  # type: ignore[attr-defined]
    told = [line for line in capsys.readouterr().err.splitlines() if "format 'bad'" in line]
    assert len(told) == 1 and "broken-plug 1.0" in told[0] and "It is left out." in told[0]


def test_a_format_that_fails_is_a_finding_that_names_its_distribution(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from transfer.formats import format_of

    module = "def detect(path): return path.suffix == '.zzz'\ndef read(path, spec): return 1 / 0\n"
    distribution(tmp_path / "site", "zzz-plug", "[terrafirma.formats]\nzzz = zzz_format\n", zzz_format=module)
    monkeypatch.syspath_prepend(str(tmp_path / "site"))
    (tmp_path / "a.zzz").write_text("x")
    reader = format_of(tmp_path / "a.zzz")
    assert reader is not None
    (recording,) = reader.read(tmp_path / "a.zzz", load_spec("simple_pendulum"))
    assert recording.log is None and "zzz-plug 1.0" in recording.findings[0].detail
    assert "ZeroDivisionError" in recording.findings[0].detail and recording.findings[0].blocking


def test_two_plug_ins_of_one_name_are_refused_and_a_third_name_is_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("first", "second"):
        distribution(tmp_path / name, f"{name}-plug", f"[terrafirma.drivers]\nodd = x:Y\n{name} = x:Y\n")
        monkeypatch.syspath_prepend(str(tmp_path / name))
    with pytest.raises(ConfigError, match=r"comes from first-plug 1\.0 and from second-plug 1\.0.*Rename it"):
        plugins.pick("driver", "odd")
    assert str(plugins.pick("driver", "first")) == "driver 'first' of the plug-in first-plug 1.0"
    assert plugins.pick("driver", "third") is None


def test_a_name_that_two_folders_differ_about_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    mine = tmp_path / "mine" / "robot"
    mine.mkdir(parents=True)
    same = folders.find("robot", "so101").read_bytes()
    (mine / "so101.yaml").write_bytes(same)
    with folders.added([str(tmp_path / "mine")]):
        assert folders.find("robot", "so101").read_bytes() == same
        (mine / "so101.yaml").write_bytes(same + b"# edited\n")
        with pytest.raises(
            ConfigError, match=r"robot 'so101' stands in .*so101\.yaml \(terrafirma\) and in .*\(yours\)"
        ):
            folders.find("robot", "so101")
    assert folders.find("robot", "so101").read_bytes() == same
    with pytest.raises(ConfigError, match="--config-dir nowhere: there is no such folder"), folders.added(["nowhere"]):
        pass


def test_the_page_about_extending_names_what_exists() -> None:
    """Files in its text stand where it says, and its entry points are those of the example."""
    page = (ROOT / "docs" / "extending.md").read_text()
    named = set(re.findall(r"`((?:sim|robot|transfer|tests|configs|flywheel)/[\w/]+(?:\.\w+|/))`", page))
    assert len(named) > 12
    missing = [name for name in named if not any((folder / name).exists() for folder in (ROOT, EXAMPLE))]
    assert not [name for name in missing if "NAME" not in name], missing
    shown = tomllib.loads("".join(re.findall(r"```toml\n(.*?)```", page, re.DOTALL)))
    real = tomllib.loads((EXAMPLE / "pyproject.toml").read_text())
    assert shown["project"]["entry-points"] == real["project"]["entry-points"]
