"""Layers of mmpretrain: what mixes channels knows only those that remain."""

import numpy as np
import pytest
import torch
from mmpretrain.models.utils import GRN
from torch import nn

from mmcompress.graph import trace, verify
from mmcompress.graph.verify import zeroed
from mmcompress.policy import OUT


def first(m, x):
    return m.b(m.grn(m.a(x).relu()))


def last(m, x):
    x = m.a(x.permute(0, 2, 3, 1)).relu()
    return m.b(m.grn(x, data_format='channel_last'))


@pytest.mark.parametrize('forward, layer', [
    (first, lambda i, o: nn.Conv2d(i, o, 1)), (last, nn.Linear)],
    ids=['channel_first', 'channel_last'])
def test_response_normalisation_is_a_member(net, forward, layer):
    model = net(forward, a=layer(3, 8), grn=GRN(8), b=layer(8, 2))
    graph = verify(model, trace(model, (3, 4, 6)))
    unit, = graph.units
    assert unit.width == 8
    assert [(m.layer, m.side) for m in unit.members] == [
        ('a', 'out'), ('grn', 'out'), ('b', 'in')]
    assert graph.norm_params['grn'] == 2


def test_zeroed_responses_know_only_what_remains(net):
    grn = GRN(3)
    grn.gamma.data, grn.beta.data = torch.tensor([1., 1, 1]), torch.tensor([0., 0, 5])
    model = net(lambda m, x: m.grn(x), grn=grn)
    x = torch.tensor([3.0, 100.0, 1.0]).view(1, 3, 1, 1)
    with zeroed(model, {'grn': {OUT: np.array([1])}}):
        out = model(x).flatten()
    # Norms 3 and 1 over their mean 2: 3 + 3 * 1.5 and 1 + 1 * 0.5 + 5.
    assert torch.allclose(out, torch.tensor([7.5, 0.0, 6.5]))
    assert 'forward' not in vars(grn)
