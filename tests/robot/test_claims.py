"""Claims on folders: of many that race one wins, the dead are replaced, and the living are not."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path

import pytest

from robot import claims
from robot.claims import FILE, STALE_S, Claim, Holder, InUse, claim, try_claim

ROOT = Path(__file__).resolve().parents[2]
RACER = """
import sys
from pathlib import Path
from robot.claims import try_claim
sys.stdin.readline()
for folder in sorted(Path(sys.argv[1]).iterdir()):
    held = try_claim(folder, "race")
    if held is not None:
        with held:
            if not (folder / "done").exists():
                with (folder / "times").open("a") as file:
                    file.write(sys.argv[2] + "\\n")
                (folder / "done").touch()
"""
WORKER = """
import sys, time
from pathlib import Path
from robot.claims import claim
with claim(Path(sys.argv[1]), "terrafirma train"):
    print("working", flush=True)
    time.sleep(60)
"""


def process(code: str, *words: str) -> subprocess.Popen[str]:
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    pipe = subprocess.PIPE
    return subprocess.Popen(
        [sys.executable, "-c", code, *words], stdin=pipe, stdout=pipe, text=True, env=environment, cwd=ROOT
    )


@contextmanager
def working(folder: Path) -> Iterator[subprocess.Popen[str]]:
    worker = process(WORKER, str(folder))
    try:
        assert worker.stdout is not None and worker.stdout.readline() == "working\n"
        yield worker
    finally:
        worker.kill()
        worker.communicate()


def left_by(folder: Path, age_s: float, **changes: object) -> Holder:
    """A claim as another host would have left it, last touched so long ago."""
    holder = replace(claims._me("terrafirma train"), host="elsewhere", machine="another", token="1" * 32)
    holder = replace(holder, **changes)
    folder.mkdir(exist_ok=True)
    (folder / FILE).write_text(json.dumps(asdict(holder)))
    os.utime(folder / FILE, (time.time() - age_s,) * 2)
    return holder


def test_two_processes_that_race_for_two_hundred_trials_do_each_of_them_once(tmp_path: Path) -> None:
    for i in range(200):
        (tmp_path / f"{i:03d}").mkdir()
    racers = [process(RACER, str(tmp_path), name) for name in ("a", "b")]
    for racer in racers:
        assert racer.stdin is not None
        racer.stdin.write("go\n")
        racer.stdin.flush()
    assert [racer.wait(60) for racer in racers] == [0, 0]
    for racer in racers:
        racer.communicate()
    done = [(tmp_path / f"{i:03d}" / "times").read_text().split() for i in range(200)]
    assert all(len(names) == 1 for names in done)
    assert {p.name for p in (tmp_path / "000").iterdir()} == {"done", "times"}


def test_who_has_a_folder_is_told_and_a_killed_one_is_replaced_at_once(tmp_path: Path) -> None:
    with working(tmp_path) as worker:
        told = rf"{tmp_path} is in use by terrafirma train on .*, process {worker.pid}, since \d{{4}}-.*another out="
        with pytest.raises(InUse, match=told) as refused:
            claim(tmp_path, "terrafirma train")
        assert refused.value.exit_code == 2
        os.kill(worker.pid, signal.SIGKILL)
        with claim(tmp_path, "terrafirma train", patience_s=5.0) as mine:
            mine.check()
    assert list(tmp_path.iterdir()) == []


def test_a_live_process_of_this_machine_is_never_robbed(tmp_path: Path) -> None:
    with working(tmp_path) as worker:
        os.kill(worker.pid, signal.SIGSTOP)
        os.utime(tmp_path / FILE, (time.time() - 100 * STALE_S,) * 2)
        assert try_claim(tmp_path, "train") is None
        os.kill(worker.pid, signal.SIGCONT)


def test_the_process_number_of_a_dead_one_may_have_come_again(tmp_path: Path) -> None:
    left_by(tmp_path, 0.0, machine=claims._machine(), pid=os.getpid(), born="17")
    with claim(tmp_path, "train"):
        pass


def test_one_of_another_host_is_believed_until_its_last_sign_of_life_is_old(tmp_path: Path) -> None:
    left_by(tmp_path, 0.5 * STALE_S)
    with pytest.raises(InUse, match=r"on elsewhere, process \d+, since .*, last sign of life 60 s ago"):
        claim(tmp_path, "train")
    left_by(tmp_path, STALE_S + 5.0)
    with claim(tmp_path, "train"):
        assert try_claim(tmp_path, "train") is None


def test_of_many_that_see_a_stale_claim_one_takes_it_over(tmp_path: Path) -> None:
    for i in range(20):
        folder, got = tmp_path / str(i), list[Claim]()
        left_by(folder, 10 * STALE_S)

        def grab(folder: Path = folder, got: list[Claim] = got) -> None:
            taken = try_claim(folder, "train")
            if taken is not None:
                got.append(taken)

        threads = [threading.Thread(target=grab) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(got) == 1
        got[0].check()
        got[0].release()
        assert list(folder.iterdir()) == []


def test_one_that_died_while_it_took_over_is_taken_over_itself(tmp_path: Path) -> None:
    stale = left_by(tmp_path, 10 * STALE_S)
    right = tmp_path / f"{FILE}.{stale.token}"
    right.write_text(json.dumps(asdict(replace(stale, token="2" * 32))))
    assert try_claim(tmp_path, "train") is None  # it may still be at it
    os.utime(right, (time.time() - 10 * STALE_S,) * 2)
    with claim(tmp_path, "train"):
        pass
    assert list(tmp_path.iterdir()) == []


def test_who_was_robbed_learns_it_and_leaves_the_others_claim_alone(tmp_path: Path) -> None:
    mine = claim(tmp_path, "train")
    other = left_by(tmp_path, 0.0)
    with pytest.raises(InUse, match=r"was taken over by terrafirma train on elsewhere.*nothing more is written"):
        mine.check()
    mine.release()
    assert json.loads((tmp_path / FILE).read_text())["token"] == other.token


def test_a_sign_of_life_is_given(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(claims, "BEAT_S", 0.01)
    with claim(tmp_path, "train"):
        os.utime(tmp_path / FILE, (1.0, 1.0))
        end = time.monotonic() + 10.0
        while (tmp_path / FILE).stat().st_mtime < 2.0 and time.monotonic() < end:
            time.sleep(0.01)
        assert (tmp_path / FILE).stat().st_mtime > 2.0


def test_a_file_system_without_links_will_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "link", refuse)
    with claim(tmp_path, "train"):
        assert try_claim(tmp_path, "train") is None
    (tmp_path / FILE).write_text("{")  # its writer was stopped
    assert try_claim(tmp_path, "train") is None
    os.utime(tmp_path / FILE, (1.0, 1.0))
    with claim(tmp_path, "train"):
        pass
