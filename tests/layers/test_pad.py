"""ChannelPad equals gather-and-zero for any source."""

import copy
import pickle

import pytest
import torch
import torch.nn.functional as F

from mmcompress.layers.pad import ChannelPad


def reference(x, source, stride):
    """Copy channel by channel."""
    x = x[:, :, ::stride, ::stride]
    zero = x[:, 0] * 0
    return torch.stack([zero if i < 0 else x[:, i] for i in source], 1)


def test_default_is_option_a():
    x = torch.randn(2, 16, 8, 8)
    expected = F.pad(x[:, :, ::2, ::2], (0, 0, 0, 0, 8, 8))
    assert torch.equal(ChannelPad(16, 32, 2)(x), expected)


@pytest.mark.parametrize('source', [
    (-1, 0, 1, 2, 3, -1),       # the dense shortcut
    (0, 1, 2, 3),               # no zeros
    (1, 2, -1, -1, -1),         # a run that starts late
    (-1, -1),                   # nothing copied
    (3, -1, 0, 2, -1),          # permuted, holes
    (2, 0),                     # permuted, no zeros
    (1, 1, -1),                 # repeated
    (0, -1, 1),                 # a hole inside a run
    (1, 3),                     # a gap
])
@pytest.mark.parametrize('stride', [1, 2])
def test_any_source(source, stride):
    x = torch.randn(2, 4, 7, 8, requires_grad=True)
    module = ChannelPad(4, len(source), stride, source)
    out = module(x)
    assert torch.equal(out, reference(x, source, stride))
    grad, = torch.autograd.grad(out.square().sum(), x)
    expected, = torch.autograd.grad(
        reference(x, source, stride).square().sum(), x)
    assert torch.allclose(grad, expected)


def test_pruning_rewrites_attributes_only():
    module = ChannelPad(4, 8, 2)
    module.in_channels, module.out_channels = 3, 4
    module.source = (2, -1, 0, 1)
    x = torch.randn(1, 3, 4, 4)
    expected = reference(x, (2, -1, 0, 1), 2)
    for clone in (module, copy.deepcopy(module), pickle.loads(pickle.dumps(module))):
        assert torch.equal(clone(x), expected)
        assert clone.source == (2, -1, 0, 1)
        assert not clone.state_dict()
        assert not list(clone.parameters())


def test_wrong_sizes_are_named():
    module = ChannelPad(4, 8)
    with pytest.raises(ValueError, match='expected 4 input channels, got 3'):
        module(torch.zeros(1, 3, 2, 2))
    with pytest.raises(ValueError, match='cannot pad 8 channels to 4'):
        ChannelPad(8, 4)
    with pytest.raises(ValueError, match='-1 for a zero channel'):
        ChannelPad(2, 2, source=(-2, 0))
