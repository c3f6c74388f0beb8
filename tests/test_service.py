"""The systemd unit and the container recipe of docs/deploy: what they name exists, and nothing runs as root."""

from __future__ import annotations

import shlex
import shutil
import subprocess
from pathlib import Path

import pytest
import tomllib

from robot import cli
from robot.run import RunOptions

ROOT = Path(__file__).parents[1]
UNIT = ROOT / "docs" / "deploy" / "terrafirma.service"
RECIPE = ROOT / "docs" / "deploy" / "Containerfile"


def settings() -> dict[str, str]:
    """The unit's settings; none of them is given twice."""
    lines = [line for line in UNIT.read_text().splitlines() if "=" in line and not line.startswith("#")]
    found = dict(line.split("=", 1) for line in lines)
    assert len(found) == len(lines)
    return found


def test_the_unit_starts_what_the_command_line_knows() -> None:
    unit = settings()
    program, stage, *words = shlex.split(unit["ExecStart"])
    assert program == "/opt/terrafirma/bin/terrafirma" and stage == "run"
    options, extra = cli.parse(RunOptions, words, "unit")
    assert options.realtime and options.key == Path("/opt/public.pem") and extra == {}


def test_the_unit_is_watched_and_ends_the_supervisor_before_the_policy() -> None:
    unit = settings()
    assert (unit["Type"], unit["NotifyAccess"], unit["KillMode"]) == ("notify", "main", "mixed")
    assert 0 < int(unit["WatchdogSec"]) <= 1 and unit["Restart"] == "no"
    assert unit["User"] != "root" and "AF_CAN" in unit["RestrictAddressFamilies"]
    assert set(unit["AmbientCapabilities"].split()) == {"CAP_SYS_NICE", "CAP_IPC_LOCK"}


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="needs systemd-analyze")
def test_systemd_finds_no_fault_in_the_unit(tmp_path: Path) -> None:
    text = UNIT.read_text().replace("/opt/terrafirma/bin/terrafirma", "/bin/true")
    (tmp_path / UNIT.name).write_text(text)
    command = ["systemd-analyze", "verify", str(tmp_path / UNIT.name)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert UNIT.name not in done.stderr, done.stderr


def test_the_recipe_copies_what_the_wheel_is_made_of_and_ends_without_root() -> None:
    steps = [line.split() for line in RECIPE.read_text().splitlines()]
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    copied = {word for step in steps if step[:1] == ["COPY"] and "--from=build" not in step for word in step[1:-1]}
    assert all((ROOT / name).exists() for name in copied)
    packages = {name.split(".")[0] for name in project["tool"]["setuptools"]["packages"]}
    assert packages | {"configs", "pyproject.toml", project["project"]["readme"], "LICENSE"} <= copied
    extras = next(step[1] for step in steps if step[:1] == ["ARG"]).removeprefix("EXTRAS=").split(",")
    assert set(extras) <= set(project["project"]["optional-dependencies"])
    (user,) = [step[1] for step in steps if step[:1] == ["USER"]]
    assert user not in ("root", "0") and f"--shell /usr/sbin/nologin {user}" in RECIPE.read_text()
    assert all("slim" in step[1] for step in steps if step[:1] == ["FROM"])
