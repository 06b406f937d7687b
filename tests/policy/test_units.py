"""Units, layers and graphs answer what they were built from."""

import numpy as np
import pytest

from mmcompress.policy import IN, OUT, ChannelUnit, Layer, Member
from mmcompress.testing import TOY_MACS, toy_graph


def test_toy_graph_adds_up():
    graph = toy_graph()
    assert sum(layer.macs for layer in graph.layers) == TOY_MACS
    assert graph.unit('head').width == 32
    assert [m.count for m in graph.unit('head').members] == [1, 1, 4]
    assert [m.layer for m in graph.unit('stem').producers] == [
        'stem', 'stem_bn', 'expand', 'depth', 'depth_bn']
    with pytest.raises(KeyError):
        graph.unit('fc')


@pytest.mark.parametrize('layer, weights, macs', [
    # 3x3, 8 -> 16, at 10 positions: 9 * 8 * 16 = 1152
    (Layer('a', 'conv', 16, 8, kernel=9, positions=10), 1152, 11520),
    # each of 4 groups: 9 * 2 * 4 = 72
    (Layer('a', 'conv', 16, 8, groups=4, kernel=9, positions=10), 288, 2880),
    (Layer('a', 'linear', 10, 64, has_bias=True), 640, 640),
])
def test_layer_counts(layer, weights, macs):
    assert layer.weights == weights
    assert layer.macs == macs


def test_governed_counts_layers_that_some_unit_touches():
    graph = toy_graph()
    assert graph.governed == 1.0
    # 'reduce' touches reduce (64 * 128) and expand (64 * 1152).
    one = graph.without({u.name: 'test' for u in graph.units if u.name != 'reduce'})
    assert one.governed == 64 * (128 + 1152) / TOY_MACS
    assert one.excluded == dict.fromkeys(['stem', 'point', 'merge', 'head'], 'test')
    assert graph.without({u.name: '' for u in graph.units}).governed == 0


def test_members_of_a_unit_have_one_width():
    two, three = np.arange(2)[:, None], np.arange(3)[:, None]
    with pytest.raises(AssertionError):
        ChannelUnit('u', (Member('a', OUT, two), Member('b', IN, three)))
    with pytest.raises(AssertionError, match='no members'):
        ChannelUnit('u', ())
    with pytest.raises(AssertionError):
        Member('a', 'sideways', two)
