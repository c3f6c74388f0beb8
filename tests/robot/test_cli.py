"""The command line: one sentence and the right exit code for every mistake, result.json as agreed."""

from __future__ import annotations

import dataclasses
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from robot import cli, config
from robot import log as logs
from robot.config import ConfigError
from robot.observation import ActionConfig
from robot.spec import RobotSpec, find_robot, load_spec
from tests.robot.fakes import OBSERVATION, make_bundle

ALWAYS = {"stage", "seconds", "seed", "budget", "inputs", "versions", "volatile"}


@pytest.fixture(scope="module")
def pendulum_bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random controller for the simple pendulum."""
    action = ActionConfig(actuators=("shoulder",), scale=(1.5,))
    observation = dataclasses.replace(OBSERVATION, history=4)
    path = tmp_path_factory.mktemp("bundle") / "b"
    return make_bundle(path, load_spec("simple_pendulum"), observation, action)


def result(out: Path, *keys: str) -> dict:
    data = json.loads((out / "result.json").read_text())
    assert set(data) == ALWAYS | set(keys)
    assert (out / "lineage.json").exists() and (out / "config.yaml").exists()
    return data


def go(*words: object) -> int:
    return cli.main([str(w) for w in words])


def test_run_writes_the_agreed_keys_and_its_path_last(
    pendulum_bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert go("run", f"bundle={pendulum_bundle}", "driver=sim", "seconds=1", f"out={tmp_path}", "seed=3") == 0
    assert capsys.readouterr().out.splitlines()[-1] == str(tmp_path / "result.json")
    keys = "ticks missed_deadlines longest_miss stale tick_us faults state log shadow realtime"
    data = result(tmp_path, *keys.split())
    assert (data["ticks"], data["missed_deadlines"], data["faults"], data["state"]) == (100, 0, [], "damp")
    assert set(data["tick_us"]) == {"p50", "p99", "max"} and data["seed"] == 3
    assert str(pendulum_bundle) in data["inputs"]
    log = logs.load(Path(data["log"]))
    assert len(log["action"].t_ns) == 100 and log.meta["driver"] == "sim" and "torn" not in log.meta


def test_same_seed_gives_the_same_result_and_log(pendulum_bundle: Path, tmp_path: Path) -> None:
    found = []
    for name in "ab":
        words = ("driver=surrogate", "seconds=0.5", "seed=7")
        assert go("run", f"bundle={pendulum_bundle}", *words, f"out={tmp_path / name}") == 0
        data = json.loads((tmp_path / name / "result.json").read_text())
        channels = logs.load(Path(data["log"])).channels
        found.append(({k: v for k, v in data.items() if k not in data["volatile"]}, channels))
    assert found[0][0] == found[1][0]
    for name, channel in found[0][1].items():
        np.testing.assert_array_equal(channel.values, found[1][1][name].values)


def test_replay_of_a_run_gives_exactly_its_actions(pendulum_bundle: Path, tmp_path: Path) -> None:
    run, bundle = tmp_path / "run", f"bundle={pendulum_bundle}"
    assert go("run", bundle, "driver=surrogate", "seconds=1", f"out={run}") == 0
    assert go("replay", bundle, f"log={run / 'episode.mcap'}", f"out={tmp_path / 'replay'}") == 0
    assert result(tmp_path / "replay", "max_action_difference")["max_action_difference"] == 0.0
    words = (bundle, "driver=replay", f"log={run / 'episode.mcap'}", "seconds=99", "shadow=true")
    assert go("run", *words, f"out={tmp_path / 'shadow'}") == 0
    shadow = logs.load(tmp_path / "shadow" / "episode.mcap")
    assert "command.effort" not in shadow and shadow.meta["shadow"] == "true"
    assert len(shadow["action"].t_ns) > 90


def test_replay_of_another_bundle_shows_the_difference(
    pendulum_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = tmp_path / "run"
    assert go("run", f"bundle={pendulum_bundle}", "driver=sim", "seconds=0.5", f"out={run}") == 0
    log = logs.load(run / "episode.mcap")
    action = log["action"]
    changed = dataclasses.replace(action, values=action.values + 0.25)
    dataclasses.replace(log, channels={**log.channels, "action": changed}).save(tmp_path / "changed.mcap")
    words = (f"bundle={pendulum_bundle}", f"log={tmp_path / 'changed.mcap'}", f"out={tmp_path / 'r'}")
    assert go("replay", *words) == 0
    difference = json.loads((tmp_path / "r" / "result.json").read_text())["max_action_difference"]
    assert difference == pytest.approx(0.25)


def test_record_moves_the_robot_and_logs_standard_channels(tmp_path: Path) -> None:
    words = ("robot=simple_pendulum", "driver=surrogate", "excitation=chirp", "seconds=3", "seed=2")
    assert go("record", *words, f"out={tmp_path}") == 0
    data = result(tmp_path, "log", "frames")
    log = logs.load(Path(data["log"]))
    assert data["frames"] == len(log["joint.position"].t_ns) == 300
    assert log.fingerprint == load_spec("simple_pendulum").fingerprint()
    assert np.ptp(log["joint.position"].values) > 0.1
    effort = log["command.effort"].values
    assert 0.1 < np.abs(effort).max() <= 1.5
    for name in ("joint.position", "joint.velocity", "joint.effort", "command.effort"):
        assert (np.diff(log[name].t_ns) > 0).all()


def test_record_from_a_file_and_quick(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("time,shoulder\n0,0\n1,0.4\n2,0\n9,0\n")
    words = ("robot=simple_pendulum", "driver=sim", f"excitation={tmp_path / 't.csv'}", "seconds=9", "quick=true")
    assert go("record", *words, f"out={tmp_path / 'o'}") == 0
    data = result(tmp_path / "o", "log", "frames")
    assert data["budget"] == "quick" and data["frames"] == 200 and str(tmp_path / "t.csv") in data["inputs"]


def test_fault_ends_with_5_and_says_why(
    pendulum_bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    slow = load_spec("simple_pendulum")
    slow = dataclasses.replace(slow, joints=(dataclasses.replace(slow.joints[0], velocity_limit=0.01),))
    data = config.load_yaml(Path(find_robot("simple_pendulum")))
    config.save(tmp_path / "slow.yaml", {"spec": slow, "model": data["model"]})
    words = (f"robot={tmp_path / 'slow.yaml'}", "driver=sim", "excitation=prbs", "seconds=3", "start=[0.5]")
    assert go("record", *words, f"out={tmp_path / 'o'}") == 5
    assert "velocity_limit is 0.01" in capsys.readouterr().out
    log = logs.load(tmp_path / "o" / "episode.mcap")
    assert any("fault: velocity" in e for e in log["event"].values)


@pytest.mark.parametrize(
    ("words", "code", "parts"),
    [
        (["runn"], 2, ["'runn'", "Did you mean 'run'"]),
        (["run", "bundel=x", "driver=sim", "seconds=1"], 2, ["'bundel'", "Did you mean 'bundle'"]),
        (["verify", "bundel=x"], 2, ["unknown key 'bundel'", "Did you mean 'bundle'"]),
        (["run", "bundle=x", "driver=smi", "seconds=1", "foo=1"], 2, ["driver 'smi'", "Did you mean 'sim'"]),
        (["run", "bundle=x", "driver=sim", "seconds=1", "posterio=y"], 2, ["'posterio'", "Did you mean 'posterior'"]),
        (["run", "bundle=x", "driver=sim", "seconds=long"], 2, ["seconds", "'long'", "a number"]),
        (["run", "bundle=x", "driver=sim", "seconds=-1"], 2, ["seconds=-1", "above 0"]),
        (["run", "bundle=x", "driver=sim"], 2, ["'seconds'", "missing"]),
        (["run", "bundle=x", "bundle=y", "driver=sim"], 2, ["'bundle' is given twice"]),
        (["run", "--bundle", "x"], 2, ["'--bundle' is not key=value"]),
        (["run", "bundle=nowhere", "driver=sim", "seconds=1"], 4, ["nowhere", "no bundle here"]),
        (["run", "bundle=x", "driver=sim", "seconds=1", "robot=simple_pendulu"], 2, ["Did you mean 'simple_pendulum'"]),
        (["verify", "bundle=nowhere"], 4, []),
        (
            ["record", "robot=simple_pendulum", "driver=sim", "excitation=chrip", "seconds=3"],
            2,
            ["Did you mean 'chirp'"],
        ),
        (["record", "robot=simple_pendulum", "driver=sim", "excitation=no.csv", "seconds=3"], 2, ["no.csv"]),
        (["doctor", "driver=sim"], 2, ["needs robot=R"]),
        (["doctor", "robt=x"], 2, ["'robt'", "Did you mean 'robot'"]),
        (["run", "bundle=x", "driver=sim", "seconds=1", "quick=maybe"], 2, ["quick", "true or false"]),
    ],
)
def test_mistake_is_one_sentence_and_an_exit_code(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], words: list[str], code: int,
    parts: list[str],
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    assert cli.main(words) == code
    error = capsys.readouterr().err
    assert all(part in error for part in parts), error
    assert error.count("\n") <= 1 and "Traceback" not in error


def test_replay_refuses_logs_it_cannot_compare(
    pendulum_bundle: Path, tmp_path: Path, two_link: RobotSpec, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "text.mcap").write_text("time,position")
    words = (f"bundle={pendulum_bundle}", f"out={tmp_path / 'o'}")
    assert go("replay", *words, f"log={tmp_path / 'text.mcap'}") == 4
    assert "not a terrafirma episode" in capsys.readouterr().err
    record = ("robot=simple_pendulum", "driver=sim", "excitation=chirp", "seconds=2", f"out={tmp_path / 'rec'}")
    assert go("record", *record) == 0
    assert go("replay", *words, f"log={tmp_path / 'rec' / 'episode.mcap'}") == 4
    assert "no channel 'action'" in capsys.readouterr().err
    logs.EpisodeLog("x", "two_link", two_link.fingerprint(), {}).save(tmp_path / "other.mcap")
    assert go("replay", *words, f"log={tmp_path / 'other.mcap'}") == 4
    assert "recorded on robot 'two_link'" in capsys.readouterr().err


def test_traceback_is_shown_on_request_only(tmp_path: Path) -> None:
    with pytest.raises(ConfigError):
        go("verify", "bundel=x", "--traceback")


def test_unwritable_out_is_one_sentence(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "file").write_text("")
    assert go("doctor", f"out={tmp_path / 'file' / 'sub'}") == 2
    assert "Traceback" not in capsys.readouterr().err


def test_verify_lists_every_check(pendulum_bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert go("verify", f"bundle={pendulum_bundle}", f"out={tmp_path}") == 0
    checks = result(tmp_path, "checks")["checks"]
    assert all(set(c) == {"name", "ok", "detail"} and c["ok"] for c in checks)
    assert {"policy.onnx", "signature.json", "signature", "robot", "interface", "golden"} <= {c["name"] for c in checks}
    assert "FAIL" not in capsys.readouterr().out


def test_doctor_says_what_is_there_and_what_mends_the_rest(
    tmp_path: Path, two_link: RobotSpec, capsys: pytest.CaptureFixture[str]
) -> None:
    assert go("doctor", "robot=simple_pendulum", "driver=sim", f"out={tmp_path / 'a'}") == 0
    checks = {c["name"]: c for c in result(tmp_path / "a", "checks")["checks"]}
    assert set(checks["numpy"]) == {"name", "ok", "detail", "fix"}
    assert "reads shoulder" in checks["driver sim"]["detail"]
    config.save(tmp_path / "half.yaml", {"spec": two_link, "model": {"mjcf": "missing.xml"}})
    capsys.readouterr()
    assert go("doctor", f"robot={tmp_path / 'half.yaml'}", f"out={tmp_path / 'b'}") == 2
    (line,) = [x for x in capsys.readouterr().out.splitlines() if "simulation:" in x]
    assert line.startswith("FAIL") and "missing.xml" in line and ". Mend: give the robot's file a `model:`" in line


@pytest.mark.parametrize("stage", list(cli.ONBOARD))
def test_help_names_every_key_and_what_it_costs(stage: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main([stage, "--help"]) == 0
    text = capsys.readouterr().out
    keys = {f.name for f in dataclasses.fields(cli.ONBOARD[stage][0])} - {"out", "seed", "quick"}
    assert f"terrafirma {stage}" in text and "Reads" in text and "Writes" in text
    assert all(key in text for key in keys), keys


def test_top_help_lists_all_stages(capsys: pytest.CaptureFixture[str]) -> None:
    from transfer.cli import STAGES

    for words in ([], ["--help"]):
        assert cli.main(words) == 0
        text = capsys.readouterr().out
        assert all(f"    {name} " in text for name in (*STAGES, *cli.ONBOARD))


def test_paths_are_taken_as_they_are(tmp_path: Path, two_link: RobotSpec) -> None:
    strange = tmp_path / "a b, [c]=~1e3: #x"
    make_bundle(strange / "bundle", two_link)
    assert go("verify", f"bundle={strange / 'bundle'}", f"out={strange / 'out'}") == 0
    assert (strange / "out" / "result.json").exists()


BLOCK = """
import sys
class Block:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in {"torch", "mujoco", "gymnasium", "stable_baselines3", "hydra", "scipy", "onnx", "cv2"}:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name.split(".")[0])
sys.meta_path.insert(0, Block())
from robot.cli import main
sys.exit(main(sys.argv[1:]))
"""


def edge(*words: str) -> subprocess.CompletedProcess[str]:
    """The command line where only the edge dependencies are installed."""
    return subprocess.run([sys.executable, "-c", BLOCK, *words], capture_output=True, text=True, timeout=120)


def test_onboard_stages_work_with_the_edge_dependencies_alone(pendulum_bundle: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    assert go("run", f"bundle={pendulum_bundle}", "driver=sim", "seconds=0.5", f"out={run}") == 0
    bundle, log = f"bundle={pendulum_bundle}", f"log={run / 'episode.mcap'}"
    for words in (
        ("verify", bundle),
        ("replay", bundle, log),
        ("run", bundle, "driver=replay", log, "seconds=9"),
        ("doctor", "robot=simple_pendulum"),
        ("--help",),
    ):
        done = edge(*words, *([f"out={tmp_path / words[0]}"] if words[0] != "--help" else []))
        assert done.returncode == 0, (words, done.stderr, done.stdout)


def test_missing_extra_is_named_with_its_pip_line(pendulum_bundle: Path, tmp_path: Path) -> None:
    done = edge("run", f"bundle={pendulum_bundle}", "driver=sim", "seconds=1", f"out={tmp_path / 'o'}")
    assert done.returncode == 2 and "pip install 'terrafirma[train]'" in done.stderr
    done = edge("train", "task=pendulum_swingup", f"out={tmp_path / 'o'}")
    assert done.returncode == 2 and "pip install 'terrafirma[train]'" in done.stderr
    assert "Traceback" not in done.stderr


def test_edge_import_is_light(tmp_path: Path) -> None:
    """All modules together cost no more than the libraries they stand on: a ratio, because machines differ."""
    # the first of the three compiles everything, as an installation does
    compiled = os.environ | {"PYTHONDONTWRITEBYTECODE": "", "PYTHONPYCACHEPREFIX": str(tmp_path)}
    code = (
        "import sys, time, importlib, pkgutil\n"
        "begin = time.process_time()\n"  # of this process alone: the machine may be busy
        "import numpy, onnxruntime, yaml, mcap.reader, mcap.writer, cryptography.x509\n"
        "stood_on = time.process_time()\n"
        "import robot\n"
        "for m in pkgutil.walk_packages(robot.__path__, 'robot.'): importlib.import_module(m.name)\n"
        "print((time.process_time() - stood_on) / (stood_on - begin))\n"
        "heavy = {'torch', 'mujoco', 'gymnasium', 'stable_baselines3', 'hydra', 'scipy', 'cv2', 'onnx'}\n"
        "assert not heavy & set(sys.modules), heavy & set(sys.modules)\n"
    )
    ratios = []
    for _ in range(3):
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=compiled)
        ratios.append(float(done.stdout))
    assert min(ratios) < 1.0, ratios


def test_every_refusal_has_its_exit_code(monkeypatch: pytest.MonkeyPatch) -> None:
    from robot.bundle import BundleRefused
    from robot.driver import DriverError
    from transfer import cli as workstation
    from transfer.dataset import DataRefused

    for error, code in (
        (ConfigError("x"), 2),
        (workstation.GateRefused("x"), 3),
        (DataRefused("x"), 4),
        (BundleRefused("x"), 4),
        (logs.LogError("x"), 4),
        (DriverError("x"), 5),
        (PermissionError(13, "Permission denied", "/out"), 2),
    ):

        def raising(_: list[str], error: Exception = error) -> int:
            raise error

        monkeypatch.setattr(workstation, "main", raising)
        assert cli.main(["train"]) == code
