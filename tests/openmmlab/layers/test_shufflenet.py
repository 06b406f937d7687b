"""ShuffleNet v1: channels that the shuffle deals out evenly leave together."""

import pytest
import torch
from mmengine.registry import MODELS as MMENGINE_MODELS
from mmengine.registry import init_default_scope
from mmpretrain.models.backbones.shufflenet_v1 import ShuffleUnit
from torch import nn

from mmcompress.costs import Costs, CostTable
from mmcompress.graph import trace, verify
from mmcompress.mutators import ChannelMutator
from mmcompress.policy import Policy, SearchSpace
from mmcompress.surgery.materialise import materialise
from mmcompress.testing.networks import check_network
from tools.zoo.check import rebuild_error

COMPRESS, EXPAND = 'g_conv_1x1_compress.conv', 'g_conv_1x1_expand.conv'


def one_unit(net):
    """Two groups of 5 channels around the shuffle, in a stream of 2 times 20."""
    torch.manual_seed(0)
    model = net(lambda m, x: m.last(m.unit(m.first(x))), first=nn.Conv2d(3, 40, 1),
                unit=ShuffleUnit(40, 40, groups=2, first_block=False),
                last=nn.Conv2d(40, 2, 1))
    return model.eval()


def places(unit, channel):
    return {(m.layer, m.side): m.positions[channel].tolist() for m in unit.members}


def test_members_around_a_shuffle(net):
    model = one_unit(net)
    graph = verify(model, trace(model, (3, 4, 4)))
    stream, middle = graph.units
    # Channel 1 of both groups of 20.
    assert (stream.name, stream.width) == ('first', 20)
    assert set(map(tuple, places(stream, 1).values())) == {(1, 21)}
    # Behind the shuffle, the second two of 5 places: 2 and 3, 7 and 8. Channel j of
    # group k, number 5k + j, went to place 2j + k: those are 1, 6, 8 and 4.
    assert (middle.name, middle.width, middle.granularity) == (
        f'unit.{COMPRESS}', 2, 4)
    found = places(middle, 1)
    assert found.pop((f'unit.{EXPAND}', 'in')) == [2, 3, 7, 8]
    assert set(map(tuple, found.values())) == {(1, 4, 6, 8)}


def test_a_removed_channel_is_one_that_says_nothing(net):
    model, image = one_unit(net), torch.randn(2, 3, 4, 4)
    name = f'unit.{COMPRESS}'
    slim = materialise(model, trace(model, (3, 4, 4)), Policy({name: 1}))
    compress, expand = (slim.get_submodule(f'unit.{x}') for x in (COMPRESS, EXPAND))
    # Group 0 keeps channels 0, 2, 3, group 1 keeps 5, 7, 9.
    dense = model.get_submodule(name).weight.data
    assert torch.equal(compress.weight, dense[[0, 2, 3, 5, 7, 9]])
    assert (compress.groups, expand.groups, expand.in_channels) == (2, 2, 6)
    # By hand: norms shift nothing, so channels without weights are zero.
    dense[[1, 4, 6, 8]] = 0
    with torch.no_grad():
        torch.testing.assert_close(slim(image), model(image))


def test_costs_of_grouped_convs(net):
    model = one_unit(net)
    graph = trace(model, (3, 4, 4))
    space = SearchSpace.from_graph(graph, divisor=1)
    costs = Costs(CostTable.from_graph(graph), space)
    lost = costs.dense()['params'] - costs.of(Policy({f'unit.{COMPRESS}': 1}))['params']
    # Of 4 channels: 20 weights each that make them, a norm's pair, a window of 9 and a
    # pair, and in each of 40 outputs 2 of the 5 weights of its group.
    assert lost == 4 * (20 + 2 + 9 + 2) + 40 * 2


def test_a_stream_that_lies_unevenly_in_groups(net):
    torch.manual_seed(0)
    model = net(lambda m, x: m.last(m.b(m.a(m.first(x)))), first=nn.Conv2d(3, 8, 1),
                a=ShuffleUnit(8, 40, groups=2, combine='concat'),
                b=ShuffleUnit(40, 40, groups=2, first_block=False),
                last=nn.Conv2d(40, 2, 1))
    graph = verify(model, trace(model, (3, 8, 8)))
    units = {u.name: u for u in graph.units}
    # Block a puts 32 outputs, in groups of 16, behind 8 inputs; block b reads two
    # groups of 20. Its place r is input r with output 12 + r for r < 8: of group 0 for
    # r < 4, of group 1 above. One of each leaves together.
    first = places(units['first'], 1)
    assert first['first', 'out'] == [1, 5]
    assert first[f'a.{EXPAND}', 'out'] == [13, 17]
    assert first[f'b.{COMPRESS}', 'in'] == [1, 5, 21, 25]
    # From r = 8 on it is output r - 8 of group 0 with r + 12 of group 1.
    assert units[f'a.{EXPAND}'].width == 12
    rest = places(units[f'a.{EXPAND}'], 0)
    assert rest[f'a.{EXPAND}', 'out'] == [0, 20]
    assert rest[f'b.{COMPRESS}', 'in'] == [8, 28]
    assert not graph.excluded


@pytest.mark.parametrize('groups, channels', [(1, 576), (3, 960), (8, 1536)])
def test_networks(groups, channels):
    init_default_scope('mmpretrain')
    torch.manual_seed(0)
    config = dict(
        type='mmpretrain.ImageClassifier',
        backbone=dict(type='ShuffleNetV1', groups=groups),
        neck=dict(type='GlobalAveragePooling'),
        head=dict(type='LinearClsHead', num_classes=10, in_channels=channels))
    model, mutator = MMENGINE_MODELS.build(config), ChannelMutator(divisor=1)
    report = check_network(model, (3, 64, 64), mutator=mutator)
    assert not report.left_out and report.governed > 0.97
    assert max(report.zeroed, report.materialised) < 1e-4 and report.permuted < 1e-5
    assert (report.macs, report.params) == (report.true_macs, report.true_params)
    widths = [u.width for u in mutator.graph.units]
    if groups == 3:
        # Stream: 24 inputs, of which three leave together, and 56 places of each group
        # of 80. Then 16 blocks of 20, 40 or 80 channels in a group, cut by threes.
        assert widths == [8, 6, 56, 6, 6, 6, *[13] * 8, *[26] * 4]
        assert rebuild_error(config, mutator) < 1e-4
