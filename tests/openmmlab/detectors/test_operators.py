"""Operators of mmcv that no CPU has, in torch's own."""

import sys

import pytest
import torch
from mmcv.ops.carafe import CARAFEPack
from torch import nn

from mmcompress.graph import trace, verify
from mmcompress.openmmlab.detectors.inputs import fixed_regions
from mmcompress.openmmlab.detectors.operators import reassembled
from mmcompress.testing.networks import check_network


def masks_of(place: int, size: tuple[int, int], groups: int = 1) -> torch.Tensor:
    """The weight 1 at one place of a window of 3 x 3, for every new place."""
    masks = torch.zeros(1, groups, 9, *size)
    masks[:, :, place] = 1
    return masks.flatten(1, 2)


@pytest.mark.parametrize('place, expected', [
    # The middle of the window is the place itself, twice along each axis.
    (4, [[1, 1, 2, 2], [1, 1, 2, 2], [3, 3, 4, 4], [3, 3, 4, 4]]),
    # Above and left of it: only the last one of four has such a neighbour.
    (0, [[0, 0, 0, 0], [0, 0, 0, 0], [0, 0, 1, 1], [0, 0, 1, 1]]),
    (5, [[2, 2, 0, 0], [2, 2, 0, 0], [4, 4, 0, 0], [4, 4, 0, 0]])])
def test_each_new_place_is_a_sum_over_a_window(place, expected):
    x = torch.tensor([[1.0, 2], [3, 4]]).view(1, 1, 2, 2)
    out = reassembled(x, masks_of(place, (4, 4)), 3, 1, 2)
    assert out[0, 0].tolist() == expected


def test_every_group_of_channels_has_weights_of_its_own():
    x = torch.tensor([1.0, 2, 3, 4]).view(1, 4, 1, 1)
    masks = torch.cat([masks_of(4, (1, 1)), 10 * masks_of(4, (1, 1))], 1)
    assert reassembled(x, masks, 3, 2, 1).flatten().tolist() == [1, 2, 30, 40]


def test_channels_pass_a_reassembly(net):
    model = net(lambda m, x: m.b(m.up(m.a(x))), a=nn.Conv2d(3, 8, 1),
                up=CARAFEPack(8, 2, compressed_channels=6), b=nn.Conv2d(8, 2, 1))
    carafe = sys.modules['mmcv.ops.carafe'].carafe
    with fixed_regions(model, (3, 8, 8)):
        graph = verify(model, trace(model, (3, 8, 8)))
        report = check_network(model, (3, 8, 8))
    # The weights of the windows stay: 25 at each of 2 x 2 new places.
    assert {u.name: u.width for u in graph.units} == {
        'a': 8, 'up.channel_compressor': 6}
    assert report.left_out == 0 and report.zeroed < 1e-5 and report.materialised < 1e-6
    assert (report.macs, report.params) == (report.true_macs, report.true_params)
    assert sys.modules['mmcv.ops.carafe'].carafe is carafe
