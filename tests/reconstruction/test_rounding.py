"""Rounding columns one after another."""

from itertools import product

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mmcompress.arithmetic.quantizers import fake_quantise
from mmcompress.reconstruction.rounding import gptq, gptq_scales

GENERATOR = torch.Generator().manual_seed(0)


def loss(error, covariance):
    """``tr(E H E')``."""
    return (error.double() @ covariance * error.double()).sum((1, 2))


def case(seed, groups, out, columns, top):
    """Weights, covariances of inputs with much in common, and scales."""
    generator = torch.Generator().manual_seed(seed)
    mixed = torch.randn(groups, columns, columns, generator=generator).double()
    inputs = torch.randn(groups, 4 * columns, columns, generator=generator).double()
    inputs = inputs @ mixed
    covariance = inputs.transpose(1, 2) @ inputs / inputs.shape[1]
    rows = torch.randn(groups, out, columns, generator=generator)
    return rows, covariance, rows.abs().amax(2) / top


def test_two_columns_by_hand():
    # The first column has the larger diagonal: .4 -> 0, error .4. With H = (A + I) D
    # (A + I)' and A_01 = H_01 / H_11 = 1 the second is rounded at .4 + .4 = .8 -> 1.
    # Its loss is 2 (.4)^2 + 2 (.4)(-.6) + (.6)^2 = .32 - .48 + .36 = .2; that of
    # (0, 0), the nearest, .8; of (1, 0), what the other order finds, .72 - .48 + .16.
    covariance = torch.tensor([[[2.0, 1.0], [1.0, 1.0]]]).double()
    rows = torch.tensor([[[0.4, 0.4]]])
    found = gptq(rows, covariance, torch.ones(1, 1), 7, ridge=0)
    assert found.tolist() == [[[0, 1]]]
    losses = {q: float(loss(rows - torch.tensor([[q]]), covariance))
              for q in product((-1, 0, 1, 2), repeat=2)}
    assert min(losses, key=losses.get) == (0, 1)
    assert losses[0, 1] == pytest.approx(0.2) and losses[1, 0] == pytest.approx(0.4)
    # Columns the other way round: the same, found in the same order.
    found = gptq(rows, covariance.flip(1, 2), torch.ones(1, 1), 7, ridge=0)
    assert found.tolist() == [[[1, 0]]]


def test_uncorrelated_inputs_are_rounded_to_the_nearest():
    rows, _, scale = case(0, 3, 5, 70, 7)
    for covariance in (torch.eye(70).expand(3, 70, 70),
                       torch.diag_embed(torch.rand(3, 70, generator=GENERATOR))):
        assert torch.equal(gptq(rows, covariance, 0.7 * scale, 7),
                           fake_quantise(rows, 0.7 * scale[..., None], -7, 7))


@settings(deadline=None, max_examples=60)
@given(seed=st.integers(0, 10 ** 6), groups=st.integers(1, 3), out=st.integers(1, 4),
       columns=st.integers(1, 80), top=st.sampled_from([1, 7, 127]),
       share=st.floats(0.3, 1), ridge=st.sampled_from([1e-4, 1e-2, 1]))
def test_no_worse_than_the_nearest(seed, groups, out, columns, top, share, ridge):
    rows, covariance, scale = case(seed, groups, out, columns, top)
    scale = share * scale
    found = gptq(rows, covariance, scale, top, ridge)
    nearest = fake_quantise(rows, scale[..., None], -top, top)
    a, b = loss(rows - found, covariance), loss(rows - nearest, covariance)
    assert (a <= b * (1 + 1e-6)).all()
    # On the grid already: the layer's own quantiser changes nothing.
    assert torch.equal(fake_quantise(found, scale[..., None], -top, top), found)


def test_errors_cancel_and_more_than_a_block_of_columns():
    rows, covariance, scale = case(1, 1, 32, 150, 7)
    found = gptq(rows, covariance, scale, 7)
    nearest = fake_quantise(rows, scale[..., None], -7, 7)
    assert loss(rows - found, covariance) < 0.5 * loss(rows - nearest, covariance)


def test_groups_equal_single_calls():
    rows, covariance, scale = case(2, 16, 1, 9, 3)
    singly = [gptq(rows[g:g + 1], covariance[g:g + 1], scale[g:g + 1], 3)
              for g in range(16)]
    assert torch.equal(gptq(rows, covariance, scale, 3), torch.cat(singly))


def test_scales_by_hand():
    # With H = I and integers up to 1 the row (1, .4) is (1, 0) at a step of 1, which
    # errs by .4^2 = .16, and (1, 1) at any step below .8, which errs least at
    # (1 + .4) / 2 = .7: by .3^2 + .3^2 = .18. The start would be (1, 1) at .5.
    rows, covariance = torch.tensor([[[1, 0.4]]]), torch.eye(2)[None]
    scale, found = gptq_scales(rows, covariance, torch.tensor([[0.5]]), 1)
    assert (scale.item(), found.tolist()) == (1, [[[1, 0]]])
    # The second input counts twice: (1, 0) errs by .32, and (1, 1) least at
    # (1 + 2 * .4) / 3 = .6, by .4^2 + 2 * .2^2 = .24.
    covariance = torch.diag(torch.tensor([1.0, 2.0]))[None]
    scale, found = gptq_scales(rows, covariance, torch.tensor([[0.5]]), 1)
    torch.testing.assert_close(scale, torch.tensor([[0.6]]))
    torch.testing.assert_close(found, torch.tensor([[[0.6, 0.6]]]))


@pytest.mark.parametrize('top', [1, 7, 127])
def test_scales_are_no_worse_than_the_start(top):
    rows, covariance, start = case(4, 3, 8, 20, top)
    covariance[2] = 0  # Nothing to learn: the start, rounded to the nearest.
    scale, found = gptq_scales(rows, covariance, start, top)
    before = loss(rows - gptq(rows, covariance, start, top), covariance)
    assert (loss(rows - found, covariance) <= before * (1 + 1e-6)).all()
    assert torch.equal(fake_quantise(found, scale[..., None], -top, top), found)
    assert torch.equal(scale[2], start[2])
    assert torch.equal(found[2], fake_quantise(rows, start[..., None], -top, top)[2])


def test_inputs_that_are_always_zero():
    rows, covariance, scale = case(3, 2, 4, 6, 7)
    covariance[:, 2] = covariance[:, :, 2] = 0
    covariance[1] = 0
    found = gptq(rows, covariance, scale, 7)
    nearest = fake_quantise(rows, scale[..., None], -7, 7)
    assert torch.equal(found[1], nearest[1])
    assert torch.equal(found[0, :, 2], nearest[0, :, 2])
