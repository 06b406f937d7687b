"""Convs whose groups stay and all lose the same channels: split attention."""

import numpy as np
import pytest
import torch
from mmengine.registry import MODELS as MMENGINE_MODELS
from mmengine.registry import init_default_scope
from torch import nn

from mmcompress.costs import Costs, CostTable
from mmcompress.graph import trace, verify
from mmcompress.layers.rule import rule_of, sliced
from mmcompress.mutators import ChannelMutator
from mmcompress.policy import Policy, SearchSpace
from mmcompress.prices.layout import Layout
from mmcompress.testing.networks import check_network
from tools.zoo.check import rebuild_error

pytest.importorskip('mmpretrain.models')


def split_attention(net, groups=1):
    from mmpretrain.models.backbones.resnest import SplitAttentionConv2d

    return net(lambda m, x: m.last(m.split(m.first(x))),
               first=nn.Conv2d(3, 8, 1), last=nn.Conv2d(12, 4, 1),
               split=SplitAttentionConv2d(8, 12, 3, padding=1, groups=groups, radix=2))


def test_window_of_a_group():
    conv = nn.Conv2d(6, 8, 1, groups=2)
    window = rule_of(conv).window
    # Inputs 1 and 2 of each group of three; group 1 as a whole; nothing gone.
    assert window(conv, np.array([1, 2, 4, 5])).tolist() == [1, 2]
    assert window(conv, np.array([3, 4, 5])) is None
    assert window(conv, np.arange(6)) is None and window(conv, None) is None
    alike = sliced(conv, np.array([0, 3, 4, 7]), np.array([1, 2, 4, 5]))
    assert alike['groups'] == 2
    assert torch.equal(alike['weight'], conv.weight[[0, 3, 4, 7], 1:])
    whole = sliced(conv, np.array([4, 5, 6, 7]), np.array([3, 4, 5]))
    assert whole['groups'] == 1
    assert torch.equal(whole['weight'], conv.weight[4:])


def test_units_of_split_attention(net):
    model = split_attention(net)
    graph = verify(model, trace(model, (3, 4, 4)))
    places = {u.name: {(m.layer, m.side): m.positions[1].tolist() for m in u.members}
              for u in graph.units}
    # Input 1 of both groups of 4; channel 1 of both splits of 12.
    assert places['first'] == {('first', 'out'): [1, 5], ('split.conv', 'in'): [1, 5]}
    assert places['split.conv'] == {
        ('split.conv', 'out'): [1, 13], ('split.bn0', 'out'): [1, 13],
        ('split.fc1', 'in'): [1], ('split.fc2', 'out'): [1, 13], ('last', 'in'): [1]}


def test_costs_of_split_attention(net):
    model = split_attention(net)
    graph = trace(model, (3, 4, 4))
    table, space = CostTable.from_graph(graph), SearchSpace.from_graph(graph, divisor=1)
    costs = Costs(table, space)
    dense = costs.dense()
    # One channel of both groups: 2 * (3 weights, a bias), 24 rows lose 9 weights.
    lost = dense['params'] - costs.of(Policy({'first': 3}))['params']
    assert lost == 2 * 4 + 24 * 9
    # Of both splits: 2 rows of 4 * 9 weights, two norm pairs, a column of 32, 2 rows of
    # 32 and a bias, a column of 4.
    lost = dense['params'] - costs.of(Policy({'split.conv': 11}))['params']
    assert lost == 2 * 36 + 4 + 32 + 2 * 33 + 4
    # The grouped conv reads 2 * 3 and writes 2 * 11 channels of 16 positions.
    i = [layer.name for layer in graph.layers].index('split.conv')
    row = space.encode(Policy({'first': 3, 'split.conv': 11}))[0]
    assert table.activations(torch.tensor(row[:len(graph.units)]))[i] == 16 * (6 + 22)
    # The grouped conv is what reads the first one.
    reader, = Layout(graph, space).readers[space.units.index('first')]
    assert reader.layer == 'split.conv'


@pytest.mark.parametrize('groups', [1, 2])
def test_split_attention_and_cardinality(net, groups):
    report = check_network(
        split_attention(net, groups), (3, 8, 8), mutator=ChannelMutator(divisor=2))
    assert report.governed == 1 and not report.left_out
    assert max(report.zeroed, report.materialised) < 1e-4 and report.permuted < 1e-5
    assert (report.macs, report.params) == (report.true_macs, report.true_params)


def test_resnest(tmp_path):
    init_default_scope('mmpretrain')
    torch.manual_seed(0)
    config = dict(
        type='mmpretrain.ImageClassifier',
        backbone=dict(type='ResNeSt', depth=50, base_channels=8, stem_channels=8,
                      num_stages=2, strides=(1, 2), dilations=(1, 1), out_indices=(1,)),
        neck=dict(type='GlobalAveragePooling'),
        head=dict(type='LinearClsHead', num_classes=10, in_channels=64))
    model = MMENGINE_MODELS.build(config)
    mutator = ChannelMutator(divisor=4)
    report = check_network(model, (3, 64, 64), mutator=mutator)
    assert report.governed == 1 and not report.left_out
    assert max(report.zeroed, report.materialised) < 1e-4 and report.permuted < 1e-5
    assert (report.macs, report.params) == (report.true_macs, report.true_params)
    assert rebuild_error(config, mutator) < 1e-4
