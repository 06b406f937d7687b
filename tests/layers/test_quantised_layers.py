"""Quantised layers: plain at 32 bits, exact when folded, pruned with their scales."""

import copy

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from mmcv.cnn.bricks.wrappers import Conv2d
from torch import nn

import mmcompress.surgery.quantise as quantise_module
from mmcompress.layers.conv import QuantConv2d, QuantConvTranspose2d
from mmcompress.layers.linear import QuantLinear
from mmcompress.layers.quantised import integer_weight, quantised_layers, uncalibrated
from mmcompress.layers.rule import sliced
from mmcompress.policy import FLOAT, Bits
from mmcompress.surgery.quantise import make_quantisable
from mmcompress.surgery.shadow import Shadow, overwrite

CASES = {
    'conv': (lambda: nn.Conv2d(4, 6, 3, 2, 1), QuantConv2d),
    'mmcv': (lambda: Conv2d(4, 6, 3, padding=1, bias=False), QuantConv2d),
    'depthwise': (lambda: nn.Conv2d(4, 8, 3, groups=4), QuantConv2d),
    'reflect': (
        lambda: nn.Conv2d(4, 6, 3, padding=1, padding_mode='reflect'), QuantConv2d),
    'transposed': (
        lambda: nn.ConvTranspose2d(4, 6, 2, 2, output_padding=1), QuantConvTranspose2d),
    'linear': (lambda: nn.Linear(5, 3), QuantLinear),
}


def quantised(make, bits, span=6.0):
    """One quantised layer with min-max weight scales and inputs in -3 .. 3."""
    torch.manual_seed(0)
    model = nn.Sequential(make())
    make_quantisable(model, ['0'])
    layer = model[0]
    layer.set_bits(bits)
    layer.weight_quantizer.assign(
        layer.weight_rows().abs().amax(1) / layer.weight_quantizer.quant_max)
    steps = layer.input_quantizer.quant_max
    layer.input_quantizer.assign(span / steps, steps / 2)
    return layer


@pytest.mark.parametrize('name', CASES)
def test_a_layer_at_32_bits_is_the_plain_one(name):
    make, kind = CASES[name]
    plain = nn.Sequential(make())
    model = copy.deepcopy(plain)
    inner = model[0]
    assert make_quantisable(model, ['0']) == ('0',)
    assert model[0] is inner and type(inner) is kind
    assert model.state_dict().keys() == plain.state_dict().keys()
    x = torch.randn(2, 4, 5, 5)
    assert torch.equal(model(x), plain(x))
    assert make_quantisable(model, ['0']) == ('0',), 'a second time is harmless'


@pytest.mark.parametrize('name', CASES)
def test_forward_is_the_plain_layer_on_quantised_tensors(name):
    layer = quantised(CASES[name][0], Bits(4, 5))
    x = torch.randn(2, 4, 5, 5)
    plain = CASES[name][0]()
    with torch.no_grad():
        plain.weight.copy_(layer.weight_quantizer(layer.weight))
        if plain.bias is not None:
            plain.bias.copy_(layer.bias)
        assert torch.equal(layer(x), plain(layer.input_quantizer(x)))
    keys = {'weight_quantizer.scale', 'input_quantizer.scale',
            'input_quantizer.zero_point'}
    assert layer.state_dict().keys() == plain.state_dict().keys() | keys
    scale = layer.weight_quantizer.scale
    assert scale.shape == (layer.weight.shape[layer.axis],)


def test_a_folded_batch_norm_leaves_the_integers():
    layer = quantised(CASES['depthwise'][0], Bits(4, 8)).eval()
    norm = nn.BatchNorm2d(8).eval()
    with torch.no_grad():
        norm.weight.copy_(torch.tensor([-3.0, -1, -0.1, 0.2, 0.7, 1, 2, 5]))
        norm.bias.normal_()
        norm.running_mean.normal_()
        norm.running_var.uniform_(0.5, 2)
    folded = torch.nn.utils.fusion.fuse_conv_bn_eval(layer, norm)
    factor = norm.weight / (norm.running_var + norm.eps).sqrt()
    folded.weight_quantizer.assign(
        (layer.weight_quantizer.scale * factor.abs()).detach())
    sign = factor.sign().to(torch.int8)[:, None, None, None]
    assert torch.equal(integer_weight(folded), integer_weight(layer) * sign)
    x = torch.randn(2, 4, 6, 6)
    with torch.no_grad():
        torch.testing.assert_close(folded(x), norm(layer(x)), rtol=1e-4, atol=1e-4)


def test_pruning_takes_the_scales_along():
    layer = quantised(CASES['conv'][0], Bits(4, 8))
    out, into = np.array([0, 2, 5]), np.array([1, 3])
    dense_scale = layer.weight_quantizer.scale
    expected = F.conv2d(
        layer.input_quantizer(torch.ones(1, 2, 5, 5)),
        layer.weight_quantizer(layer.weight)[out][:, into], layer.bias[out], 2, 1)
    shadow = Shadow(layer, sliced(layer, out, into))
    assert torch.equal(layer(torch.ones(1, 2, 5, 5)), expected)
    shadow.lift()
    assert layer.weight_quantizer.scale is dense_scale
    overwrite(layer, sliced(layer, out, into))
    assert torch.equal(layer(torch.ones(1, 2, 5, 5)), expected)
    assert layer.state_dict()['weight_quantizer.scale'].shape == (3,)


def test_what_cannot_be_quantised_stays_in_float(monkeypatch):
    class Standardised(nn.Conv2d):
        def forward(self, x):
            return x

    model = nn.ModuleDict(dict(
        plain=nn.Conv2d(2, 2, 1), own=Standardised(2, 2, 1),
        grouped=nn.ConvTranspose2d(4, 4, 2, groups=2), volume=nn.Conv3d(2, 2, 1)))
    warned = []
    monkeypatch.setattr(
        quantise_module, 'print_log', lambda text, *_, level: warned.append(text))
    assert make_quantisable(model, model.keys()) == ('plain',)
    assert [name for name in model if any(repr(name) in w for w in warned)] == [
        'own', 'grouped', 'volume']


def test_names_of_uncalibrated_layers():
    model = nn.Sequential(nn.Conv2d(2, 2, 1), nn.ReLU(), nn.Conv2d(2, 2, 1))
    make_quantisable(model, ['0', '2'])
    assert list(quantised_layers(model)) == ['0', '2'] and uncalibrated(model) == []
    model[2].set_bits(Bits(8, FLOAT))
    assert uncalibrated(model) == ['2']
    model[2].weight_quantizer.assign(torch.ones(2))
    assert uncalibrated(model) == []
