"""Layers of mmdet that normalise are sliced to what zeroing them means."""

import pytest
import torch
from mmdet.models.layers.normed_predictor import NormedConv2d, NormedLinear
from torch import nn

from mmcompress.graph import trace, verify


@pytest.mark.parametrize('normed', [
    NormedLinear(8, 3), NormedConv2d(8, 3, 1),
    NormedConv2d(8, 3, 3, norm_over_kernel=True)],
    ids=['linear', 'conv', 'over the kernel'])
def test_a_predictor_of_unit_rows_is_a_consumer(net, normed):
    def forward(m, x):
        x = m.a(x)
        return m.b(x.mean((2, 3)) if isinstance(m.b, nn.Linear) else x)

    model = net(forward, a=nn.Conv2d(3, 8, 1), b=normed)
    weight = normed.weight.clone()
    graph = verify(model, trace(model, (3, 8, 8)))
    assert [(u.name, u.width) for u in graph.units] == [('a', 8)]
    assert torch.equal(normed.weight, weight) and 'weight' not in vars(normed)
