"""Linear probes and what stands beside them."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from policies.encoders import readout
from policies.encoders.physics import PhysicsEncoder
from policies.encoders.readout import Targets, area, measured_norms, narrowed, same_buffers, supervised, untrained

GROUPS, EACH = 60, 10


def targets(rng: np.random.Generator) -> tuple[np.ndarray, Targets]:
    """Features of 2 x 600 rows, ten a group, and targets: linear, noise, a class, and one that never varies."""
    z = np.repeat(rng.standard_normal((2 * GROUPS, 4)), EACH, axis=0)
    y = np.stack(
        [z @ [1.0, -2.0, 0.0, 0.0], rng.standard_normal(len(z)), (z[:, 2] > 0.3) * 1.0, np.ones(len(z))], axis=1
    )
    half, group = GROUPS * EACH, np.repeat(np.arange(GROUPS), EACH)
    return z, Targets(("linear", "noise", "class", "still"), y[:half], y[half:], group, frozenset({"class"}))


def test_probes_tell_what_is_there_and_nothing_else(rng: np.random.Generator) -> None:
    z, wanted = targets(rng)
    half = len(wanted.train)
    blind = rng.standard_normal(z.shape)
    found = readout.readout({"all": (z[:half], z[half:]), "none": (blind[:half], blind[half:])}, wanted, rng)
    assert set(found) == {"linear", "noise", "class"}
    assert found["linear"]["all"]["mean"] > 0.99 and found["class"]["all"]["mean"] > 0.95
    assert abs(found["noise"]["all"]["mean"]) < 0.1 and abs(found["linear"]["none"]["mean"]) < 0.1
    low, high = found["class"]["none"]["ci95"]
    assert low < 0.5 < high and found["class"]["none"]["n"] == GROUPS


def test_copies_of_a_window_do_not_make_an_interval_narrower(rng: np.random.Generator) -> None:
    score, truth = rng.standard_normal(80), (rng.random(80) > 0.5) * 1.0
    once = area(score, truth, np.arange(80), np.random.default_rng(0))
    often = area(*(np.repeat(a, 10) for a in (score, truth, np.arange(80))), np.random.default_rng(0))
    widths = [found["ci95"][1] - found["ci95"][0] for found in (once, often)]
    assert widths[1] > 0.8 * widths[0] and once["mean"] == pytest.approx(often["mean"])


def test_wide_inputs_are_averaged_along_time() -> None:
    rows = np.arange(2 * 10 * 3, dtype=np.float32).reshape(2, 10, 3)
    assert narrowed(rows, 30).shape == (2, 30)
    half = narrowed(rows, 15).reshape(2, 5, 3)
    np.testing.assert_allclose(half, 0.5 * (rows[:, ::2] + rows[:, 1::2]))
    assert narrowed(rows, 12).reshape(2, 3, 3)[0, -1, 0] == rows[0, -3:, 0].mean()  # the newest rows are kept


def test_an_untrained_network_has_the_encoders_statistics_and_nothing_of_its_weights(encoder: PhysicsEncoder) -> None:
    encoder.scale.set(np.arange(encoder.card.row), np.full(encoder.card.row, 3.0))
    before = torch.random.get_rng_state()
    one, same, other = (untrained(lambda: PhysicsEncoder(encoder.card), same_buffers(encoder), s) for s in (1, 1, 2))
    assert torch.equal(before, torch.random.get_rng_state())
    assert torch.equal(one.scale.mean, encoder.scale.mean) and torch.equal(one.scale.deviation, encoder.scale.deviation)
    weights = [torch.nn.utils.parameters_to_vector(n.parameters()) for n in (one, same, other, encoder)]
    assert torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[0], weights[2]) and not torch.equal(weights[0], weights[3])


def test_batch_norms_of_an_untrained_network_are_measured() -> None:
    inputs = 5.0 + 3.0 * torch.randn(400, 2, generator=torch.Generator().manual_seed(0))
    network = untrained(lambda: torch.nn.Sequential(torch.nn.BatchNorm1d(2)), measured_norms([inputs]), 0)
    norm = network[0]
    assert isinstance(norm, torch.nn.BatchNorm1d) and norm.running_mean is not None
    torch.testing.assert_close(norm.running_mean, inputs.mean(dim=0))
    assert norm.momentum == 0.1 and not network.training


def test_a_supervised_network_learns_what_its_features_could_not_tell(rng: np.random.Generator) -> None:
    x = rng.standard_normal((1200, 3))
    y = (x[:, :1] * x[:, 1:2]).astype(np.float64)
    torch.manual_seed(0)
    fresh = torch.nn.Sequential(torch.nn.Linear(3, 32), torch.nn.Tanh(), torch.nn.Linear(32, 2), torch.nn.Tanh())
    inputs = [torch.from_numpy(x[:800].astype(np.float32))]
    trained = supervised(fresh, lambda n, i: n(i[0]), 2, inputs, y[:800], updates=300, batch=64, seed=0,
                         learning_rate=1e-2)  # fmt: skip
    wanted = Targets(("product",), y[:800], y[800:], np.arange(400))

    def read(network: torch.nn.Module) -> float:
        with torch.no_grad():
            z = network(torch.from_numpy(x.astype(np.float32))).numpy().astype(np.float64)
        return float(readout.readout({"z": (z[:800], z[800:])}, wanted, rng)["product"]["z"]["mean"])

    assert read(trained) > 0.8 > 0.3 > read(fresh)
    assert not trained.training
