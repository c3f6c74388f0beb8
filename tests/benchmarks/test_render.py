"""Synthetic data is made nearly as fast as a bare renderer draws; run by `make bench`, on a machine of any load."""

from __future__ import annotations

from pathlib import Path

import pytest

from robot.result import Run
from sim.render import why_no_egl
from transfer.bench import render
from transfer.stages.bench import Config


@pytest.mark.skipif(bool(why_no_egl()), reason=why_no_egl())
def test_synthesize_keeps_four_fifths_of_the_renderer_s_rate(tmp_path: Path) -> None:
    keys = render.measure(Config(what="render"), Run("bench", tmp_path))
    for robot, ratio in keys["cpu_ratio"].items():
        assert ratio["synthesize"] >= 0.8, robot
    assert keys["ratio"]["renderer"] >= 0.8
