"""Attributes in front of a module's own, and in their place."""

import copy
from collections.abc import Mapping

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from mmcompress.layers.pad import ChannelPad
from mmcompress.layers.rule import sliced
from mmcompress.surgery.shadow import Shadow, overwrite

FIRST, SOME = np.array([0, 1, 2]), np.array([0, 2, 5])
"""Kept positions: a prefix, and any."""


def tensors(values: Mapping) -> dict[str, list]:
    return {k: v.shape for k, v in values.items() if isinstance(v, Tensor)}


@pytest.mark.parametrize('layer', [
    nn.Conv2d(6, 6, 1), nn.Linear(6, 6, bias=False), nn.BatchNorm2d(6),
    nn.GroupNorm(3, 6), nn.LayerNorm(6), nn.PReLU(6), ChannelPad(6, 6)],
    ids=lambda m: type(m).__name__)
def test_a_shadow_leaves_no_trace(layer):
    layer = copy.deepcopy(layer)
    kept = np.array([0, 1, 4, 5])
    before = dict(vars(layer))
    parameters = list(layer.parameters())
    state = {k: v.clone() for k, v in layer.state_dict().items()}
    outer = Shadow(layer, sliced(layer, kept, kept))
    # All that optimisers and checkpoints see is the dense layer.
    assert all(a is b for a, b in zip(layer.parameters(), parameters))
    assert {k: v.shape for k, v in layer.state_dict().items()} == {
        k: v.shape for k, v in state.items()}
    inner = Shadow(layer, dict(weight=torch.zeros(1), extra=1))
    inner.lift()
    assert 'extra' not in vars(layer)
    outer.lift()
    assert vars(layer) == before
    assert all(torch.equal(v, state[k]) for k, v in layer.state_dict().items())


def test_a_shadow_in_front_of_another_brings_it_back():
    layer = nn.Linear(6, 6)
    outer = Shadow(layer, dict(weight=layer.weight[:3], out_features=3))
    first = layer.weight
    inner = Shadow(layer, dict(weight=layer.weight[:2], out_features=2))
    assert layer.weight.shape == (2, 6) and layer.out_features == 2
    inner.lift()
    assert layer.weight is first and layer.out_features == 3
    outer.lift()
    assert layer.weight is layer._parameters['weight'] and layer.out_features == 6


def test_overwriting_is_for_good():
    conv, dense = nn.Conv2d(6, 6, 1), None
    conv.weight.requires_grad_(False)
    dense = conv.weight
    overwrite(conv, sliced(conv, FIRST, SOME))
    assert tensors(conv.state_dict()) == dict(weight=(3, 3, 1, 1), bias=(3,))
    assert isinstance(conv.weight, nn.Parameter) and isinstance(conv.bias, nn.Parameter)
    assert not conv.weight.requires_grad and conv.bias.requires_grad
    assert torch.equal(conv.weight, dense[FIRST][:, SOME])
    assert conv.weight.is_contiguous() and conv.weight.data_ptr() != dense.data_ptr()
    assert (conv.in_channels, conv.out_channels) == (3, 3)


def test_overwriting_keeps_what_is_absent_absent():
    norm = nn.BatchNorm2d(6, affine=False)
    overwrite(norm, sliced(norm, FIRST, None))
    assert norm.weight is None and norm.bias is None and norm.num_features == 3
    assert tensors(norm.state_dict()) == dict(
        running_mean=(3,), running_var=(3,), num_batches_tracked=())
    bare = nn.BatchNorm2d(6, track_running_stats=False)
    overwrite(bare, sliced(bare, FIRST, None))
    assert bare.running_mean is None and bare.weight.shape == (3,)
