"""Ranges by hand and against brute force."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mmcompress.arithmetic.ranges import (
    OBSERVERS,
    SHARES,
    SIGNED,
    WEIGHT_CANDIDATES,
    Sample,
    activation_range,
    weight_scales,
)
from mmcompress.errors import CompressionError


def sample(values, each=1.0):
    return Sample.of([(torch.as_tensor(values, dtype=torch.float32), each)])


def error(values, scale, zero, top):
    """Squared error of quantising, value by value."""
    q = np.clip(np.round(values / scale) + zero, 0, top)
    return (((q - zero) * scale - values) ** 2).sum()


def test_min_max_by_hand():
    # -1 .. 3 in 4 bits: 4 / 15 a step, zero point round(3.75) = 4.
    scale, zero = activation_range(sample([-1, 0.5, 3]), 4, 'minmax')
    assert (scale, zero) == (pytest.approx(4 / 15), 4)
    # Zero is always inside: 2 .. 3 becomes 0 .. 3.
    assert activation_range(sample([2, 3]), 8, 'minmax') == (pytest.approx(3 / 255), 0)
    # Symmetric: -3 .. 3 around the middle integer; never negative: from 0.
    assert activation_range(sample([-1, 3]), 4, 'minmax', True) == (
        pytest.approx(6 / 15), 8)
    assert activation_range(sample([1, 3]), 4, 'minmax', True) == (
        pytest.approx(3 / 15), 0)
    # Signed: around the middle, never negative or not.
    assert activation_range(sample([1, 3]), 4, 'minmax', SIGNED) == (
        pytest.approx(6 / 15), 8)
    # Nothing but zeros.
    assert activation_range(sample([0, 0]), 4, 'mse')[0] > 0


def test_percentile_ignores_rare_values():
    values = np.append(np.linspace(0, 1, 20_000), 1000)
    scale, zero = activation_range(sample(values), 8, 'percentile')
    assert zero == 0 and scale == pytest.approx(1 / 255, rel=1e-3)
    assert activation_range(sample(values), 8, 'minmax')[0] == pytest.approx(1000 / 255)


@pytest.mark.parametrize('symmetric', [False, True])
@given(st.integers(0, 10 ** 6), st.integers(2, 6), st.booleans())
@settings(deadline=None, max_examples=15)
def test_mse_is_the_best_candidate(symmetric, seed, bits, positive):
    values = np.random.default_rng(seed).standard_t(3, 300).astype(np.float32)
    values = np.abs(values) if positive else values
    top = 2 ** bits - 1
    found = error(values, *activation_range(sample(values), bits, 'mse', symmetric),
                  top)
    low, high = min(values.min(), 0), values.max()
    candidates = []
    for a in SHARES:
        for b in SHARES:
            lo, hi = low * a, high * b
            if symmetric and low < 0:
                hi = max(-low, high) * a
                lo = -hi
            scale = (hi - lo) / top
            zero = 2 ** (bits - 1) if symmetric and low < 0 else np.round(-lo / scale)
            candidates.append(error(values, scale, zero, top))
    assert found == pytest.approx(min(candidates), rel=1e-3)


def test_values_stand_for_as_many_as_they_should():
    # 9 values of 1 against one of 10, each drawn value standing for all.
    parts = Sample.of([(torch.ones(1), 9000.0), (torch.tensor([10.0]), 1.0)])
    values = np.append(np.ones(9000), 10)
    scale, zero = activation_range(parts, 2, 'mse')
    assert (scale, zero) == activation_range(sample(values), 2, 'mse')


@given(st.integers(0, 10 ** 6), st.integers(2, 8))
@settings(deadline=None, max_examples=15)
def test_weights_take_the_best_scale_each(seed, bits):
    rows = torch.randn(5, 40, generator=torch.Generator().manual_seed(seed))
    scales, top = weight_scales(rows, bits), 2 ** (bits - 1) - 1
    for row, scale in zip(rows.numpy(), scales.numpy()):
        tried = np.abs(row).max() / top * WEIGHT_CANDIDATES
        errors = [((np.clip(np.round(row / s), -top, top) * s - row) ** 2).sum()
                  for s in tried]
        own = ((np.clip(np.round(row / scale), -top, top) * scale - row) ** 2).sum()
        assert own == pytest.approx(min(errors), rel=1e-3)
    # A channel depends on nothing but its own weights, in any order.
    shuffled = rows[:, torch.randperm(40)]
    assert torch.equal(weight_scales(shuffled, bits), scales)
    assert torch.equal(weight_scales(rows[2:3], bits), scales[2:3])


def test_unknown_observer():
    with pytest.raises(CompressionError, match=', '.join(OBSERVERS)):
        activation_range(sample([1.0]), 8, 'kl')
