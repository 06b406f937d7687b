"""Sliced layers compute what the dense ones do on the channels that remain."""

import copy

import numpy as np
import pytest
import torch
from mmcv.ops import ModulatedDeformConv2d
from mmpretrain.models.utils import LayerNorm2d
from torch import Tensor, nn

from mmcompress.layers.pad import ChannelPad
from mmcompress.layers.rule import rule_of, sliced
from mmcompress.surgery.shadow import Shadow, overwrite

FIRST, SOME = np.array([0, 1, 2]), np.array([0, 2, 5])
"""Kept positions: a prefix, and any."""


def filled(module: nn.Module) -> nn.Module:
    """Random values in every parameter and buffer, evaluation mode."""
    torch.manual_seed(0)
    for value in module.state_dict().values():
        if value.is_floating_point():
            value.uniform_(0.5, 1.5)
    return module.eval()


def masked(x: Tensor, kept: np.ndarray) -> Tensor:
    """``x`` with zeros at the channels that are not kept."""
    out = torch.zeros_like(x)
    out[:, kept] = x[:, kept]
    return out


# -- layers that mix channels ----------------------------------------------------
@pytest.mark.parametrize('out', [None, FIRST, SOME])
@pytest.mark.parametrize('into', [None, FIRST, SOME])
@pytest.mark.parametrize('layer, image', [
    (nn.Conv2d(6, 6, 3, padding=1, stride=2), (2, 6, 5, 5)),
    (nn.Conv2d(6, 6, 3, bias=False, padding=1, padding_mode='reflect'), (2, 6, 5, 5)),
    (nn.Conv1d(6, 6, 3), (2, 6, 7)),
    (nn.ConvTranspose2d(6, 6, 2, 2), (2, 6, 3, 3)),
    (nn.Linear(6, 6), (2, 6)),
    (nn.Linear(6, 6, bias=False), (2, 6)),
], ids=['conv', 'reflect', 'conv1d', 'transposed', 'linear', 'no bias'])
def test_equals_the_dense_layer_on_zeros(layer, image, out, into):
    layer = filled(copy.deepcopy(layer))
    x = torch.rand(image)
    dense_in = np.arange(6) if into is None else into
    dense_out = np.arange(6) if out is None else out
    wanted = layer(masked(x, dense_in))[:, dense_out]
    shadow = Shadow(layer, sliced(layer, out, into))
    assert torch.allclose(layer(x[:, dense_in]), wanted, rtol=1e-5)
    assert str(len(dense_in)) in repr(layer) and str(len(dense_out)) in repr(layer)
    shadow.lift()
    assert torch.equal(layer(masked(x, dense_in))[:, dense_out], wanted)


def test_conv_values_by_hand():
    conv = nn.Conv2d(3, 2, 1)
    conv.weight.data = torch.arange(6.0).view(2, 3, 1, 1)
    conv.bias.data = torch.tensor([10.0, 20.0])
    values = sliced(conv, np.array([1]), np.array([0, 2]))
    assert values['weight'].flatten().tolist() == [3, 5]
    assert values['bias'].tolist() == [20]
    assert {k: values[k] for k in ('in_channels', 'out_channels', 'groups')} == dict(
        in_channels=2, out_channels=1, groups=1)


@pytest.mark.parametrize('layer, out, into, groups', [
    (nn.Conv2d(6, 6, 3, groups=6), SOME, SOME, 3),
    # Twice as many outputs as inputs: 2 i and 2 i + 1 belong to group i.
    (nn.Conv2d(6, 12, 3, groups=6), np.array([0, 1, 4, 5, 10, 11]), SOME, 3),
    # Three groups of 2 inputs and 4 outputs, the middle one leaves.
    (nn.Conv2d(6, 12, 3, groups=3), np.r_[0:4, 8:12], np.array([0, 1, 4, 5]), 2),
    (nn.ConvTranspose2d(6, 6, 2, groups=6), SOME, SOME, 3),
    (nn.ConvTranspose2d(6, 3, 2, groups=3), np.array([0, 2]),
     np.array([0, 1, 4, 5]), 2),
], ids=['depthwise', 'multiplier', 'groups', 'transposed depthwise', 'transposed'])
def test_groups_leave_as_a_whole(layer, out, into, groups):
    layer = filled(copy.deepcopy(layer))
    x = torch.rand(2, 6, 5, 5)
    wanted = layer(x)[:, out]
    values = sliced(layer, out, into)
    assert values['groups'] == groups
    shadow = Shadow(layer, values)
    assert torch.allclose(layer(x[:, into]), wanted, rtol=1e-5)
    shadow.lift()


