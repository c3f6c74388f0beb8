"""The stage view: pages that need nothing from outside and show what was recorded or simulated."""

from __future__ import annotations

import base64
import dataclasses
import json
import re
import sys
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from robot import config
from robot.config import ConfigError
from robot.log import Channel, EpisodeLog
from robot.spec import RobotSpec
from sim.model import Model, find_robot
from sim.motion import FRAME_S, of_controller, of_log
from sim.randomization import NOMINAL
from sim.tasks import load_task
from transfer import cli
from transfer.viewer import build_page


def swing(spec: RobotSpec, seconds: float = 1.0, name: str = "swing") -> EpisodeLog:
    """A log at 50 Hz whose first joint moves as sin(t)."""
    t = np.arange(0.0, seconds + 1e-9, 0.02)
    position = np.zeros((len(t), len(spec.joints)))
    position[:, 0] = np.sin(t)
    stamps = (t * 1e9).astype(np.int64) + 5_000_000_000
    channel = Channel("joint.position", "rad", spec.joint_names, stamps, position)
    return EpisodeLog(name, spec.name, spec.fingerprint(), {"joint.position": channel})


def floats(text: str) -> npt.NDArray[np.float32]:
    return np.frombuffer(base64.b64decode(text), "<f4")


def data_of(page: str) -> dict[str, Any]:
    found = re.search(r"^const DATA = (\{.*\});$", page, re.MULTILINE)
    assert found is not None
    return dict(json.loads(found[1]))


def test_a_logs_page_moves_as_the_log_and_fetches_nothing(tmp_path: Path) -> None:
    spec = find_robot("simple_pendulum").spec
    log = swing(spec).save(tmp_path / "a.mcap")
    result = json.loads(cli.call("view", [f"log={log}", f"out={tmp_path / 'out'}"]).read_text())
    page = Path(result["view"]).read_text()
    assert not re.search(r"https?://|src=|@import|fetch\(", page)
    data = data_of(page)
    (episode,) = data["episodes"]
    poses = floats(episode["poses"]).reshape(-1, data["scenes"][0]["bodies"], 7)
    assert len(poses) == 31
    angle = -2 * np.arctan2(poses[:, 1, 5], poses[:, 1, 3])  # about -y
    assert np.allclose(angle, np.sin(np.arange(31) * FRAME_S), atol=1e-3)
    (trace,) = episode["traces"]
    assert trace["components"] == ["shoulder"] and trace["unit"] == "rad"
    assert np.allclose(floats(trace["values"]), np.sin(floats(trace["time"])), atol=1e-6)


def test_a_name_cannot_break_out_of_the_page() -> None:
    model = Model(find_robot("simple_pendulum"))
    page = build_page("<b>", [of_log(swing(model.spec, 0.1), model, "</script><script>alert(1)")])
    assert page.count("</script>") == 1 and "<title>&lt;b&gt;</title>" in page
    assert data_of(page)["episodes"][0]["name"] == "</script><script>alert(1)"


def test_episodes_of_one_robot_share_its_shapes(tmp_path: Path) -> None:
    spec = find_robot("simple_pendulum").spec
    for i in range(3):
        swing(spec, 0.2, f"e{i}").save(tmp_path / f"e{i}.mcap")
    result = json.loads(cli.call("view", [f"run={tmp_path}", "n=2", f"out={tmp_path / 'out'}"]).read_text())
    data = data_of(Path(result["view"]).read_text())
    assert len(data["scenes"]) == 1 and [e["scene"] for e in data["episodes"]] == [0, 0]
    assert result["episodes"] == ["e0.mcap", "e1.mcap"]


