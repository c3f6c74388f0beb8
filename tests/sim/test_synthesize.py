"""Synthetic data: labels that fit the pictures, events that happen, runs that can be killed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from robot.config import ConfigError, shipped
from sim import contact_sheet, randomization, shards
from sim.model import Model, find_robot
from sim.situations import EVENTS, Situations
from sim.synthesize import Job, Synthesizer, load, synthesize

SIDE = 48


def job_of(robot: str, camera: str, n: int = 40, **changes: object) -> Job:
    job = Job(robot=find_robot(robot), camera=camera, n=n, width=SIDE, height=SIDE, renderer="ray", shard=16)
    return replace(job, **changes)


@pytest.fixture(scope="module")
def arm_job() -> Job:
    law = randomization.load(shipped() / "dr" / "so101_appearance.yaml")
    return job_of("so101", "front", randomization=law, events={"occlusion": 0.3, "limit": 0.3})


@pytest.fixture(scope="module")
def arm_data(arm_job: Job, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("arm") / "dataset"
    done = synthesize(folder, arm_job, workers=1)
    assert done.images == done.made == 40
    return folder


def test_samples_come_back_as_they_were_made(arm_job: Job, arm_data: Path) -> None:
    samples, layout = list(load(arm_data)), shards.layout_of(arm_data)
    columns, images = Synthesizer(arm_job).make(1)
    assert [s.index for s in samples] == list(range(40))
    for i, sample in enumerate(samples[16:32]):
        assert sample.event == columns["event"][i]
        assert np.array_equal(sample.labels["qpos"], columns["qpos"][i])
        assert np.array_equal(sample.labels["parameters"], columns["parameters"][i])
        assert np.array_equal(sample.segmentation, images["segmentation"][i])
        assert np.allclose(sample.depth, images["depth"][i], rtol=1e-3)
        assert np.abs(sample.rgb.astype(int) - images["rgb"][i]).mean() < 4.0  # JPEG, of noisy pictures
    assert len(layout.parameters) == len(samples[0].labels["parameters"]) == len(layout.units)
    assert np.ptp([s.labels["parameters"] for s in samples], axis=0).min() >= 0.0
    assert len({s.rgb.tobytes() for s in samples}) == 40


@pytest.mark.parametrize("image", ["png", "raw"])
def test_lossless_pictures_lose_nothing(image: str, tmp_path: Path) -> None:
    job = job_of("simple_pendulum", "side", n=6, image=image)
    synthesize(tmp_path / "d", job, workers=1)
    made = Synthesizer(job).make(0)[1]["rgb"]
    assert all(np.array_equal(s.rgb, one) for s, one in zip(load(tmp_path / "d"), made, strict=True))


def test_keypoints_lie_on_their_bodies(tmp_path: Path) -> None:
    """The pendulum's centre of mass is in the disc; that of a visible one is seen there."""
    synthesize(tmp_path / "d", job_of("simple_pendulum", "side", n=32), workers=1)
    layout = shards.layout_of(tmp_path / "d")
    disc, point = layout.geoms.index("disc"), layout.keypoints.index("body/pendulum")
    for sample in load(tmp_path / "d"):
        rows, columns = np.nonzero(sample.segmentation == disc)
        if sample.visibility[point] != 2 or len(rows) < 4:
            continue
        assert sample.keypoints[point] == pytest.approx([columns.mean() + 0.5, rows.mean() + 0.5], abs=1.0)
        angle = sample.labels["joint_position"][0]
        place = 0.5 * SIDE * (1.0 + 0.5 / (1.7 * np.tan(np.radians(22.5))) * np.array([np.sin(angle), np.cos(angle)]))
        assert sample.keypoints[point] == pytest.approx(place, abs=0.1)


def test_an_occluder_hides_a_keypoint(arm_data: Path) -> None:
    samples = [s for s in load(arm_data) if s.event == "occlusion"]
    first_prop = shards.layout_of(arm_data).geoms.index("prop ball")
    assert len(samples) >= 5
    assert np.mean([s.flags["occluded"] for s in samples]) > 0.8
    for sample in samples:
        if sample.flags["occluded"]:
            assert (sample.visibility == 1).any() and (sample.segmentation >= first_prop).any()


@pytest.mark.parametrize("robot", ["simple_pendulum", "so101", "quadruped"])
def test_events_made_on_purpose_happen(robot: str) -> None:
    made = Situations(Model(find_robot(robot)), 24)
    ordinary = made.draw(np.full(24, ""), np.random.default_rng(0))
    for name, event in EVENTS.items():
        if not event.applies(made) or event.flag == "occluded":
            continue
        states = made.draw(np.full(24, name), np.random.default_rng(1))
        assert states.flags[event.flag].mean() > 0.7, name
        assert states.flags[event.flag].mean() > ordinary.flags[event.flag].mean()
        assert np.isfinite(states.qpos).all() and np.isfinite(states.qvel).all()


def test_states_of_a_task_begin_as_its_episodes() -> None:
    from sim.tasks import load_task

    made = Situations(Model(find_robot("simple_pendulum")), 64, load_task("pendulum_swingup"))
    states = made.draw(np.full(64, ""), np.random.default_rng(0))
    assert np.median(np.abs(states.qpos)) < 1.0  # half of them hang


def test_one_state_in_two_appearances() -> None:
    law = randomization.load(shipped() / "dr" / "simple_pendulum_appearance.yaml")
    job = job_of("simple_pendulum", "side", n=16, randomization=law, appearances=2, samples=2)
    columns, images = Synthesizer(job).make(0)
    assert np.array_equal(columns["qpos"][::2], columns["qpos"][1::2]) and len(np.unique(columns["qpos"])) == 8
    assert (np.abs(np.diff(columns["parameters"], axis=0)).max(axis=1) > 0.0).all()
    first, second = images["rgb"][::2].astype(float), images["rgb"][1::2].astype(float)
    assert np.abs(first - second).mean(axis=(1, 2, 3)).min() > 3.0
    with pytest.raises(ConfigError, match="a multiple of appearances"):
        replace(job, appearances=3)


