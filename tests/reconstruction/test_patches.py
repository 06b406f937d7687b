"""What layers multiply, by group, and its covariance."""

import numpy as np
import pytest
import torch
from torch import nn

from mmcompress.data.images import Batch
from mmcompress.layers.rule import sliced
from mmcompress.reconstruction import patches
from mmcompress.reconstruction.patches import (
    has_patches,
    kept_columns,
    measure_patches,
    patch_columns,
)

LAYERS = [
    nn.Conv2d(6, 4, 3, padding=1), nn.Conv2d(6, 6, 3, stride=2, groups=6),
    nn.Conv2d(6, 4, (1, 3), padding=(0, 1), groups=2), nn.Linear(6, 5)]


def inputs(layer, count=4, seed=0):
    shape = (9, 8, 6) if isinstance(layer, nn.Linear) else (6, 9, 8)
    return torch.randn(count, *shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize('layer', LAYERS, ids=str)
def test_columns_times_weights_are_the_outputs(layer):
    x = inputs(layer)
    y = layer(x)
    y = y.flatten(0, -2) if isinstance(layer, nn.Linear) else y.movedim(1, -1).flatten(
        0, -2)
    columns = patch_columns(layer, x, torch.arange(len(y)))
    groups = columns.shape[1]
    rows = layer.weight.reshape(groups, -1, columns.shape[2])
    made = torch.einsum('ngk,gok->ngo', columns, rows).flatten(1) + layer.bias
    torch.testing.assert_close(made, y)


@pytest.mark.parametrize('layer', LAYERS, ids=str)
def test_covariance(layer):
    # Few places: all are looked at, in both batches, so the numbers are exact.
    batches = [Batch(inputs(layer, 3, seed), []) for seed in (0, 1)]
    model = nn.Sequential(layer)
    found = measure_patches(
        model, {'0': layer}, batches, lambda _, x: {8: x, 4: 2 * x})['0']
    columns = torch.cat([patch_columns(layer, b.inputs, torch.arange(
        layer(b.inputs).numel() // len(layer.weight))) for b in batches]).double()
    for g in range(columns.shape[1]):
        expected = torch.cov(columns[:, g].T, correction=0).reshape(
            columns.shape[2], -1)
        torch.testing.assert_close(found[8][g], expected)
        torch.testing.assert_close(found[4][g], 4 * expected)


def test_drawn_places_are_bounded_and_seeded(monkeypatch):
    layer, seen = nn.Conv2d(6, 4, 1), []
    for name, value in dict(PLACES=40, FEWEST=20, PER_COLUMN=5).items():
        monkeypatch.setattr(patches, name, value)

    def measure(seed):
        seen.clear()
        batches = [Batch(inputs(layer, 2, number), []) for number in (0, 1)]
        return measure_patches(nn.Sequential(layer), {'0': layer}, batches,
                               lambda _, x: seen.append(len(x)) or {0: x}, seed)['0'][0]

    assert torch.equal(measure(0), measure(0))
    assert not torch.equal(measure(0), measure(1))
    # 5 a column of 6 are 30, at least 20 and at most 40: 15 of each of two batches.
    assert seen == [15, 15]


@pytest.mark.parametrize('layer, kept', [
    (LAYERS[0], [0, 1, 4]), (LAYERS[1], [1, 5]), (LAYERS[2], [3, 4, 5]),
    (LAYERS[2], [0, 2, 3, 5]), (LAYERS[3], [2, 3])], ids=str)
def test_narrower_layers(layer, kept):
    kept, outputs = np.array(kept), None
    if layer is LAYERS[1]:
        outputs = kept
    elif layer is LAYERS[2] and len(kept) == 3:
        outputs = np.array([2, 3])  # the second group alone
    x, axis = inputs(layer), 3 if isinstance(layer, nn.Linear) else 1
    wide = patch_columns(layer, x, torch.arange(20)).double()
    covariance = torch.einsum('ngi,ngj->gij', wide, wide)
    narrow = type(layer).__new__(type(layer))
    narrow.__dict__.update(layer.__dict__)
    narrow.__dict__.update(sliced(layer, outputs, kept))
    columns = patch_columns(
        narrow, x.index_select(axis, torch.as_tensor(kept)), torch.arange(20)).double()
    size = layer.weight[0, 0].numel()
    torch.testing.assert_close(kept_columns(covariance, kept, size),
                               torch.einsum('ngi,ngj->gij', columns, columns))


@pytest.mark.parametrize('layer', [
    nn.ConvTranspose2d(4, 4, 3), nn.Conv1d(4, 4, 3), nn.Conv2d(257, 4, 3),
    nn.Conv2d(4, 4, 3, padding=1, padding_mode='reflect'),
    nn.Conv2d(4, 4, 3, padding='same')], ids=str)
def test_layers_without(layer):
    assert not has_patches(layer)
    assert all(has_patches(known) for known in LAYERS)
