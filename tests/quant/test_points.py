"""Points between layers: which call, which quantiser, and no trace in float."""

import copy

import pytest
import torch
from torch import nn

from mmcompress.errors import CompressionError, PolicyError
from mmcompress.policy import Bits
from mmcompress.policy.points import PointSite
from mmcompress.quant.points import add_file_points, file_points
from mmcompress.surgery.modes import in_float
from mmcompress.surgery.quantise import make_quantisable


class Net(nn.Module):
    """Calls one ReLU twice, a SiLU and a quantised convolution."""

    def __init__(self):
        super().__init__()
        self.relu = nn.ReLU()
        self.silu = nn.SiLU(inplace=True)
        self.conv = nn.Conv2d(1, 1, 1, bias=False)

    def forward(self, x):
        self.seen = self.relu(x), self.relu(x - 1)
        return self.conv(self.silu(x.clone()))


@pytest.fixture
def net() -> Net:
    model = Net()
    make_quantisable(model, ['conv'])
    model.conv.set_bits(Bits(32, 8))
    model.conv.input_quantizer.assign(1 / 16, 8.0)
    return model


X = torch.linspace(-3, 3, 101).reshape(1, 1, 1, 101)


def test_one_call_of_a_module(net):
    site = PointSite('relu', 'file_points.0', call=1)
    add_file_points(net, [site])[0].assign(0.25, 0.0)
    for _ in range(2):  # calls are counted from the start of every pass
        net(X)
        first, second = net.seen
        assert torch.equal(first, X.relu())
        assert torch.equal(second, ((X - 1).relu() / 0.25).round() * 0.25)


def test_the_sigmoid_within_a_silu(net):
    points = add_file_points(net, [
        PointSite('silu', 'conv.input_quantizer'),
        PointSite('silu', 'file_points.0', sigmoid=True)])
    points[0].assign(1 / 256, 0.0)
    found = net(X) / net.conv.weight
    inner = X * ((X.sigmoid() * 256).round() / 256)
    wanted = (inner * 16).round().clamp(-8, 247) / 16
    torch.testing.assert_close(found, wanted)
    assert not any(p.requires_grad for p in points[0].parameters())


def test_a_shared_quantiser_learns_from_both_places(net):
    add_file_points(net, [PointSite('relu', 'conv.input_quantizer', call=0)])
    net(X)
    net.seen[0].sum().backward()
    assert net.conv.input_quantizer.scale.grad is not None
    assert list(file_points(net)) == []
    assert not [k for k in net.state_dict() if k.startswith('file_points')]


def test_copies_are_apart(net):
    add_file_points(net, [PointSite('relu', 'file_points.0')])[0].assign(0.25, 0.0)
    other = copy.deepcopy(net)
    file_points(other)[0].assign(1.0, 0.0)
    net(X), other(X)
    assert torch.equal(net.seen[0], (X.relu() * 4).round() / 4)
    assert torch.equal(other.seen[0], X.relu().round())


def test_in_float_there_are_none(net):
    plain = net.conv.weight * nn.functional.silu(X)
    points = add_file_points(net, [
        PointSite('silu', 'file_points.0', sigmoid=True),
        PointSite('relu', 'file_points.1')])
    points[0].assign(0.5, 0.0)
    points[1].assign(0.5, 0.0)
    before = net(X)
    with in_float(net):
        torch.testing.assert_close(net(X), plain)
        assert torch.equal(net.seen[0], X.relu())
    assert torch.equal(net(X), before)
    assert not torch.allclose(before, plain)


@pytest.mark.parametrize(('site', 'message'), [
    (PointSite('gone', 'file_points.0'), "point at 'gone'"),
    (PointSite('relu', 'relu.input_quantizer'), "point at 'relu.input_quantizer'"),
    (PointSite('relu', 'file_points.1'), 'damaged')])
def test_sites_of_another_model(net, site, message):
    with pytest.raises(PolicyError, match=message):
        add_file_points(net, [site])


def test_without_scales(net):
    add_file_points(net, [PointSite('relu', 'file_points.0')])
    with pytest.raises(CompressionError, match='no scale'):
        net(X)
