"""The studies' arms run on surrogates, small, and say what a known encoder is worth."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from policies.encoders.vision import VisionConfig, VisionEncoder
from robot.config import ConfigError
from sim.model import find_robot
from transfer import studies, study
from transfer.images import vision_card
from transfer.study_images import Images, judge

ROBOT = find_robot("simple_pendulum")


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Images:
    torch.manual_seed(0)
    card = vision_card(ROBOT, VisionConfig(channels=(4, 8, 8), points=2, features=4))
    encoder = VisionEncoder(replace(card, lineage={"randomization": "nominal"}))
    folder = encoder.save(tmp_path_factory.mktemp("encoder"))
    return Images(ROBOT, lambda seed: folder, quick=True)


def test_every_way_gives_an_error_and_the_queue_a_table(images: Images, tmp_path: Path) -> None:
    result = study.study(images, tmp_path, [3])
    assert set(result["table"]) == set(images.ways)
    assert set(result["table"][study.SCRATCH]) == {"5", "20"}
    errors = [s["error"] for s in result["scores"].values()]
    assert all(0.0 < e < 180.0 for e in errors) and len(set(errors)) > 4
    assert set(result["data_efficiency_ratio"]) == set(study.BASELINES)


def test_the_judge_measures_the_shorter_way_round(images: Images) -> None:
    robot = images._robots.get(3) or images._robot(3)

    class Knowing(torch.nn.Module):
        """Tells every state but for a turn by 10 degrees."""

        card = robot.encoder.card
        done = 0

        def forward(self, pictures: torch.Tensor) -> object:
            rows = slice(self.done, self.done + len(pictures))
            self.done += len(pictures)
            angle = np.arctan2(robot.judge.state[rows, 1], robot.judge.state[rows, 0]) + np.radians(10.0)
            turned = torch.from_numpy(np.stack([np.cos(angle), np.sin(angle)], axis=1))
            return robot.encoder(pictures)._replace(state=turned)

    scores = judge(Knowing(), robot.judge)  # type: ignore[arg-type]
    assert scores["error"] == pytest.approx(10.0, abs=1e-3) and scores["p90"] == pytest.approx(10.0, abs=1e-3)


def test_an_unknown_study_is_named_with_the_nearest() -> None:
    with pytest.raises(ConfigError, match="data_efficiency"):
        studies.named("data_eficiency")
