"""`finetune encoder=`: videos with labels and without, logs with pictures, and what is refused."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from robot.config import ConfigError
from sim.model import find_robot
from sim.surrogate import record_episode
from transfer import cli
from transfer.dataset import DataRefused, Episode, save_dataset

torch = pytest.importorskip("torch")
cv2 = pytest.importorskip("cv2")
FRAMES = 40


@pytest.fixture(scope="module")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small one that nobody pretrained; it says that it was, on the nominal."""
    from policies.encoders.vision import VisionConfig, VisionEncoder
    from transfer.images import vision_card

    torch.set_num_threads(1)
    torch.manual_seed(0)
    card = vision_card(find_robot("simple_pendulum"), VisionConfig(channels=(4, 4, 4), points=2, features=4))
    card = replace(card, lineage={"randomization": "nominal"})
    return VisionEncoder(card).eval().save(tmp_path_factory.mktemp("pretrained") / "encoder")


@pytest.fixture(scope="module")
def film(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A disc that turns about the middle of 72 x 72 pixels, and the labels of every frame."""
    folder = tmp_path_factory.mktemp("film")
    writer = cv2.VideoWriter(str(folder / "film.mp4"), cv2.VideoWriter.fourcc(*"mp4v"), 30.0, (72, 72))
    rows = ["frame,angle_rad"]
    for i in range(FRAMES):
        angle, frame = 0.1 * i - 1.0, np.full((72, 72, 3), 200, np.uint8)
        cv2.circle(frame, (36 + round(25 * np.sin(angle)), 36 + round(25 * np.cos(angle))), 5, (0, 0, 0), -1)
        writer.write(frame)
        rows.append(f"{i},{angle:.3f}")
    writer.release()
    (folder / "labels.csv").write_text("\n".join(rows) + "\n")
    return folder / "film.mp4", folder / "labels.csv"


def finetune(out: Path, *words: str) -> dict[str, Any]:
    result: dict[str, Any] = json.loads(cli.call("finetune", [*words, f"out={out}", "quick=true"]).read_text())
    return result


def test_labels_of_the_first_half_are_judged_on_the_second(
    encoder: Path, film: tuple[Path, Path], tmp_path: Path
) -> None:
    from policies.encoders.vision import VisionEncoder

    words = (f"encoder={encoder}", f"video={film[0]}", f"labels={film[1]}", "n_labels=8")
    result = finetune(tmp_path / "run", *words)
    assert result["judged"]["before"]["median_deg"]["n"] == FRAMES // 2
    assert set(result["judged"]["change"]) == {"median_deg", "mean_deg", "p90_deg", "share_over_10_deg"}
    assert {"before", "after"} == set(result["held_out_score"]) and "mean" in result["forgetting"]
    kept = VisionEncoder.load(Path(result["encoder"]))
    assert ("adapted_from" in kept.card.lineage) == result["accepted"]
    assert len((tmp_path / "run" / "frames.csv").read_text().splitlines()) == FRAMES + 1
    with pytest.raises(DataRefused, match="the first half of the motion has 20 labelled frames"):
        finetune(tmp_path / "more", *words[:3], "n_labels=21")


def test_a_video_needs_no_labels(encoder: Path, film: tuple[Path, Path], tmp_path: Path) -> None:
    result = finetune(tmp_path / "run", f"encoder={encoder}", f"video={film[0]}")
    assert result["judged"] is None and "angle_error" not in result and result["frames"] == FRAMES


def test_logs_label_their_pictures(encoder: Path, tmp_path: Path) -> None:
    robot = find_robot("simple_pendulum")
    logs = [record_episode(robot, "chirp", 2.0, truth=2, seed=s, cameras=("side",)) for s in (1, 2)]
    blind = record_episode(robot, "chirp", 1.5, truth=2, seed=3)
    episodes = [
        Episode(file="", source=f"log{i}.mcap", sha256=f"{i}" * 64, seconds=2.0, accepted=True)
        for i in range(len(logs) + 1)
    ]
    files = [log.save(tmp_path / f"{i}.mcap") for i, log in enumerate([*logs, blind])]
    save_dataset(tmp_path / "logs", robot.spec, list(zip(episodes, files, strict=True)))
    result = finetune(tmp_path / "run", f"encoder={encoder}", f"logs={tmp_path / 'logs'}")
    assert result["frames"] == sum(len(log["camera.side"].t_ns) for log in logs), "the blind log is left out"
    assert {"ms", "identified"} == set(result["latency"]) and len(result["latency"]["ms"]["ci95"]) == 2
    save_dataset(tmp_path / "blind", robot.spec, [(episodes[2], blind.save(tmp_path / "blind.mcap"))])
    with pytest.raises(DataRefused, match="none of the 1 episodes has pictures of camera 'side'"):
        finetune(tmp_path / "refused", f"encoder={encoder}", f"logs={tmp_path / 'blind'}")


def test_what_to_adapt_to_must_be_told(encoder: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="needs one of video= and logs="):
        finetune(tmp_path / "run", f"encoder={encoder}")
