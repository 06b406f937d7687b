"""HorNet: orders lose channels on their own, halves of a Fourier filter together."""

import numpy as np
import torch
from mmengine.registry import MODELS as MMENGINE_MODELS
from mmengine.registry import init_default_scope
from mmpretrain.models.backbones.hornet import (
    GlobalLocalFilter,
    HorNetLayerNorm,
    gnConv,
)
from torch import nn

from mmcompress.graph import trace, verify
from mmcompress.graph.verify import zeroed
from mmcompress.layers.rule import sliced
from mmcompress.mutators import ChannelMutator
from mmcompress.policy import OUT, Policy
from mmcompress.surgery.materialise import materialise
from mmcompress.testing.networks import check_network
from tools.zoo.check import rebuild_error


def gated(net):
    """Orders of 2, 4 and 8 channels; the input projection makes 2 and these 14."""
    torch.manual_seed(0)
    model = net(lambda m, x: m.last(m.g(m.first(x))), first=nn.Conv2d(3, 8, 1),
                g=gnConv(8, order=3), last=nn.Conv2d(8, 2, 1))
    return model.eval()


def places(graph):
    return {u.name: {(m.layer.removeprefix('g.'), m.side): m.positions[1].tolist()
                     for m in u.members} for u in graph.units}


def test_members_of_orders(net):
    model = gated(net)
    found = places(verify(model, trace(model, (3, 8, 8))))
    # Channel 1 of each order. The first is gated by channel 1 of what is in front.
    assert found['g.proj_in'] == {
        ('proj_in', 'out'): [1, 3], ('dwconv', 'in'): [1], ('dwconv', 'out'): [1],
        ('projs.0', 'in'): [1], ('g', 'out'): [1]}
    assert found['g.proj_in#2'] == {
        ('proj_in', 'out'): [2 + 2 + 1], ('dwconv', 'in'): [3], ('dwconv', 'out'): [3],
        ('projs.0', 'out'): [1], ('projs.1', 'in'): [1], ('g', 'out'): [3]}
    assert found['g.proj_in#3'] == {
        ('proj_in', 'out'): [2 + 6 + 1], ('dwconv', 'in'): [7], ('dwconv', 'out'): [7],
        ('projs.1', 'out'): [1], ('proj_out', 'in'): [1], ('g', 'out'): [7]}


def test_sizes_of_orders():
    module = gnConv(8, order=3)
    kept = np.array([1, 3, 4, 5, *range(6, 14)])
    assert sliced(module, kept, None) == dict(dims=[1, 3, 8])
    assert sliced(module, np.arange(14)[::-1], None) == dict(dims=[2, 4, 8])
    assert module.dims == [2, 4, 8]


def test_a_removed_channel_is_one_that_gates_nothing(net):
    model, image = gated(net), torch.randn(2, 3, 8, 8)
    names = ['g.proj_in', 'g.proj_in#2', 'g.proj_in#3']
    kept = dict(zip(names, map(np.array, ([1], [0, 3], [1, 2, 4, 5, 7]))))
    slim = materialise(model, trace(model, (3, 8, 8)),
                       Policy({name: len(k) for name, k in kept.items()}), kept)
    assert slim.g.dims == [1, 2, 5]
    assert slim.g.proj_in.out_channels == 1 + 1 + 2 + 5
    # By hand: a factor of zero, in front or from the projection of the order before.
    for layer, gone in ((model.g.proj_in, [0]), (model.g.projs[0], [1, 2]),
                        (model.g.projs[1], [0, 3, 6])):
        layer.weight.data[gone], layer.bias.data[gone] = 0, 0
    with torch.no_grad():
        torch.testing.assert_close(slim(image), model(image))


def test_members_of_a_fourier_filter(net):
    torch.manual_seed(0)
    model = net(lambda m, x: m.last(m.g(m.first(x))), first=nn.Conv2d(3, 8, 1),
                g=GlobalLocalFilter(8, h=4, w=3), last=nn.Conv2d(8, 2, 1))
    graph = verify(model, trace(model, (3, 4, 4)))
    # Channel 1 of both halves of 4, which come out as neighbours.
    assert places(graph) == {'first': {
        ('first', 'out'): [1, 5], ('g', 'out'): [1, 5], ('pre_norm', 'out'): [1, 5],
        ('dw', 'in'): [1], ('dw', 'out'): [1], ('post_norm', 'out'): [2, 3],
        ('last', 'in'): [2, 3]}}
    assert graph.norm_params['g'] == 4 * 3  # 4 * 3 * 2 for two channels
    weight = model.g.complex_weight
    assert torch.equal(
        sliced(model.g, np.array([0, 2, 4, 6]), None)['complex_weight'], weight[[0, 2]])


def test_a_norm_over_what_remains(net):
    norm = HorNetLayerNorm(3, data_format='channels_first')
    model = net(lambda m, x: m.norm(x), norm=norm)
    x = torch.tensor([3.0, 100.0, 1.0]).view(1, 3, 1, 1)
    with zeroed(model, {'norm': {OUT: np.array([1])}}):
        out = model(x).flatten()
    # 3 and 1 have mean 2 and deviation 1.
    assert torch.allclose(out, torch.tensor([1.0, 0.0, -1.0]))
    values = sliced(norm, np.array([0, 2]), None)
    assert values['normalized_shape'] == (2,) and values['weight'].shape == (2,)


def test_a_network_of_both_kinds():
    init_default_scope('mmpretrain')
    torch.manual_seed(0)
    local, fourier = dict(type='DW', kernel_size=7), dict(type='GF', h=14, w=8)
    config = dict(
        type='mmpretrain.ImageClassifier',
        backbone=dict(type='HorNet', arch=dict(
            base_dim=16, depths=[1, 1, 1, 1], orders=[2, 3, 4, 5],
            dw_cfg=[local, local, fourier, fourier])),
        head=dict(type='LinearClsHead', num_classes=10, in_channels=128))
    model, mutator = MMENGINE_MODELS.build(config), ChannelMutator(divisor=1)
    report = check_network(model, (3, 64, 64), mutator=mutator)
    assert report.governed == 1 and not report.left_out
    # In every stage a stream, a hidden layer, and the orders.
    assert report.units == 4 * 2 + 2 + 3 + 4 + 5
    assert max(report.zeroed, report.materialised) < 1e-4 and report.permuted < 1e-5
    assert (report.macs, report.params) == (report.true_macs, report.true_params)
    assert rebuild_error(config, mutator) < 1e-4
