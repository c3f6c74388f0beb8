"""Novelty: what lies far from training is told, what lies within is left alone."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from policies.encoders.novelty import STRANGE, Novelty, auroc, verdict
from policies.encoders.signatures import RECORDING, of_recordings
from robot.config import ConfigError

SCALES = np.array([100.0, 1.0, 0.01, 1.0, 1.0])
"""Features of very different size, the last of them the sum of two others."""


def features(rng: np.random.Generator, n: int) -> np.ndarray:
    x = rng.standard_normal((n, 5))
    x[:, 4] = x[:, 1] + x[:, 3]
    return x * SCALES


@pytest.fixture()
def fitted(rng: np.random.Generator) -> Novelty:
    return Novelty.fit(features(rng, 3000), features(rng, 500), rng)


def test_data_like_the_training_has_every_rank(fitted: Novelty, rng: np.random.Generator) -> None:
    rank = fitted.rank(features(rng, 2000))
    assert abs(rank.mean() - 0.5) < 0.05 and rank.min() >= 0.0 and rank.max() <= 1.0
    found = verdict(rank)
    assert found["strange_share"] < 0.03 and found["verdict"].startswith("inside")


@pytest.mark.parametrize("shift", [[0, 0, 0.08, 0, 0], [500, 0, 0, 0, 0], [0, 2, 0, 0, -2]])
def test_a_shift_counts_in_the_unit_of_its_feature(
    fitted: Novelty, rng: np.random.Generator, shift: list[float]
) -> None:
    """The last breaks the relation between features, and each of them alone looks as ever."""
    far = features(rng, 500) + np.array(shift)
    assert auroc(fitted.score(features(rng, 500)), fitted.score(far)) > 0.95
    assert (fitted.rank(far) > STRANGE).mean() > 0.5 and not verdict(fitted.rank(far))["verdict"].startswith("inside")


def test_one_strange_part_is_enough(rng: np.random.Generator) -> None:
    """Beside forty features that are as ever, a shift in one of them drowns; in a part of its own it does not."""
    train, held, other = (rng.standard_normal((n, 41)) for n in (1500, 300, 300))
    shifted = other + np.array([0.0] * 40 + [5.0])
    drowned, told = (Novelty.fit(train, held, rng, widths) for widths in (None, (40, 1)))
    areas = [auroc(n.score(other), n.score(shifted)) for n in (drowned, told)]
    assert areas[1] > 0.99 and areas[1] > areas[0] + 0.01
    assert (told.rank(shifted) > STRANGE).mean() > 0.95 > (drowned.rank(shifted) > STRANGE).mean() + 0.2


def test_the_nearest_neighbours_are_the_nearest(fitted: Novelty) -> None:
    part = fitted.parts[0]
    rows, distance = part.nearest(part.mean + part.reference[:7] @ np.linalg.pinv(part.whitening), 3)
    assert rows.shape == (7, 3) and rows[:, 0].tolist() == list(range(7)) and np.all(np.diff(distance) >= 0.0)


def test_a_saved_score_comes_back_and_another_encoders_is_refused(
    fitted: Novelty, rng: np.random.Generator, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match=r"no scores\.safetensors in it; pretraining writes one"):
        Novelty.load(tmp_path, "scores")
    fitted.save(tmp_path, "scores")
    again, x = Novelty.load(tmp_path, "scores"), features(rng, 50)
    np.testing.assert_allclose(again.score(x), fitted.score(x), rtol=1e-4, atol=1e-4)
    with pytest.raises(ConfigError, match="fitted on 5 features and is asked about 4"):
        again.score(x[:, :4])


def test_the_area_under_the_curve_is_a_probability() -> None:
    rng = np.random.default_rng(3)
    inside, outside = rng.integers(0, 6, 40).astype(float), rng.integers(2, 8, 30).astype(float)
    pairs = outside[:, None] - inside[None]
    assert auroc(inside, outside) == pytest.approx(((pairs > 0) + 0.5 * (pairs == 0)).mean())
    assert auroc(np.zeros(3), np.ones(4)) == 1.0 and auroc(np.ones(3), np.ones(4)) == 0.5


def test_recordings_are_means_of_their_own_windows() -> None:
    group = np.repeat([5, 2], [2 * RECORDING + 3, 4])
    values = np.where(group == 5, 10.0, 1.0)[:, None] * np.ones((1, 3))
    (rows, same), groups = of_recordings([values, values], group)
    assert groups.tolist() == [2, 5, 5] and rows[:, 0].tolist() == [1.0, 10.0, 10.0] == same[:, 0].tolist()
