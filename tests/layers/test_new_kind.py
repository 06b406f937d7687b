"""A kind of layer that mmcompress has never heard of, defined on this page alone."""

import numpy as np
import pytest
import torch
from torch import nn

from mmcompress.costs import Costs, CostTable
from mmcompress.data.images import Batch
from mmcompress.graph import trace, verify
from mmcompress.layers import LayerRule, register_rule
from mmcompress.layers.quantised import QuantLayer
from mmcompress.mutators import Calibration, ChannelMutator, QuantMutator
from mmcompress.policy import Bits, Policy, SearchSpace
from mmcompress.prices.products import Probe, per_sample_products
from mmcompress.surgery.materialise import materialise


class Scaled(nn.Module):
    """A product with a matrix ``(in, out)``, over the last axis."""

    def __init__(self, into, out):
        super().__init__()
        self.shape = (into, out)
        self.weight = nn.Parameter(torch.randn(into, out) / into ** 0.5)
        self.bias = nn.Parameter(torch.randn(out))

    def forward(self, x):
        return x @ self.weight + self.bias


class QuantScaled(QuantLayer, Scaled):
    axis = 1

    def forward(self, x):
        return self.input_quantizer(x) @ self.weight_quantizer(self.weight) + self.bias


class ScaledRule(LayerRule):
    kind = 'linear'
    quantised = QuantScaled

    def in_size(self, module):
        return module.shape[0]

    def out_size(self, module):
        return module.shape[1]

    def channel_axis(self, module, x):
        return x.dim() - 1

    def slice(self, module, out, into):
        rows = slice(None) if into is None else into
        columns = slice(None) if out is None else out
        weight = module.weight[rows][:, columns]
        return dict(weight=weight, bias=module.bias[columns], shape=tuple(weight.shape))

    def by_output(self, module, weight):
        return weight.T


register_rule(Scaled, ScaledRule())


@pytest.fixture
def model(net):
    model = net(lambda m, x: m.last(m.first(x.flatten(2).transpose(1, 2)).relu()),
                first=Scaled(3, 8), last=Scaled(8, 2))
    return model.eval()


@pytest.fixture
def graph(model):
    return verify(model, trace(model, (3, 4, 4)))


def test_it_is_traced_and_verified(graph):
    unit, = graph.units
    assert (unit.name, unit.width) == ('first', 8)
    assert [(m.layer, m.side) for m in unit.members] == [
        ('first', 'out'), ('last', 'in')]


def test_it_costs(model, graph):
    costs = Costs(CostTable.from_graph(graph), SearchSpace.from_graph(graph, divisor=1))
    # 16 places, 3 inputs and 2 outputs of 5 channels; weights and biases.
    slim = costs.of(Policy({'first': 5}))
    assert slim['macs'] == 16 * (3 * 5 + 5 * 2)
    small = materialise(model, graph, Policy({'first': 5}))
    assert slim['params'] == sum(p.numel() for p in small.parameters())


def test_it_is_sorted_sliced_and_made_small(model, graph):
    x = torch.randn(2, 3, 4, 4)
    dense = model(x)
    mutator = ChannelMutator(divisor=1)
    mutator.prepare(model, graph)
    norms = model.first.weight.square().sum(0)
    assert norms.tolist() == sorted(norms.tolist(), reverse=True)
    torch.testing.assert_close(model(x), dense)
    with mutator.acting(Policy({'first': 5})):
        acted = model(x)
    slim = mutator.materialise(Policy({'first': 5}))
    assert slim.first.shape == (3, 5)
    torch.testing.assert_close(slim(x), acted)


def test_it_is_quantised(model, graph):
    batch = Batch(torch.randn(4, 3, 4, 4), [])
    plain = model(batch.inputs)
    mutator = QuantMutator(bits=(8,), bias_correction=False)
    mutator.prepare(model, graph, Calibration([batch]))
    policy = Policy(bits={'first': Bits(8, 8), 'last': Bits(8, 8)})
    with mutator.acting(policy):
        acted = model(batch.inputs)
    error = (acted - plain).abs().max() / plain.abs().max()
    assert 0 < error < 0.05
    quantised = mutator.materialise(policy)
    assert isinstance(quantised.last, QuantScaled)
    assert quantised.first.weight_quantizer.scale.shape == (8,)
    torch.testing.assert_close(quantised(batch.inputs), acted)


def test_it_is_priced_by_gradients(model):
    def loss(x):
        return model(x).square().sum()

    x = torch.randn(1, 3, 4, 4)
    change = torch.randn_like(model.last.weight)
    found = per_sample_products(
        model, {'last': Probe(weights={4: change})}, x, loss)
    loss(x).backward()
    expected = (model.last.weight.grad * change).sum(1)
    np.testing.assert_allclose(
        found['last'].weights[4][0], expected.detach(), rtol=1e-4)