def test_a_base_turns_as_the_imu_says() -> None:
    model = Model(find_robot("quadruped"))
    log = swing(model.spec)
    t = log["joint.position"].t_ns
    half = np.linspace(0, 0.3, len(t)) / 2
    turned = np.column_stack([np.cos(half), 0 * half, 0 * half, np.sin(half)])
    imu = Channel("imu.orientation", "1", ("w", "x", "y", "z"), t, turned)
    motion = of_log(EpisodeLog("a", log.robot, log.fingerprint, {**log.channels, "imu.orientation": imu}), model)
    assert np.allclose(motion.qpos[-1, 3:7], turned[-1], atol=1e-2)
    assert motion.qpos[0, 2] == pytest.approx(0.287)
    assert "stays in place" in " ".join(motion.notes)


def test_another_spec_is_said(tmp_path: Path) -> None:
    model = Model(find_robot("simple_pendulum"))
    log = swing(model.spec)
    other = of_log(EpisodeLog(log.name, log.robot, "0" * 16, log.channels), model)
    assert "whose spec is not the one" in other.notes[0]


def test_a_simulated_episode_has_its_rewards_and_its_goal() -> None:
    task = load_task("arm_reach")
    still = np.zeros((1, len(task.action.actuators)), np.float32)
    motion = of_controller(lambda inputs: still, task, find_robot("so101"), NOMINAL, seed=1)
    traces = {t.name: t for t in motion.traces}
    assert len(traces["joint.position"].time) == task.steps
    assert set(traces["reward"].components) >= {"near"}
    assert motion.goal is not None and 0.0 < np.linalg.norm(motion.goal) < 0.6
    assert len(motion.qpos) == 1 + task.steps // 2  # 50 Hz, of which every second is kept


def test_a_film_has_every_frame(tmp_path: Path) -> None:
    import cv2

    log = swing(find_robot("simple_pendulum").spec, 0.5).save(tmp_path / "a.mcap")
    words = [f"log={log}", f"out={tmp_path / 'out'}", "format=mp4", "width=96", "height=64"]
    film = cv2.VideoCapture(json.loads(cli.call("view", words).read_text())["view"])
    assert film.get(cv2.CAP_PROP_FPS) == pytest.approx(30.0)
    pictures = []
    while (read := film.read())[0]:
        pictures.append(read[1].astype(float))
    assert len(pictures) == 16 and pictures[0].shape == (64, 96, 3)
    assert np.abs(pictures[-1] - pictures[0]).max() > 50  # it moves


def test_a_log_of_a_robot_without_a_name_asks_for_its_file(tmp_path: Path) -> None:
    robot = find_robot("simple_pendulum")
    robot = dataclasses.replace(robot, spec=dataclasses.replace(robot.spec, name="bob"))
    config.save(tmp_path / "bob.yaml", robot)
    log = swing(robot.spec, seconds=0.2).save(tmp_path / "a.mcap")
    with pytest.raises(ConfigError, match=r"'bob'.*give its file: robot=FILE\.yaml"):
        cli.call("view", [f"log={log}", f"out={tmp_path / 'out'}"])
    assert cli.call("view", [f"log={log}", f"robot={tmp_path / 'bob.yaml'}", f"out={tmp_path / 'out'}"]).is_file()


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        ([], "one of run=DIR and log=FILE"),
        (["run=nowhere"], "no such folder"),
        (["log=nowhere.mcap"], "cannot be read"),
        (["run={folder}"], "no episode"),
        (["log=a.mcap", "n=0"], "at least 1"),
    ],
)
def test_what_cannot_be_shown_is_said_in_a_sentence(tmp_path: Path, words: list[str], sentence: str) -> None:
    words = [w.format(folder=tmp_path) for w in words]
    with pytest.raises(ConfigError, match=sentence):
        cli.call("view", [*words, f"out={tmp_path / 'out'}"])


def test_live_without_viser_names_the_pip_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "viser", None)
    log = swing(find_robot("simple_pendulum").spec, 0.1).save(tmp_path / "a.mcap")
    with pytest.raises(ConfigError, match=r"pip install 'terrafirma\[view\]'"):
        cli.call("view", [f"log={log}", "live=true", f"out={tmp_path / 'out'}"])
