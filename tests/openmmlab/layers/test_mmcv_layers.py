"""Layers of mmcv: what standardises its weight knows only the inputs that remain."""

import copy

import pytest
import torch
from mmcv.cnn import ConvAWS2d, ConvWS2d
from torch import nn

from mmcompress.layers.rule import rule_of
from mmcompress.testing.networks import check_network


@pytest.mark.parametrize('kind', [ConvWS2d, ConvAWS2d])
def test_units_around_standardised_convs_are_exact(net, kind):
    model = net(lambda m, x: m.c(m.b(m.a(x)).relu()), a=nn.Conv2d(3, 8, 1),
                b=kind(8, 8, 3), c=kind(8, 2, 1))
    with torch.no_grad():
        for value in model.state_dict().values():
            value.uniform_(-1, 1)
    report = check_network(model, (3, 12, 12))
    assert (report.units, report.left_out, report.governed) == (2, 0, 1)
    assert max(report.permuted, report.zeroed, report.materialised) < 1e-6
    assert (report.macs, report.params) == (report.true_macs, report.true_params)


@pytest.mark.parametrize('kind', [ConvWS2d, ConvAWS2d])
def test_the_rule_standardises_as_the_class_does(kind):
    layer = kind(4, 3, 3)
    x = torch.rand(1, 4, 5, 5)
    plain = copy.deepcopy(layer)
    weight = rule_of(layer).standardise(layer, layer.weight)
    out = nn.functional.conv2d(x, weight, plain.bias)
    assert torch.allclose(out, layer(x), atol=1e-6)
