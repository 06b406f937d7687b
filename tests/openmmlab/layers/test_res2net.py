"""Res2Net: each split of a block loses channels of its own."""

import numpy as np
import pytest
import torch
from mmdet.models.backbones import Res2Net as Res2NetOfDetectors
from mmdet.models.backbones.res2net import Bottle2neck as BlockOfDetectors
from mmengine.registry import MODELS as MMENGINE_MODELS
from mmengine.registry import init_default_scope
from mmpretrain.models.backbones.res2net import Bottle2neck
from torch import nn

from mmcompress.graph import trace, verify
from mmcompress.mutators import ChannelMutator
from mmcompress.policy import Policy
from mmcompress.surgery.materialise import materialise
from mmcompress.testing.networks import check_network
from tools.zoo.check import rebuild_error

OWN = dict(scales=3, base_width=4, base_channels=4)
"""Three splits, as wide as ``planes``."""


def of_classifiers(**options):
    return Bottle2neck(16, 16, **OWN, **options)


def of_detectors(**options):
    return BlockOfDetectors(16, 4, **OWN, **options)


BLOCKS = pytest.mark.parametrize('block', [of_classifiers, of_detectors])


def network(net, block):
    torch.manual_seed(0)
    return net(lambda m, x: m.last(m.block(m.first(x))),
               first=nn.Conv2d(3, 16, 1), block=block, last=nn.Conv2d(16, 2, 1)).eval()


def places(graph):
    return {u.name: {(m.layer.removeprefix('block.'), m.side): m.positions[1].tolist()
                     for m in u.members} for u in graph.units}


@BLOCKS
def test_members_where_each_conv_adds_to_the_next_split(net, block):
    model = network(net, block())
    found = places(verify(model, trace(model, (3, 4, 4))))
    # Channel 1 of three splits of 4. Conv 0 reads the first; what it makes is the
    # first that conv 3 reads, and is added to the second split for conv 1. The last
    # split and what conv 1 makes are read by conv 3 alone.
    assert found['block.conv1'] == {
        ('conv1', 'out'): [1], ('bn1', 'out'): [1], ('convs.0', 'in'): [1],
        ('block', 'out'): [1]}
    assert found['block.conv1#2'] == {
        ('conv1', 'out'): [5], ('bn1', 'out'): [5], ('convs.0', 'out'): [1],
        ('bns.0', 'out'): [1], ('convs.1', 'in'): [1], ('conv3', 'in'): [1],
        ('block', 'out'): [5]}
    assert found['block.conv1#3'] == {
        ('conv1', 'out'): [9], ('bn1', 'out'): [9], ('conv3', 'in'): [9],
        ('block', 'out'): [9]}
    assert found['block.convs.1'] == {
        ('convs.1', 'out'): [1], ('bns.1', 'out'): [1], ('conv3', 'in'): [5]}


@BLOCKS
def test_members_where_convs_read_their_split_alone(net, block):
    model = network(net, block(stage_type='stage'))
    found = places(verify(model, trace(model, (3, 4, 4))))
    for i, (name, reader) in enumerate((
            ('conv1', ('convs.0', 'in')), ('conv1#2', ('convs.1', 'in')))):
        place = [4 * i + 1]
        assert found[f'block.{name}'] == {
            ('conv1', 'out'): place, ('bn1', 'out'): place, reader: [1],
            ('block', 'out'): place}
        assert found[f'block.convs.{i}'][('conv3', 'in')] == place


@BLOCKS
def test_a_removed_channel_is_one_that_says_nothing(net, block):
    model = network(net, block())
    image, weight = torch.randn(2, 3, 4, 4), model.block.conv1.weight.data
    kept = {'block.conv1': np.array([0, 2]), 'block.conv1#2': np.array([1, 2, 3]),
            'block.conv1#3': np.array([3])}
    policy = Policy({name: len(channels) for name, channels in kept.items()})
    slim = materialise(model, trace(model, (3, 4, 4)), policy, kept)
    assert (slim.block.width, model.block.width) == ([2, 3, 1], 4)
    assert torch.equal(slim.block.conv1.weight, weight[[0, 2, 5, 6, 7, 11]])
    assert slim.block.convs[0].weight.shape == (3, 2, 3, 3)
    assert slim.block.conv3.in_channels == 3 + 4 + 1  # conv 1 keeps its outputs
    # By hand: norms shift nothing, so channels without weights are zero.
    weight[[1, 3, 4, 8, 9, 10]] = 0
    model.block.convs[0].weight.data[0] = 0
    with torch.no_grad():
        torch.testing.assert_close(slim(image), model(image))


def test_a_slim_network_becomes_slimmer(net):
    model = network(net, of_classifiers())
    slim = materialise(model, trace(model, (3, 4, 4)), Policy({'block.conv1#2': 3}))
    graph = verify(slim, trace(slim, (3, 4, 4)))
    assert not graph.excluded
    slimmer = materialise(slim, graph, Policy({'block.conv1': 1, 'block.conv1#2': 2}))
    assert slimmer.block.width == [1, 2, 4]


def test_a_network(tmp_path):
    init_default_scope('mmpretrain')
    torch.manual_seed(0)
    config = dict(
        type='mmpretrain.ImageClassifier',
        backbone=dict(type='Res2Net', depth=50, scales=4, base_width=16,
                      base_channels=16, stem_channels=8, num_stages=2,
                      strides=(1, 2), dilations=(1, 1), out_indices=(1,)),
        neck=dict(type='GlobalAveragePooling'),
        head=dict(type='LinearClsHead', num_classes=10, in_channels=128))
    model, mutator = MMENGINE_MODELS.build(config), ChannelMutator(divisor=4)
    report = check_network(model, (3, 64, 64), mutator=mutator)
    assert report.governed == 1 and not report.left_out
    # Three of the stem, two streams; of 7 blocks four splits and the last conv, and of
    # the first one of both stages two convs more.
    assert report.units == 3 + 2 + 7 * 5 + 2 * 2
    assert max(report.zeroed, report.materialised) < 1e-4 and report.permuted < 1e-5
    assert (report.macs, report.params) == (report.true_macs, report.true_params)
    assert rebuild_error(config, mutator) < 1e-4


def test_a_backbone_of_detectors_with_deformable_convs(net):
    torch.manual_seed(0)
    backbone = Res2NetOfDetectors(
        depth=50, scales=4, base_width=16, base_channels=16, stem_channels=8,
        num_stages=2, strides=(1, 2), dilations=(1, 1), out_indices=(0, 1),
        dcn=dict(type='DCNv2', deform_groups=1, fallback_on_stride=False),
        stage_with_dcn=(False, True))
    model = net(lambda m, x: m.last(m.backbone(x)[1]),
                backbone=backbone, last=nn.Conv2d(128, 2, 1))
    report = check_network(model, (3, 32, 32))
    assert not report.left_out
    assert max(report.zeroed, report.materialised) < 1e-4 and report.permuted < 1e-5
    assert (report.macs, report.params) == (report.true_macs, report.true_params)
