"""Series of trials: the plan before the first run, labels in the logs, and a series that was killed goes on."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from robot import config
from robot import log as logs
from robot.config import ConfigError
from robot.driver import DRIVERS, DriverError
from robot.observation import ActionConfig
from robot.spec import load_spec
from robot.state import JointCommand
from sim.driver import SimDriver
from tests.robot.fakes import OBSERVATION, make_bundle
from transfer import cli, terminal, trial_plan
from transfer.stages import trials as stage
from transfer.trials import recorded

UPRIGHT = "options.start=[3.141592653589793]"
"""An exact simulation without torque stays upright for the six seconds of the task."""


class Shaky(SimDriver):
    """A simulated robot that claims to be a real one, and loses its bus after two seconds."""

    simulated = False

    def wait(self, until_ns: int) -> None:
        if until_ns > 2_000_000_000:
            raise DriverError("motor 1 does not answer")
        super().wait(until_ns)


@pytest.fixture(scope="module")
def still(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A controller that does next to nothing."""
    return made(tmp_path_factory.mktemp("still") / "bundle", 1e-30)


@pytest.fixture(scope="module")
def wild(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One that falls over."""
    return made(tmp_path_factory.mktemp("wild") / "bundle", 1.5)


def made(path: Path, torque: float, **changes: Any) -> Path:
    action = ActionConfig(actuators=("shoulder",), scale=(torque,))
    return make_bundle(path, load_spec("simple_pendulum"), OBSERVATION, action, task="pendulum_swingup", **changes)


@pytest.fixture
def inline(monkeypatch: pytest.MonkeyPatch) -> None:
    """Workers are this process: starting others takes seconds."""

    class Pool:
        def __init__(self, *_: Any, **__: Any) -> None: ...

        def __enter__(self) -> Pool:
            return self

        def __exit__(self, *_: Any) -> None: ...

        def map(self, function: Any, rows: Any) -> Iterator[Any]:
            return map(function, rows)

    monkeypatch.setattr(stage, "ProcessPoolExecutor", Pool)


def go(out: Path, *words: object) -> dict[str, Any]:
    path = cli.call("trials", ["driver=sim", UPRIGHT, f"out={out}", *map(str, words)])
    result: dict[str, Any] = json.loads(path.read_text())
    return result


def answers(monkeypatch: pytest.MonkeyPatch, keys: str) -> list[str]:
    """Let a person at the terminal press these keys; returns what was asked."""
    asked: list[str] = []
    typed = iter(keys)

    def press(question: str, allowed: str) -> str:
        asked.append(question)
        key = next(typed)
        assert key in allowed
        if key == "!":
            raise KeyboardInterrupt
        return key

    monkeypatch.setattr(terminal, "press", press)
    monkeypatch.setattr(terminal, "needed", lambda *_: None)
    return asked


def test_orders_are_balanced_blocks_that_differ_and_repeat_by_seed() -> None:
    order = trial_plan.orders(("bundle", "against"), 25, 3)
    assert order == trial_plan.orders(("bundle", "against"), 25, 3) != trial_plan.orders(("bundle", "against"), 25, 4)
    sides = [p.controller for p in order]
    assert sides.count("bundle") == sides.count("against") == 25 and len({p.file for p in order}) == 50
    blocks = {tuple(sides[i : i + 4]) for i in range(0, 48, 4)}
    assert len(blocks) > 2 and all(block.count("bundle") == 2 for block in blocks)
    seeds = {side: [p.seed for p in sorted(order, key=lambda p: p.pair) if p.controller == side] for side in set(sides)}
    assert seeds["bundle"] == seeds["against"] == list(range(300_000, 300_025))
    assert [p.seed for p in trial_plan.orders(("bundle",), 4, 0)] == [0, 1, 2, 3]


def test_two_controllers_are_compared_and_every_episode_is_labelled_in_its_log(
    still: Path, wild: Path, tmp_path: Path, inline: None, capsys: pytest.CaptureFixture[str]
) -> None:
    result = go(tmp_path / "s", f"bundle={still}", f"against={wild}", "n=2", "difference=0.5")
    assert result["success"]["mean"] == 1.0 and result["against"]["success"]["mean"] == 0.0
    assert (result["faults"], result["driver"], result["completed"]) == (0, "sim", True)
    found = result["difference"]
    assert found["mean"] == 1.0 and found["verdict"] == "better" and found["paired"] and found["gained"] == 2
    assert found["p_value"] == pytest.approx(2 * 0.5**2)
    stated = result["plan"]
    assert stated["runs_needed"] == 15 and 0.8 < stated["smallest_difference"] < 1.0 and stated["power"] == 0.8
    plan = config.load_yaml(tmp_path / "s" / "plan.yaml")
    assert [p["controller"] for p in plan["order"]] == [e["controller"] for e in result["episodes"]]
    said = capsys.readouterr().out
    assert said.index("80% power") < said.index("bundle: success 100%") and "80% take 15 episodes of each" in said
    for row in result["episodes"]:
        log = logs.load(tmp_path / "s" / row["file"])
        assert log.meta["label"] == row["label"] == ("success" if row["controller"] == "bundle" else "failure")
        assert log.meta["bundle"] == plan["bundles"][row["controller"]] and log.meta["labelled_by"] == "rule"

    words = ["robot=simple_pendulum", f"path={tmp_path / 's'}", f"out={tmp_path / 'set'}"]
    taken = json.loads(cli.call("ingest", words).read_text())["episodes"]
    assert {Path(e["source"]).name: e["label"] for e in taken} == {e["file"]: e["label"] for e in result["episodes"]}
    assert all(e["accepted"] for e in taken) and "failure" in (tmp_path / "set" / "screening.html").read_text()
    kept = taken[0]
    assert logs.load(tmp_path / "set" / kept["file"]).meta["label"] == kept["label"]


def test_a_killed_series_goes_on_without_repeating_what_was_recorded(
    still: Path, tmp_path: Path, inline: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = (f"bundle={still}", "n=2")
    whole = go(tmp_path / "whole", *words)
    ran: list[str] = []
    run_trial = stage.run_trial

    def counted(trial: Any) -> Any:
        ran.append(trial.log.name)
        if len(ran) == 2:
            raise KeyboardInterrupt
        return run_trial(trial)

    monkeypatch.setattr(stage, "run_trial", counted)
    with pytest.raises(KeyboardInterrupt):
        go(tmp_path / "cut", *words)
    with (tmp_path / "cut" / "001.mcap").open("wb") as stream:  # half of one, as a crash leaves it
        stream.write((tmp_path / "whole" / "001.mcap").read_bytes()[:3000])
    result = go(tmp_path / "cut", *words, "resume=true")
    assert ran == ["000.mcap", "001.mcap", "001.mcap"]
    volatile = set(result["volatile"])
    assert {k: v for k, v in result.items() if k not in volatile} == {
        k: v for k, v in whole.items() if k not in volatile
    }
    assert (tmp_path / "cut" / "001.mcap").read_bytes() == (tmp_path / "whole" / "001.mcap").read_bytes()
    with pytest.raises(ConfigError, match=r"another series was begun here, with another n"):
        go(tmp_path / "cut", f"bundle={still}", "n=3", "resume=true")


def test_a_person_labels_without_being_told_who_drove_and_may_skip_and_abort(
    still: Path, wild: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = (f"bundle={still}", f"against={wild}", "n=2", "label=key", "wait=true")
    asked = answers(monkeypatch, " y s a")
    with pytest.raises(stage.Stopped) as stopped:
        go(tmp_path, *words)
    assert stopped.value.exit_code == 130 and "after 2 of 4 episodes" in str(stopped.value)
    part = json.loads((tmp_path / "result.json").read_text())
    assert [e["label"] for e in part["episodes"]] == ["success", "skipped"]
    assert not part["completed"] and part["difference"] is None
    assert not any(word in " ".join(asked) for word in ("bundle", "against", str(still), str(wild)))
    assert asked[0].startswith("Episode 1 of 4: put the robot") and asked[1].startswith("Episode 1 of 4 is over.")

    third = recorded(tmp_path / "002.mcap")  # recorded, and nobody had labelled it
    assert third is not None and "label" not in third.meta
    for again in (words, (f"bundle={still}", "n=1")):  # a simulated series must not take its place either
        with pytest.raises(ConfigError, match="resume=true goes on"):
            go(tmp_path, *again)
    asked = answers(monkeypatch, "n y")
    result = go(tmp_path, *words, "resume=true")
    assert asked[0].startswith("Episode 3 of 4 ") and "Success?" in asked[0]
    assert asked[1].startswith("Episode 4 of 4: put")
    assert [e["label"] for e in result["episodes"]] == ["success", "skipped", "failure", "success"]
    assert [e["labelled_by"] for e in result["episodes"]] == ["key"] * 4
    assert result["skipped"] + result["against"]["skipped"] == 1 and result["difference"]["n"] == 1
    assert recorded(tmp_path / "003.mcap").meta["label"] == "success" and not (tmp_path / ".recording").exists()


def test_an_episode_that_was_interrupted_is_run_again(
    still: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write = SimDriver.write
    left = [100]

    def interrupted(self: SimDriver, command: JointCommand) -> JointCommand:
        left[0] -= 1
        if left[0] == 0:
            raise KeyboardInterrupt
        return write(self, command)

    monkeypatch.setattr(SimDriver, "write", interrupted)
    answers(monkeypatch, "y")
    with pytest.raises(KeyboardInterrupt):
        go(tmp_path, f"bundle={still}", "n=1", "label=key")
    assert not (tmp_path / "000.mcap").exists() and (tmp_path / ".recording" / "000.mcap").exists()
    result = go(tmp_path, f"bundle={still}", "n=1", "label=key", "resume=true")
    assert result["success"]["mean"] == 1.0 and len(recorded(tmp_path / "000.mcap")["action"].t_ns) == 601


def test_a_fault_on_a_robot_that_nobody_watches_ends_the_series(
    still: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(DRIVERS, "shaky", f"{__name__}:Shaky")
    monkeypatch.setattr("robot.driver.driver_class", lambda name: Shaky if name == "shaky" else SimDriver)
    words = ("driver=shaky", f"bundle={still}", "n=2", "wait=false", "options.process=one", "options.damp=0")
    with pytest.raises(DriverError, match=r"Episode 1 of 2 ended in a fault \(motor 1 does not answer\)"):
        go(tmp_path, *words)
    with pytest.raises(DriverError, match="Episode 2 of 2"):
        go(tmp_path, *words, "resume=true")
    result = go(tmp_path, *words, "resume=true")
    assert result["faults"] == 2 and result["success"] == {
        "mean": 0.0,
        "ci95": [0.0, pytest.approx(0.6576, abs=1e-4)],
        "n": 2,
    }


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["n=0"], "n=0: at least one episode"),
        (["difference=0.2"], "pass the other one as against="),
        (["against=nowhere"], "against=nowhere: there is no such file or folder"),
        (["against=SAME", "difference=1.5"], "difference=1.5: it must be above 0 and at most 1.0"),
        (["against=SAME", "rate=0.9", "difference=0.2"], "at most 0.1"),
        (["against=SAME", "rate=2"], "rate=2.0: the success"),
        (["against=OTHER"], "compared on one robot"),
        (["options.sped=1"], "Did you mean 'seed'?"),
        (["label=key"], "standard input is no terminal"),
        (["label=maybe"], "must be one of 'rule', 'key'"),
        (["label=key", "options.dedman=file:x"], "Did you mean 'deadman'?"),
        (["task=arm_reach"], "made for task 'pendulum_swingup'"),
    ],
)
def test_a_mistake_is_one_sentence_before_anything_moves(
    words: list[str], said: str, still: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = load_spec("simple_pendulum")
    action = ActionConfig(actuators=("shoulder",), scale=(1.0,))
    if "OTHER" in words[0]:
        other = replace(spec, watchdog_s=2 * spec.watchdog_s)
        make_bundle(tmp_path / "other", other, OBSERVATION, action, task="pendulum_swingup")
    if "deadman" in said:
        monkeypatch.setattr(terminal, "needed", lambda *_: None)
    with pytest.raises(ConfigError) as caught:
        go(
            tmp_path / "o",
            f"bundle={still}",
            *(w.replace("SAME", str(still)).replace("OTHER", str(tmp_path / "other")) for w in words),
        )
    assert said in str(caught.value) and "\n" not in str(caught.value)
    assert not (tmp_path / "o" / "plan.yaml").exists()


def test_keys_are_read_from_a_terminal_one_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    import os
    import pty
    import threading

    ours, theirs = pty.openpty()
    with os.fdopen(theirs, "rb", buffering=0) as stream:
        monkeypatch.setattr("sys.stdin", stream)
        os.write(ours, b"n")  # typed while the robot moved: nobody has asked yet
        asked = threading.Event()

        def person() -> None:
            asked.wait(10)
            for typed in (b"\x1b[A", b"q", b"Y"):  # an arrow ends in the letter A
                threading.Event().wait(0.05)
                os.write(ours, typed)

        monkeypatch.setattr("builtins.print", lambda *_, **__: asked.set())
        threading.Thread(target=person, daemon=True).start()
        assert terminal.press("Success?", "ynsa") == "y"
        os.close(ours)
        assert terminal.press("Success?", "ynsa") == terminal.GONE
