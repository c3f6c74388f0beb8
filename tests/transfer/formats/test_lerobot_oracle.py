"""LeRobot itself as the judge: it opens and trains on what we write, and we read what it writes.

Only where TERRAFIRMA_LEROBOT_PYTHON names the Python of an environment of its own (3.12 or later) with
`pip install "lerobot[dataset]==0.6.1"`, which takes 5 GB.
"""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import numpy as np
import pytest

from robot.log import EpisodeLog
from sim.model import RobotConfig
from tests.transfer.formats import made
from transfer.formats import lerobot
from transfer.formats.column_map import Mapped
from transfer.formats.lerobot_writer import LeRobotConfig, write

ORACLE = os.environ.get("TERRAFIRMA_LEROBOT_PYTHON", "")
pytestmark = [
    pytest.mark.skipif(not ORACLE, reason="TERRAFIRMA_LEROBOT_PYTHON names no Python with LeRobot 0.6.1"),
    pytest.mark.timeout(900),
]
SCRIPT = Path(__file__).with_name("lerobot_oracle.py")


def ask(what: str, folder: Path, tmp_path: Path) -> dict[str, np.ndarray]:
    """What LeRobot answers."""
    out = tmp_path / f"{what}.npz"
    offline = {"HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path / "hub"), "HF_DATASETS_CACHE": str(tmp_path / "cache")}
    env = {**os.environ, **offline, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [ORACLE, str(SCRIPT), what, str(folder), str(out)],
        capture_output=True, text=True, cwd=tmp_path, env=env, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    with np.load(out) as answer:
        return dict(answer)


@pytest.fixture(scope="module")
def logs(double_pendulum: RobotConfig) -> list[EpisodeLog]:
    return [made.episode(double_pendulum.spec, f"run{k}", 20 + 5 * k) for k in range(3)]


@pytest.mark.parametrize("pictures", ["video", "image"])
def test_lerobot_opens_what_we_write_and_trains_a_step(
    pictures: str, logs: list[EpisodeLog], double_pendulum: RobotConfig, tmp_path: Path
) -> None:
    paths = [log.save(tmp_path / f"{log.name}.mcap") for log in logs]
    cfg = LeRobotConfig(pictures=pictures)  # type: ignore[arg-type]
    folder = write(tmp_path / "set", paths, double_pendulum.spec, cfg).folder
    seen = ask("read", folder, tmp_path)
    state = [np.hstack([log["joint.position"].values, log["joint.velocity"].values]) for log in logs]
    assert np.array_equal(seen["observation.state"], np.concatenate(state).astype(np.float32))
    commands = np.concatenate([log["command.effort"].values for log in logs])
    assert np.array_equal(seen["action"], commands.astype(np.float32))
    frames = np.concatenate([np.arange(len(s)) for s in state])
    assert np.array_equal(seen["timestamp"], (frames / 30).astype(np.float32)) and set(seen["task"]) == {"swing up"}
    ours = [r.log["camera.front"].values for r in lerobot.read(folder, double_pendulum.spec) if r.log is not None]
    apart = np.abs(np.concatenate(ours).astype(int) - seen["images"])
    assert apart.max() <= (0 if pictures == "image" else 2), apart.max()
    first, second = ask("train", folder, tmp_path)["losses"]
    assert np.isfinite(first) and second < first


def test_we_read_what_lerobot_writes(double_pendulum: RobotConfig, tmp_path: Path) -> None:
    spec = double_pendulum.spec
    seen = ask("write", tmp_path / "set", tmp_path)
    (recording,) = lerobot.read(tmp_path / "set", spec)
    assert recording.log is None and recording.findings[0].kind == "unstated_unit"
    file = tmp_path / "columns.yaml"
    file.write_text(made.confirmed(recording.proposal, joint_position="deg", command_position="deg"))
    read = list(Mapped.of(file).read(tmp_path / "set", spec))
    assert [len(r.log["joint.position"].t_ns) for r in read if r.log] == [20, 25, 30]
    for k, recording in enumerate(read):
        log, mine = recording.log, seen["episode"] == k
        assert log is not None and log.meta["task"] == seen["task"][mine][0]
        stamps = log["joint.position"].t_ns
        assert np.abs(stamps * 1e-9 - seen["timestamp"][mine]).max() < 1e-7  # theirs are float32
        assert np.array_equal(stamps, np.round(np.arange(len(stamps)) / 30 * 1e9))
        assert np.array_equal(
            log["joint.position"].values, np.radians(seen["observation.state"][mine].astype(np.float64))
        )
        assert np.array_equal(log["camera.front"].t_ns, stamps)
        assert np.abs(log["camera.front"].values.astype(int) - seen["images"][mine]).max() <= 2
