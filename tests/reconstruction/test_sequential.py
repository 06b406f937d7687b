"""Fitting layers in order, and the places they are fitted at."""

import pytest
import torch
from torch import nn

from mmcompress.data.images import Batch
from mmcompress.reconstruction.columns import columns_at, has_columns, rows_of
from mmcompress.reconstruction.sequential import (
    Layer,
    fit_in_order,
    least_squares,
    together,
)
from mmcompress.surgery.shadow import shadowed


@pytest.mark.parametrize('layer', [
    nn.Conv2d(5, 4, 3, padding=1), nn.Conv2d(5, 4, (1, 3), stride=2, padding=(0, 1)),
    nn.Conv2d(5, 4, 3, dilation=2, padding=1, stride=(1, 2)),
    nn.Conv2d(5, 10, 3, groups=5, padding=1)], ids=str)
def test_columns_give_the_outputs(layer):
    x = torch.randn(3, 5, 9, 8, generator=torch.Generator().manual_seed(0))
    rows = rows_of(layer, layer(x))
    places = torch.arange(len(rows)).flip(0)
    columns = columns_at(layer, x, places)
    weights = layer.weight.flatten(1).reshape(len(columns), -1, columns.shape[2])
    found = (columns @ weights.mT).movedim(0, 1).flatten(1)
    assert has_columns(layer)
    torch.testing.assert_close(found + layer.bias, rows[places])


def test_columns_of_tokens():
    x = torch.randn(2, 7, 5)
    assert torch.equal(columns_at(nn.Linear(5, 3), x, torch.tensor([13, 0])),
                       torch.stack([x[1, 6], x[0, 0]])[None])
    assert not has_columns(nn.ConvTranspose2d(5, 3, 2)) and not has_columns(nn.ReLU())


def test_an_exact_fit_is_found_and_a_strong_ridge_stays_at_the_start():
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(200, 4, generator=generator) + 1.0
    weights, bias = torch.randn(3, 4, generator=generator), torch.tensor([1.0, -2, 0])
    start = Layer(nn.Linear(4, 3), None, torch.zeros(3, 4), None)
    fit = least_squares(x[None], x @ weights.T + bias, start, ridge=1e-9)
    torch.testing.assert_close(fit.rows, weights, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(fit.bias, bias, atol=1e-3, rtol=1e-3)
    far = least_squares(x[None], x @ weights.T + bias, start, ridge=1e9)
    assert far.rows.abs().max() < 1e-6
    torch.testing.assert_close(far.bias, (x @ weights.T + bias).mean(0))


def test_the_groups_of_a_layer_are_fitted_apart():
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(2, 300, 3, generator=generator)  # two groups of three columns
    weights = torch.randn(4, 3, generator=generator)
    target = torch.cat([x[0] @ weights[:2].T, x[1] @ weights[2:].T], 1)
    layer = nn.Conv2d(2, 4, (1, 3), groups=2)
    start = Layer(layer, None, torch.zeros(4, 1, 1, 3), None)
    fit = least_squares(x, target, start, ridge=1e-9)
    torch.testing.assert_close(fit.rows.flatten(1), weights, atol=1e-4, rtol=1e-4)


class Block(nn.Module):
    """``norm(conv(x)) + shortcut(x)``, whose shortcut runs last."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(4, 3, 1, bias=False)
        self.norm = nn.BatchNorm2d(3)
        self.shortcut = nn.Conv2d(4, 3, 1)

    def forward(self, x):
        out = self.norm(self.conv(x))
        out += self.shortcut(x)
        return torch.relu(out)


@pytest.mark.parametrize('residual', [True, False])
def test_a_summand_makes_up_for_what_the_shortcut_lost(residual):
    """The shortcut loses its weights on channel 0; the convolution can take them."""
    generator = torch.Generator().manual_seed(0)
    model = Block().eval()
    model.norm.weight.data = torch.tensor([0.5, -2.0, 1.0])
    model.norm.running_mean = torch.tensor([1.0, 0.0, -1.0])
    batch = Batch(torch.randn(4, 4, 16, 16, generator=generator), [0] * 4)
    dense = model(batch.inputs).detach()
    lost = model.shortcut.weight.detach().clone()
    lost[:, 0] = 0
    start = Layer(model.conv, None, model.conv.weight.detach(), None)
    slices = [(model.shortcut, dict(weight=lost))]
    fit = fit_in_order(model, {'conv': start}, slices, [batch], 1e-9,
                       residual=residual)['conv']
    mended = dict(weight=fit.rows, bias=fit.bias)
    with shadowed([*slices, (model.conv, mended)]):
        change = (model(batch.inputs) - dense).abs().max()
    assert (change < 1e-4) == residual
    assert torch.equal(model(batch.inputs), dense)


def test_the_most_frequent_size_goes_together():
    def batch(count: int, side: int) -> Batch:
        return Batch(torch.zeros(count, 3, side, side), list(range(count)))

    found = together([batch(2, 8), batch(3, 4), batch(1, 8)])
    assert found.inputs.shape == (3, 3, 8, 8) and found.data_samples == [0, 1, 0]
