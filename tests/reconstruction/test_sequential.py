"""Fitting layers in order, and the places they are fitted at."""

import pytest
import torch
from torch import nn

from mmcompress.data.images import Batch
from mmcompress.reconstruction.sequential import (
    Narrowed,
    columns_at,
    least_squares,
    together,
)


@pytest.mark.parametrize('layer', [
    nn.Conv2d(5, 4, 3, padding=1), nn.Conv2d(5, 4, (1, 3), stride=2, padding=(0, 1)),
    nn.Conv2d(5, 4, 3, dilation=2, padding=1, stride=(1, 2))], ids=str)
def test_columns_give_the_outputs(layer):
    x = torch.randn(3, 5, 9, 8, generator=torch.Generator().manual_seed(0))
    rows = layer(x).movedim(1, -1).flatten(0, -2)
    places = torch.arange(len(rows)).flip(0)
    columns = columns_at(layer, x, places)
    torch.testing.assert_close(
        columns @ layer.weight.flatten(1).T + layer.bias, rows[places])


def test_columns_of_tokens():
    x = torch.randn(2, 7, 5)
    assert torch.equal(columns_at(nn.Linear(5, 3), x, torch.tensor([13, 0])),
                       torch.stack([x[1, 6], x[0, 0]]))


def test_an_exact_fit_is_found_and_a_strong_ridge_stays_at_the_start():
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(200, 4, generator=generator) + 1.0
    weights, bias = torch.randn(3, 4, generator=generator), torch.tensor([1.0, -2, 0])
    start = Narrowed(nn.Linear(4, 3), None, torch.zeros(3, 4), None)
    fit = least_squares(x, x @ weights.T + bias, start, ridge=1e-9)
    torch.testing.assert_close(fit.rows, weights, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(fit.bias, bias, atol=1e-3, rtol=1e-3)
    far = least_squares(x, x @ weights.T + bias, start, ridge=1e9)
    assert far.rows.abs().max() < 1e-6
    torch.testing.assert_close(far.bias, (x @ weights.T + bias).mean(0))


def test_the_most_frequent_size_goes_together():
    def batch(count: int, side: int) -> Batch:
        return Batch(torch.zeros(count, 3, side, side), list(range(count)))

    found = together([batch(2, 8), batch(3, 4), batch(1, 8)])
    assert found.inputs.shape == (3, 3, 8, 8) and found.data_samples == [0, 1, 0]
