"""The stage synthesize, as the command line runs it."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest

from robot import config
from robot.config import ConfigError
from sim.synthesize import load
from transfer import cli
from transfer.stages import synthesize as stage

ASKED = ["robot=simple_pendulum", "camera=side", "renderer=ray", "size=[32,24]", "workers=1", "shard=8", "quick=true"]


def test_the_command_line_reaches_samples_and_appearances(tmp_path: Path) -> None:
    words = [*ASKED, "dr=simple_pendulum_handheld", "samples=3", "appearances=2", "n=8", f"out={tmp_path}"]
    result = json.loads(cli.call("synthesize", words).read_text())
    samples = list(load(Path(result["dataset"])))
    assert all((a.labels["qpos"] == b.labels["qpos"]).all() for a, b in zip(samples[::2], samples[1::2], strict=True))
    assert len({s.labels["qpos"].tobytes() for s in samples}) == 4


def test_it_writes_what_the_contract_says_and_goes_on(tmp_path: Path) -> None:
    words = [*ASKED, "dr=simple_pendulum_appearance", f"out={tmp_path}"]
    result = json.loads(cli.call("synthesize", [*words, "n=10"]).read_text())
    assert result["images"] == 10 and result["renderer"] == "ray" and result["images_per_s"] > 0.0
    assert result["events_left_out"] == ["impact", "limit"]
    assert Path(result["sheet"]).is_file()
    samples = list(load(Path(result["dataset"])))
    assert len(samples) == 10 and samples[0].rgb.shape == (24, 32, 3)
    more = json.loads(cli.call("synthesize", [*words, "n=20", "resume=true"]).read_text())
    assert more["images"] == 20 and more["made"] == 12
    again = list(load(Path(more["dataset"])))
    assert [s.index for s in again] == list(range(20))
    assert all(a.rgb.tobytes() == b.rgb.tobytes() for a, b in zip(samples, again, strict=False))


def test_a_camera_of_the_mjcf_is_named_when_the_robot_lists_none(tmp_path: Path) -> None:
    cfg = config.convert(stage.Config, cli.compose("synthesize", []), "test")
    spec = dataclasses.replace(cfg.robot.spec, cameras=())
    blind = dataclasses.replace(cfg, renderer="ray", robot=dataclasses.replace(cfg.robot, spec=spec))
    with pytest.raises(ConfigError, match=r"lists no camera; name one .* with camera=NAME"):
        stage.job_of(blind)
    assert stage.job_of(dataclasses.replace(blind, camera="side")).width == stage.DEFAULT_SIDE
    with pytest.raises(ConfigError, match=r"no camera 'top'"):
        cli.call("synthesize", [*ASKED, "camera=top", f"out={tmp_path}"])
