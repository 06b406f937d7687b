"""Repaired layers compute what they can of the dense ones."""

import numpy as np
import pytest
import torch
from torch import nn

from mmcompress.data.images import Batch
from mmcompress.errors import DataError
from mmcompress.layers.rule import rule_of
from mmcompress.reconstruction.compensation import compensate
from mmcompress.reconstruction.moments import Moments, coverage_of, measure, readers


def moments(covariance, mean=None) -> Moments:
    size = len(covariance)
    mean = torch.zeros(size) if mean is None else mean
    return Moments(mean.double(), covariance.double(), torch.ones(()))


def test_independent_channels_have_nothing_to_give():
    seen = moments(torch.eye(4))
    rows = torch.randn(3, 4, 1, 1)
    weights, shift = compensate(rows, seen, np.array([0, 2]))
    assert torch.equal(weights, rows[:, [0, 2]]) and not shift.any()


def test_means_go_into_the_bias():
    mean = torch.tensor([1.0, -2.0, 3.0])
    seen = moments(torch.eye(3), mean)
    rows = torch.ones(2, 3)
    weights, shift = compensate(rows, seen, np.array([0]))
    # The removed channels are their means: -2 + 3, less nothing of the kept one.
    assert torch.equal(weights, rows[:, :1]) and shift.tolist() == [1.0, 1.0]


@pytest.mark.parametrize('layer', [
    nn.Conv2d(6, 4, 1), nn.Conv2d(6, 4, 3), nn.Conv2d(6, 4, 3, dilation=2, stride=2),
    nn.ConvTranspose2d(6, 4, 2, stride=2)], ids=str)
def test_a_combination_of_kept_channels_is_removed_without_a_change(layer):
    generator = torch.Generator().manual_seed(0)
    basis = torch.randn(2, 4, 12, 12, generator=generator) + 1.0
    # Channels 4 and 5 follow from the others, a constant included.
    x = torch.cat([basis, basis[:, :1] - 2 * basis[:, 2:3] + 0.5, basis[:, 3:] * 3], 1)
    model = nn.Sequential(layer).eval()
    found = measure(model, readers(model, ['0']), [Batch(x, [])])['0']
    assert torch.allclose(found.mean, x.double().mean((0, 2, 3)), atol=0.05)
    rule, kept = rule_of(layer), np.arange(4)
    rows = rule.by_output(layer, layer.weight)
    weights, shift = compensate(rows, found, kept, ridge=1e-9)
    slim = type(layer)(4, 4, layer.kernel_size, stride=layer.stride,
                       dilation=layer.dilation)
    slim.weight.data = rule.from_output(layer, weights).detach().contiguous()
    # A transposed convolution adds one window to each output here.
    slim.bias.data = (layer.bias + shift if rule.kind == 'conv' else layer.bias).data
    with torch.no_grad():
        if rule.kind == 'conv':
            torch.testing.assert_close(slim(basis), layer(x), atol=1e-4, rtol=1e-4)
        else:
            gone = slim(basis) - layer(x)
            # What is missing is the constant, the same at each place of the window.
            assert gone.std((0,))[:, ::2, ::2].max() < 1e-4


def test_the_patch_form_sees_what_single_pixels_do_not():
    """Channel 1 is channel 0 one column to the right: no pixel alone gives it away."""
    generator = torch.Generator().manual_seed(0)
    wide = torch.randn(8, 1, 30, 31, generator=generator)
    x = torch.cat([wide[..., 1:], wide[..., :-1]], 1)  # x[1, c] = x[0, c - 1]
    layer = nn.Conv2d(2, 3, (1, 2), bias=False)
    # It reads x[0, c], x[0, c + 1] and x[1, c + 1], which is x[0, c].
    layer.weight.data[:] = torch.tensor([[[0.5, 0.5]], [[0.0, 1.0]]])
    model = nn.Sequential(layer).eval()
    found = measure(model, readers(model, ['0']), [Batch(x, [])])['0']
    assert found.window == 2 and found.covariance.shape == (4, 4)

    def loss(seen: Moments) -> float:
        rows, _ = compensate(layer.weight, seen, np.array([0]), ridge=1e-9)
        slim = nn.functional.conv2d(x[:, :1], rows)
        return float((slim - layer(x)).detach().square().mean())

    assert loss(found) < 1e-4
    pixels = found.pixels()
    assert pixels.window == 1 and pixels.covariance.shape == (2, 2)
    assert loss(pixels) > 0.9  # that is the variance of what went


def test_too_few_places_for_the_patch_form_give_the_pixel_form():
    model = nn.Sequential(nn.Conv2d(4, 2, 3)).eval()
    # 5 x 5 places, and the patch form has 36 columns, so it would take 360.
    found = measure(model, readers(model, ['0']), [Batch(torch.rand(1, 4, 7, 7), [])])
    assert found['0'].window == 1 and len(found['0'].mean) == 4


def test_what_is_read_through_a_window_with_padding():
    # Of 4 outputs a row, 3 see the left column and 3 the right one.
    geometry = dict(size=(4, 4), kernel=(3, 3), stride=(1, 1), padding=(1, 1),
                    dilation=(1, 1))
    side = torch.tensor([0.75, 1.0, 0.75], dtype=torch.float64)
    assert torch.equal(coverage_of(geometry), side[:, None] * side)
    assert coverage_of(dict(size=(5,))).shape == ()


def test_calls_of_a_shared_layer_are_added_up():
    class Twice(nn.Module):
        def __init__(self):
            super().__init__()
            self.head = nn.Linear(3, 2)

        def forward(self, x):
            return self.head(x), self.head(3 * x)

    model = Twice().eval()
    x = torch.randn(64, 3, generator=torch.Generator().manual_seed(0))
    found = measure(model, readers(model, ['head']), [Batch(x, [])])['head']
    both = torch.cat([x, 3 * x]).double()
    torch.testing.assert_close(found.mean, both.mean(0))
    torch.testing.assert_close(
        found.covariance, (both - both.mean(0)).T @ (both - both.mean(0)) / 128,
        atol=1e-5, rtol=1e-5)  # products are in single precision


def test_layers_with_groups_are_no_readers_and_images_are_needed():
    model = nn.Sequential(nn.Conv2d(4, 4, 1, groups=2), nn.Conv2d(4, 4, 1), nn.ReLU())
    assert list(readers(model, ['0', '1', '2', 'nope'])) == ['1']
    with pytest.raises(DataError, match='images without labels'):
        measure(model, {}, [])
