"""Integrated gradients and occlusion: on functions of which one knows what matters."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from policies.encoders.attribution import MOST_STEPS, integrated_gradients, occlusion, spread_over
from policies.encoders.physics import PhysicsEncoder


def test_a_product_is_shared_equally_and_a_sum_as_it_is_made() -> None:
    inputs = torch.tensor([[2.0, 3.0, 5.0], [1.0, -1.0, 4.0]])

    def function(x: Tensor) -> Tensor:
        return torch.stack([x[:, 0] * x[:, 1], 2.0 * x[:, 2] + x[:, 0]], dim=1)

    found = integrated_gradients(function, inputs, torch.zeros(3))
    np.testing.assert_allclose(found.values[0], [[3.0, 3.0, 0.0], [-0.5, -0.5, 0.0]], atol=1e-5)
    np.testing.assert_allclose(found.values[1], [[2.0, 0.0, 10.0], [1.0, 0.0, 8.0]], atol=1e-5)
    assert found.gap.max() < 1e-5


def test_the_shares_add_up_even_where_a_network_saturates_close_to_the_baseline() -> None:
    """As the regression inside of the physics encoder does: what is far above its ridge does not matter any more."""
    torch.manual_seed(0)
    inputs, weight = torch.randn(6, 40, 3), torch.randn(40, 3)

    def function(x: Tensor) -> Tensor:
        size = x.square().mean(dim=(1, 2))
        return ((x * weight).sum(dim=(1, 2)) / (1e-2 + size))[:, None]

    found = integrated_gradients(function, inputs, torch.zeros(3), tolerance=0.01)
    assert found.gap[0] < 0.01 and 16 < found.steps <= MOST_STEPS
    coarse = integrated_gradients(function, inputs, torch.zeros(3), tolerance=np.inf, steps=2)
    assert coarse.steps == 2 and coarse.gap[0] > 0.05


def test_a_function_without_gradients_is_told_by_its_gap() -> None:
    found = integrated_gradients(lambda x: x.round() + 0.0 * x, torch.full((4, 1), 3.3), torch.zeros(1))
    assert found.gap[0] == pytest.approx(1.0)
    constant = integrated_gradients(lambda x: 0.0 * x, torch.full((4, 1), 3.3), torch.zeros(1))
    assert constant.gap[0] == 0.0


def test_an_encoder_gives_no_share_to_rows_that_it_did_not_see(encoder: PhysicsEncoder) -> None:
    torch.manual_seed(1)
    history = torch.randn(3, encoder.card.history, encoder.card.row)
    mask = torch.ones(3, encoder.card.history)
    mask[:, :20] = 0.0
    found = integrated_gradients(lambda x: encoder(x, mask), history, torch.zeros(encoder.card.row))
    assert found.values.shape == (encoder.card.context, *history.shape)
    assert np.abs(found.values[:, :, :20]).max() == 0.0 < np.abs(found.values[:, :, 20:]).max()
    assert found.gap.max() < 0.05


def test_hiding_what_matters_moves_the_output_most() -> None:
    torch.manual_seed(2)
    images = torch.randint(0, 40, (2, 3, 40, 32), dtype=torch.uint8)
    images[0, :, 30:38, 4:12] = 255
    images[1, :, 2:10, 20:28] = 255

    def brightest(x: Tensor) -> Tensor:
        return x.float().amax(dim=(1, 2, 3))[:, None]

    maps = occlusion(brightest, images, patch=12, stride=5)
    assert maps.shape == (2, 7, 5)  # the last row and column reach the edge, where the stride does not
    grown = spread_over(maps, 40, 32)
    assert grown.shape == (2, 40, 32) and grown.max() == pytest.approx(1.0)
    for one, (rows, columns) in zip(grown, (((30, 38), (4, 12)), ((2, 10), (20, 28))), strict=True):
        peak = np.unravel_index(np.argmax(one), one.shape)
        assert rows[0] - 6 <= peak[0] <= rows[1] + 6 and columns[0] - 6 <= peak[1] <= columns[1] + 6
        assert one[rows[0] - 20 if rows[0] > 20 else rows[1] + 20, 16] == 0.0