def test_deformable_conv():
    layer = filled(ModulatedDeformConv2d(6, 6, 3, padding=1))
    x, offset = torch.rand(1, 6, 5, 5), torch.rand(1, 18, 5, 5)
    mask = torch.rand(1, 9, 5, 5)
    wanted = layer(masked(x, SOME), offset, mask)[:, FIRST]
    with torch.no_grad():
        overwrite(layer, sliced(layer, FIRST, SOME))
    assert torch.allclose(layer(x[:, SOME].contiguous(), offset, mask), wanted)


# -- norms and the like ----------------------------------------------------------
@pytest.mark.parametrize('kept', [FIRST, SOME])
@pytest.mark.parametrize('layer', [
    nn.BatchNorm2d(6), nn.BatchNorm2d(6, affine=False), nn.PReLU(6),
    nn.InstanceNorm2d(6, affine=True, track_running_stats=True),
], ids=['bn', 'plain bn', 'prelu', 'in'])
def test_pointwise_layers_keep_their_channels(layer, kept):
    layer = filled(copy.deepcopy(layer))
    x = torch.randn(2, 6, 4, 4)
    wanted = layer(x)[:, kept]
    shadow = Shadow(layer, sliced(layer, kept, None))
    assert torch.equal(layer(x[:, kept]), wanted)
    shadow.lift()
    assert torch.equal(layer(x)[:, kept], wanted)


def test_group_norm_keeps_whole_groups():
    layer = filled(nn.GroupNorm(3, 6))
    x, kept = torch.randn(2, 6, 4, 4), np.array([0, 1, 4, 5])
    wanted = layer(x)[:, kept]
    values = sliced(layer, kept, None)
    assert (values['num_groups'], values['num_channels']) == (2, 4)
    with torch.no_grad():
        overwrite(layer, values)
    assert torch.allclose(layer(x[:, kept]), wanted)


@pytest.mark.parametrize('kind', [nn.LayerNorm, LayerNorm2d])
def test_layer_norm_is_that_of_fewer_channels(kind):
    layer, small = filled(kind(6)), kind(3)
    small.weight.data, small.bias.data = layer.weight.data[SOME], layer.bias.data[SOME]
    x = torch.randn(2, 3, 4, 4) if kind is LayerNorm2d else torch.randn(2, 4, 3)
    overwrite(layer, sliced(layer, SOME, None))
    assert torch.equal(layer(x), small(x))
    assert getattr(layer, 'num_channels', 3) == 3


def test_channel_pad_follows_both_sides():
    pad = ChannelPad(4, 6, source=(-1, 0, 1, 2, 3, -1))
    # Inputs 0 and 3 are 0 and 1 now; outputs 1 ... 4 copied 0 ... 3.
    values = sliced(pad, np.array([0, 1, 2, 4]), np.array([0, 3]))
    assert values == dict(source=(-1, 0, -1, 1), in_channels=2, out_channels=4)
    assert sliced(pad, None, np.array([1, 2]))['source'] == (-1, -1, 0, 1, -1, -1)
    assert sliced(pad, np.array([3, 5]), None)['source'] == (2, -1)
    x = torch.rand(1, 2, 2, 2)
    overwrite(pad, values)
    out = pad(x)
    assert torch.equal(out[:, [1, 3]], x) and out[:, [0, 2]].abs().max() == 0


def test_layers_without_a_rule_are_named():
    with pytest.raises(TypeError, match='No slicing rule for Bilinear'):
        sliced(nn.Bilinear(2, 2, 2), None, None)
    assert rule_of(nn.Bilinear(2, 2, 2)) is None and rule_of(nn.ReLU()) is None
    assert rule_of(nn.Linear(2, 2)) and rule_of(nn.SyncBatchNorm(2))


def test_a_prefix_of_both_axes_is_a_view_that_gradients_pass():
    conv = nn.Conv2d(6, 6, 1, bias=False)
    weight = sliced(conv, FIRST, np.array([0, 1]))['weight']
    assert weight._base is conv.weight
    weight.sum().backward()
    wanted = torch.zeros(6, 6, 1, 1)
    wanted[:3, :2] = 1
    assert torch.equal(conv.weight.grad, wanted)