def test_poses_of_joints_that_turn_all_around_are_even() -> None:
    made = Situations(Model(find_robot("simple_pendulum")), 400)
    angle = np.array([made.pose(np.zeros(1), np.random.default_rng(i))[0] for i in range(400)])
    assert np.histogram(angle, 4, (-np.pi, np.pi))[0].min() > 70


def test_a_sample_depends_on_its_index_alone(arm_job: Job, arm_data: Path, tmp_path: Path) -> None:
    synthesize(tmp_path / "d", replace(arm_job, n=20), workers=1)
    for short, long in zip(load(tmp_path / "d"), load(arm_data), strict=False):
        assert short.rgb.tobytes() == long.rgb.tobytes() and short.index == long.index
        assert np.array_equal(short.labels["qvel"], long.labels["qvel"])


def test_a_data_set_grows_by_resuming(arm_job: Job, arm_data: Path, tmp_path: Path) -> None:
    synthesize(tmp_path / "d", replace(arm_job, n=20), workers=1)
    done = synthesize(tmp_path / "d", arm_job, workers=1, resume=True)
    assert done.made == 24  # the shard that was cut short is made anew
    assert contents(tmp_path / "d") == contents(arm_data)


def test_another_job_s_folder_is_left_alone(arm_job: Job, arm_data: Path) -> None:
    with pytest.raises(ConfigError, match="resume=true"):
        synthesize(arm_data, arm_job, workers=1)
    with pytest.raises(ConfigError, match="another seed"):
        synthesize(arm_data, replace(arm_job, seed=1), workers=1, resume=True)


def contents(folder: Path) -> dict[str, bytes]:
    return {p.name: p.read_bytes() for p in sorted(folder.glob("shard-*.parquet"))}


KILLED = """
import sys
from pathlib import Path
from robot import config
from sim.synthesize import Job, synthesize
if __name__ == "__main__":
    synthesize(Path(sys.argv[1]), config.load(Job, Path(sys.argv[2])), workers=2)
"""


def test_a_killed_run_resumes_without_gaps_or_duplicates(tmp_path: Path) -> None:
    """kill -9 of the parent alone, twice; its workers go with it, and the files end as those of a run left in peace."""
    from robot import config

    job = job_of("so101", "front", n=420, events={"impact": 0.1})
    script, folder = tmp_path / "killed.py", tmp_path / "killed"
    script.write_text(KILLED)
    config.save(tmp_path / "job.yaml", job)
    run = subprocess.Popen([sys.executable, str(script), str(folder), str(tmp_path / "job.yaml")])
    until = time.monotonic() + 60.0
    while len(contents(folder)) < 4 and run.poll() is None and time.monotonic() < until:
        time.sleep(0.01)
    workers = children(run.pid)
    os.kill(run.pid, signal.SIGKILL)
    run.wait()
    there = len(contents(folder))
    assert 4 <= there < job.shards, "the run was not killed halfway"
    assert workers
    until = time.monotonic() + 20.0
    while any(Path(f"/proc/{pid}").exists() for pid in workers) and time.monotonic() < until:
        time.sleep(0.02)
    assert not any(Path(f"/proc/{pid}").exists() for pid in workers), "a worker outlived its parent"
    (folder / ".shard-00009.parquet.abc.tmp").write_bytes(b"half")
    shards.path_of(folder, 20).write_bytes(b"PAR1 cut by a power failure")
    synthesize(folder, job, workers=1, resume=True)
    synthesize(tmp_path / "whole", job, workers=1)
    assert contents(folder) == contents(tmp_path / "whole")
    indices = np.concatenate([pq.read_table(p, columns=["index"])["index"] for p in sorted(folder.glob("shard-*"))])
    assert indices.tolist() == list(range(420))
    assert not list(folder.glob(".*"))


def children(pid: int) -> list[int]:
    """Processes whose parent is `pid`."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            words = (entry / "stat").read_text().rsplit(")", 1)[1].split()
        except (OSError, IndexError):
            continue
        if int(words[1]) == pid:
            found.append(int(entry.name))
    return found


def test_the_sheet_shows_events_first(arm_data: Path, tmp_path: Path) -> None:
    import cv2

    contact_sheet.save(tmp_path / "sheet.png", load(arm_data), shards.layout_of(arm_data), 6)
    sheet = cv2.imread(str(tmp_path / "sheet.png"))
    assert sheet.shape == (6 * contact_sheet.TILE, 3 * contact_sheet.TILE, 3)
    assert sheet.std() > 20.0


def test_nonsense_is_refused_in_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"events: 'limits' is unknown.*Did you mean 'limit'"):
        job_of("so101", "front", events={"limits": 0.1})
    with pytest.raises(ConfigError, match=r"add up to 1\.2"):
        job_of("so101", "front", events={"limit": 0.6, "impact": 0.6})
    with pytest.raises(ConfigError, match=r"keypoint 'joint/elbow'.*Did you mean 'joint/elbow_flex'"):
        Synthesizer(job_of("so101", "front", keypoints=("joint/elbow",)))
    with pytest.raises(ConfigError, match=r"no dataset\.yaml"):
        next(load(tmp_path))


def test_a_joint_without_limits_is_never_at_one() -> None:
    maker = Synthesizer(job_of("simple_pendulum", "side", events={"limit": 0.5, "saturation": 0.5}))
    assert set(maker.events) == {"saturation"}
