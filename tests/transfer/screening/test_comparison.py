"""Episodes beside one another: contradictions, copies, leakage, and dynamics that the robot cannot have."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from robot.log import Channel, EpisodeLog
from sim.model import Model, RobotConfig
from tests.transfer.faults import changed, stretch
from transfer import comparison
from transfer.dataset import DataRefused, Episode
from transfer.ingest import Ingestion
from transfer.screening import kept
from transfer.screening.signals import Signals

Simulate = Callable[..., EpisodeLog]


@pytest.fixture(scope="module")
def honest(pendulum: RobotConfig, simulate: Simulate) -> list[EpisodeLog]:
    """Six episodes of one pendulum, whose zeros are off as hands set them."""
    return [
        simulate(pendulum, {}, seed=k, seconds=5.0, effort=1.45, zero=0.01 * (k - 3), name=f"run{k}") for k in range(6)
    ]


def ingested(
    logs: list[EpisodeLog], robot: RobotConfig, folder: Path, out: str = "set", against: tuple[Path, ...] = ()
) -> list[Episode]:
    (folder / f"{out}-in").mkdir(exist_ok=True)
    paths = [log.save(folder / f"{out}-in" / f"{log.name}.mcap") for log in logs]
    work = Ingestion(spec=robot.spec, out=folder / out, model=Model(robot), against=against)
    return work.run(paths)


def kinds(episode: Episode) -> set[str]:
    return {f.kind for f in episode.findings}


def scaled(log: EpisodeLog, name: str, factor: float) -> EpisodeLog:
    return changed(log, name, log[name].values * factor)


def test_honest_episodes_are_not_accused(honest: list[EpisodeLog], pendulum: RobotConfig, tmp_path: Path) -> None:
    assert [kinds(e) for e in ingested(honest, pendulum, tmp_path)] == [set()] * 6


def test_an_episode_that_contradicts_the_others_is_suspected(
    honest: list[EpisodeLog], pendulum: RobotConfig, simulate: Simulate, tmp_path: Path
) -> None:
    masses = [n for n in Model(pendulum).available() if n.startswith("body/") and n.endswith("/mass")]
    heavier = {n: 1.6 * Model(pendulum).nominal(n) for n in masses}
    other = simulate(pendulum, heavier, seed=9, seconds=5.0, effort=1.45, name="other")
    episodes = ingested([*honest, other], pendulum, tmp_path)
    assert [e.accepted for e in episodes] == [True] * 6 + [False]
    (found,) = [f for f in episodes[-1].findings if f.kind == "poisoned"]
    assert found.where == "episode other" and "other episodes agree" in found.detail


def test_two_poisoned_of_seven_do_not_hide_one_another(
    honest: list[EpisodeLog], pendulum: RobotConfig, tmp_path: Path
) -> None:
    lies = [replace(scaled(log, "command.effort", 0.5), name=f"{log.name}x") for log in honest[:2]]
    episodes = ingested([*honest[1:], *lies], pendulum, tmp_path)
    assert [("poisoned" in kinds(e)) for e in episodes] == [False] * 5 + [True] * 2


def test_angles_that_are_told_a_twelfth_too_large_are_suspected(
    honest: list[EpisodeLog], pendulum: RobotConfig, tmp_path: Path
) -> None:
    """Of the whole motion this is little, but the honest ones agree far better."""
    lie = replace(scaled(honest[0], "joint.position", 1.08), name="lie")
    episodes = ingested([*honest[1:], lie], pendulum, tmp_path)
    assert [("poisoned" in kinds(e)) for e in episodes] == [False] * 5 + [True]


def test_a_zero_that_no_hand_sets_is_suspected(
    honest: list[EpisodeLog], pendulum: RobotConfig, simulate: Simulate, tmp_path: Path
) -> None:
    off = simulate(pendulum, {}, seed=12, seconds=5.0, effort=1.45, zero=0.4, name="off")
    last = ingested([*honest, off], pendulum, tmp_path)[-1]
    (found,) = [f for f in last.findings if f.kind == "poisoned"]
    assert "zero" in found.detail and not last.accepted


def test_commands_of_another_episode_explain_nothing(
    honest: list[EpisodeLog], pendulum: RobotConfig, tmp_path: Path
) -> None:
    shuffled = changed(honest[0], "command.effort", honest[1]["command.effort"].values)
    episode = ingested([shuffled, *honest[2:]], pendulum, tmp_path)[0]
    assert "unexplained" in kinds(episode) or "poisoned" in kinds(episode)


def test_torques_that_all_have_the_wrong_sign_or_unit_are_told_by_the_energy(
    honest: list[EpisodeLog], pendulum: RobotConfig, tmp_path: Path
) -> None:
    for factor, kind in ((-1.0, "sign"), (0.05, "unit")):
        logs = [scaled(log, "command.effort", factor) for log in honest]
        with pytest.raises(DataRefused) as refused:
            ingested(logs, pendulum, tmp_path, out=kind)
        assert all(kind in kinds(e) for e in refused.value.episodes)


def test_a_copied_stretch_is_a_duplicate_and_beside_a_test_set_it_leaks(
    honest: list[EpisodeLog], pendulum: RobotConfig, tmp_path: Path
) -> None:
    part = stretch(honest[0], 2.0, 2.0)
    c = part["joint.position"]
    moved = {n: Channel(n, x.unit, x.components, x.t_ns + 5_000_000_000, x.values) for n, x in part.channels.items()}
    moved[c.name] = replace(moved[c.name], values=c.values + 0.1)
    copy = replace(part, name="copy", channels=moved)
    episodes = ingested([honest[0], copy], pendulum, tmp_path)
    (found,) = [f for f in episodes[1].findings if f.kind == "duplicate"]
    assert episodes[1].accepted and "'run0'" in found.detail and found.where == "t = 0.0 s"

    ingested(honest[:2], pendulum, tmp_path, out="test")
    mixed = ingested([copy, honest[3]], pendulum, tmp_path, out="train", against=(tmp_path / "test",))
    assert [e.accepted for e in mixed] == [False, True]
    (found,) = [f for f in mixed[0].findings if f.kind == "leakage"]
    assert "'test/run0'" in found.detail


def test_what_is_kept_of_an_episode_comes_back_and_damage_is_noticed(
    honest: list[EpisodeLog], pendulum: RobotConfig, tmp_path: Path
) -> None:
    made = kept.keep(Signals(honest[0], pendulum.spec), Model(pendulum))
    kept.save(tmp_path / "a.npz", made)
    again = kept.load(tmp_path / "a.npz")
    assert again is not None and again.regression is not None and made.regression is not None
    assert np.array_equal(again.fingerprints.hashes, made.fingerprints.hashes)
    assert np.array_equal(again.regression.normal, made.regression.normal)
    (tmp_path / "a.npz").write_bytes((tmp_path / "a.npz").read_bytes()[:300])
    assert kept.load(tmp_path / "a.npz") is None and kept.load(tmp_path / "b.npz") is None


def test_later_episodes_are_held_against_those_of_before(
    honest: list[EpisodeLog], pendulum: RobotConfig, tmp_path: Path
) -> None:
    ingested(honest[:5], pendulum, tmp_path)
    shutdown = comparison.place(tmp_path / "set", "run0.mcap")
    assert shutdown.is_file()
    shutdown.unlink()  # it is then read again
    lie = replace(scaled(honest[5], "command.effort", 0.5), name="late")
    (tmp_path / "late").mkdir()
    work = Ingestion(spec=pendulum.spec, out=tmp_path / "set", model=Model(pendulum))
    with pytest.raises(DataRefused, match="poisoned"):
        work.run([lie.save(tmp_path / "late" / "late.mcap")])
