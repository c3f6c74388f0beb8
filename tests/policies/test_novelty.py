"""Novelty: what lies far from training is told, what lies within is left alone."""

from __future__ import annotations

from dataclasses import replace
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
    assert auroc(fitted.distance(features(rng, 500)), fitted.distance(far)) > 0.95
    assert (fitted.rank(far) > STRANGE).mean() > 0.5 and not verdict(fitted.rank(far))["verdict"].startswith("inside")


def test_the_nearest_neighbours_are_the_nearest(fitted: Novelty) -> None:
    rows = fitted.neighbours(fitted.mean + fitted.reference[:7] @ np.linalg.pinv(fitted.whitening), 3)
    assert rows.shape == (7, 3) and rows[:, 0].tolist() == list(range(7))


def test_a_saved_score_comes_back_and_another_encoders_is_refused(
    fitted: Novelty, rng: np.random.Generator, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match=r"no scores\.safetensors in it; pretraining writes one"):
        Novelty.load(tmp_path, "scores")
    fitted.save(tmp_path, "scores")
    again, x = Novelty.load(tmp_path, "scores"), features(rng, 50)
    np.testing.assert_allclose(again.distance(x), fitted.distance(x), rtol=1e-4, atol=1e-4)
    with pytest.raises(ConfigError, match="fitted on 5 features and is asked about 4"):
        again.distance(x[:, :4])
    replace(fitted).save(tmp_path, "other")


def test_the_area_under_the_curve_is_a_probability() -> None:
    rng = np.random.default_rng(3)
    inside, outside = rng.integers(0, 6, 40).astype(float), rng.integers(2, 8, 30).astype(float)
    pairs = outside[:, None] - inside[None]
    assert auroc(inside, outside) == pytest.approx(((pairs > 0) + 0.5 * (pairs == 0)).mean())
    assert auroc(np.zeros(3), np.ones(4)) == 1.0 and auroc(np.ones(3), np.ones(4)) == 0.5


def test_recordings_are_means_of_their_own_windows() -> None:
    group = np.repeat([5, 2], [2 * RECORDING + 3, 4])
    values = np.where(group == 5, 10.0, 1.0)[:, None] * np.ones((1, 3))
    rows, groups = of_recordings(values, group)
    assert groups.tolist() == [2, 5, 5] and rows[:, 0].tolist() == [1.0, 10.0, 10.0]
