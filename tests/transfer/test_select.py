"""Which candidate is kept: simultaneous intervals, what is not to be lost, and the order among the accepted."""

from __future__ import annotations

import numpy as np
import pytest

from robot.result import student_t
from sim.evaluate import EpisodeStats
from transfer import simultaneous
from transfer.select import Candidate, choose, judged, verdict


def episodes(successes: int, value: float = 1.0, n: int = 60) -> EpisodeStats:
    return EpisodeStats(np.arange(n) < successes, value + np.linspace(0.0, 1.0, n))


def candidate(method: str, real: EpisodeStats | None, accepted: bool = False, **what: object) -> Candidate:
    return Candidate(method=method, real=real, source=None, accepted=accepted, **what)  # type: ignore[arg-type]


def judge(*real: EpisodeStats, nothing: EpisodeStats) -> list[tuple[bool, str]]:
    tried = [candidate("nothing", nothing), *(candidate(str(i), r) for i, r in enumerate(real))]
    return [(c.accepted, c.why) for c in judged(tried, np.random.default_rng(0))[1:]]


@pytest.mark.parametrize(
    ("real", "accepted", "told"),
    [
        (episodes(50), True, "success"),
        (episodes(21), False, "not proven better"),  # one more success of 60 is luck
        (episodes(24), False, "not proven better"),  # so are four of four that differ: McNemar's exact p is 0.125
        (episodes(20, 2.0), True, "return"),
        (episodes(19, 9.0), False, "not proven better"),  # a higher return does not pay for a lost success
        (episodes(0), False, "negative transfer"),
    ],
)
def test_the_judgement(real: EpisodeStats, accepted: bool, told: str) -> None:
    ((verdict, why),) = judge(real, nothing=episodes(20))
    assert verdict is accepted and told in why


def test_a_way_that_was_given_up_keeps_its_reason_and_takes_no_part() -> None:
    tried = [candidate("nothing", episodes(20)), candidate("a", None, why="no windows"), candidate("b", episodes(50))]
    out = judged(tried, np.random.default_rng(0))
    assert [c.accepted for c in out] == [True, False, True] and out[1].why == "no windows"
    assert out[2].change["success"]["mean"] == 0.5


def test_the_luckiest_of_many_is_not_taken_for_better() -> None:
    rng, alone, together = np.random.default_rng(0), 0, 0
    for _ in range(40):  # ten candidates that are no better than nothing, 80 episodes each
        nothing = EpisodeStats(rng.random(80) < 0.5, rng.normal(size=80))
        tried = [EpisodeStats(rng.random(80) < 0.5, rng.normal(size=80)) for _ in range(10)]
        together += any(accepted for accepted, _ in judge(*tried, nothing=nothing))
        changes = [(t.success.astype(float) - nothing.success, t.returns - nothing.returns) for t in tried]
        single = [[simultaneous.interval(c, student_t(79)) for c in pair] for pair in changes]
        alone += any(verdict({"success": s, "return": r}, 0.0)[0] for s, r in single)
    assert together <= 5 and alone > 2 * together  # 2 of 40 are expected


def test_what_is_not_to_be_lost_rolls_back() -> None:
    def tried(kept: int, stress: float) -> Candidate:
        nothing = candidate("nothing", episodes(10), kept={"monday": episodes(50)}, stress=np.full(60, 0.8))
        scores = 0.8 + stress + 0.01 * np.cos(np.arange(60.0))
        better = candidate("policy", episodes(55), kept={"monday": episodes(kept)}, stress=scores)
        return judged([nothing, better], np.random.default_rng(0), tolerance=0.05)[1]

    assert tried(50, 0.0).accepted
    assert tried(48, -0.04).accepted, "less than the tolerance"
    forgot = tried(30, 0.0)
    assert not forgot.accepted and "negative transfer" in forgot.why and "monday -0.333" in forgot.why
    weak = tried(50, -0.2)
    assert not weak.accepted and "stress score -0.200" in weak.why
    row = weak.row(np.random.default_rng(0))
    assert row["stress"] == pytest.approx(0.6, abs=0.01) and row["kept"]["monday"]["n"] == 60


def test_the_choice_prefers_success_then_return_then_the_smaller_change() -> None:
    nothing = candidate("nothing", episodes(20), True)
    assert choose([nothing, candidate("a", episodes(30), True), candidate("b", episodes(40), True)]) == 2
    assert choose([nothing, candidate("a", episodes(40))]) == 0
    assert choose([nothing, candidate("a", episodes(40), True), candidate("b", episodes(40), True)]) == 1
    assert choose([nothing, candidate("a", episodes(40), True), candidate("b", episodes(40, 1.5), True)]) == 2
    both = [candidate(str(k), episodes(30 + k), True, kept={"monday": episodes(60 - 3 * k)}) for k in (0, 5)]
    assert choose(both) == 0, "a robot that was learned before counts as much as the new one"
