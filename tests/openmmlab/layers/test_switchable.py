"""Switchable atrous convs: two windows and the layers around them."""

import pytest
import torch
from mmcv.ops import SAConv2d
from torch import nn

from mmcompress.graph import trace, verify
from mmcompress.layers.rule import rule_of
from mmcompress.testing.networks import check_network

SHAPE = (3, 16, 16)


@pytest.fixture(params=[False, True], ids=['plain', 'deformable'])
def model(net, request) -> nn.Module:
    """Two switchable convs, with random weights everywhere."""
    options = dict(padding=1, bias=False, use_deform=request.param)
    model = net(
        lambda m, x: m.d(m.c(m.norm(m.a(x)).relu())), a=SAConv2d(3, 8, 3, **options),
        norm=nn.BatchNorm2d(8), c=SAConv2d(8, 4, 3, **options), d=nn.Conv2d(4, 2, 1))
    with torch.no_grad():
        for param in model.parameters():
            param.uniform_(-1, 1)
    return model.eval()


def test_layers_around_the_windows_go_with_its_channels(model):
    graph = verify(model, trace(model, SHAPE))
    assert [(u.name, u.width) for u in graph.units] == [
        ('a', 8), ('c', 4)]
    reading = ['c.pre_context', 'c.switch']
    if model.c.use_deform:
        reading += ['c.offset_s', 'c.offset_l']
    members = {(m.layer, m.side) for m in graph.unit('a').members}
    assert members == {
        ('a', 'out'), ('a.post_context', 'in'), ('a.post_context', 'out'),
        ('norm', 'out'), ('c', 'in'), ('c.pre_context', 'out'),
        *((name, 'in') for name in reading)}


def test_both_windows_are_counted(model):
    # Two windows of 3 x 3 from 3 to 8 channels at 16 x 16 places.
    layers = {layer.name: layer for layer in trace(model, SHAPE).layers}
    assert layers['a'].macs == 2 * 9 * 3 * 8 * 256
    assert layers['a'].weights == model.a.weight.numel() + model.a.weight_diff.numel()
    assert layers['a.switch'].macs == 3 * 256
    assert layers['a.pre_context'].macs == 3 * 3, 'of the mean alone'


def test_slim_networks_are_exact(model):
    report = check_network(model, SHAPE)
    assert (report.units, report.left_out) == (2, 0)
    assert report.permuted < 1e-6 and report.zeroed < 1e-5
    assert report.materialised < 1e-6
    assert (report.macs, report.params) == (report.true_macs, report.true_params)


def test_a_gradient_is_that_of_the_windows(model):
    # Without contexts, offsets and what the switch depends on, nothing else is left.
    layer = model.c
    for name, part in layer.named_children():
        if name != 'post_context':
            nn.init.zeros_(part.weight)
    seen = []
    layer.post_context.register_forward_hook(lambda *_: seen.append(1))
    x = torch.rand(1, 8, 6, 6, requires_grad=True)
    out = layer(x)
    gy = torch.rand_like(out)
    wanted, = torch.autograd.grad(out, x, gy)
    found = rule_of(layer).pull(layer, layer.weight, x, gy)
    assert torch.allclose(found, wanted, atol=1e-5)
    assert len(seen) == 1, 'layers that are watched were called by the layer alone'
