"""Completion in the shell: what it offers at each place of a line, and that bash itself takes it."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from robot import cli, completion
from robot.config import ConfigError
from robot.driver import driver_names
from transfer.cli import STAGES
from transfer.composing import choices_of, defaults_of

ROOT = Path(__file__).resolve().parents[2]
KNOWN = completion.Stages({n: o for n, (o, _, _) in cli.ONBOARD.items()}, STAGES, defaults_of, choices_of)


@pytest.mark.parametrize(
    ("line", "offered"),
    [
        ("terrafirma re", ["record", "replay", "report"]),
        ("terrafirma record dri", ["driver="]),
        ("terrafirma record driver=", [f"driver={name}" for name in driver_names()]),
        ("terrafirma record robot=so", ["robot=so101"]),
        ("terrafirma record driver=can interf", ["interface="]),
        ("terrafirma record driver=ca interf", []),
        ("terrafirma run shadow=", ["shadow=false", "shadow=true"]),
        ("terrafirma run bundle=", []),  # the shell's files
        ("terrafirma train se", ["seed="]),
        ("terrafirma train seed=1 se", []),  # it is given
        ("terrafirma train recipe=pendulum_swingup_", [
            "recipe=pendulum_swingup_lstm", "recipe=pendulum_swingup_pixels", "recipe=pendulum_swingup_sac",
            "recipe=pendulum_swingup_tqc",
        ]),
        ("terrafirma train re", ["recipe.", "recipe=", "rendered=", "resume=", "reward="]),
        ("terrafirma train recipe=arm_reach recipe.learning_rate_", ["recipe.learning_rate_end="]),
        ("terrafirma ingest screen.gap", ["screen.gap_periods=", "screen.gap_s="]),
        ("terrafirma evaluate budget=", ["budget=false", "budget=true"]),
        ("terrafirma evaluate encoder=", []),  # a path here, a choice of pretrain
        ("terrafirma pretrain encoder=ph", ["encoder=physics", "encoder=physics_precise"]),
        ("terrafirma train --c", ["--cfg", "--config-dir"]),
        ("terrafirma nonsense x", []),
    ],
)  # fmt: skip
def test_what_is_offered(line: str, offered: list[str]) -> None:
    assert completion.query(line, KNOWN) == sorted(offered)


def test_a_shell_that_is_not_known_is_refused() -> None:
    with pytest.raises(ConfigError, match="one of bash, zsh, fish"):
        completion.respond("install=csh", KNOWN)
    for shell in ("bash", "zsh", "fish"):
        assert f"query={shell}" in completion.respond(f"install={shell}", KNOWN)


@pytest.mark.skipif(shutil.which("bash") is None, reason="needs bash")
def test_bash_completes(tmp_path: Path) -> None:
    """The installed function, called as bash calls it."""
    program, line = tmp_path / "terrafirma", "terrafirma record robot=simple"
    code = "import sys; from robot.cli import main; sys.exit(main())"
    program.write_text(f"#!/bin/sh\nexec {sys.executable} -c '{code}' \"$@\"\n")
    program.chmod(0o755)
    script = f"{completion.BASH}\nCOMP_LINE='{line}' COMP_POINT={len(line)} _terrafirma\necho \"${{COMPREPLY[*]}}\""
    path = {"PATH": f"{tmp_path}:{os.environ['PATH']}", "PYTHONPATH": str(ROOT)}
    done = subprocess.run(["bash", "-c", script], env={**os.environ, **path}, capture_output=True, text=True)
    assert done.stdout.split() == ["simple_pendulum"], done.stderr
