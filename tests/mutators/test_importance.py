"""Scores of channels, derived by hand."""

import numpy as np
import pytest
import torch
from torch import nn

from mmcompress.errors import CompressionError, DataError
from mmcompress.graph import trace
from mmcompress.mutators import ChannelMutator, importance
from mmcompress.testing import ToyNetwork, toy_graph


class Chain(nn.Module):
    """a (2 -> 3) -> norm -> b (3 -> 1), 1x1 convs."""

    def __init__(self) -> None:
        super().__init__()
        self.a = nn.Conv2d(2, 3, 1, bias=False)
        self.bn = nn.BatchNorm2d(3)
        self.b = nn.Conv2d(3, 1, 1, bias=False)
        self.a.weight.data = torch.tensor(
            [[1.0, -2], [0, 3], [-1, -1]])[..., None, None]
        self.b.weight.data = torch.tensor([[1.0, 10, 100]])[..., None, None]
        self.bn.weight.data = torch.tensor([0.5, -2.0, 0.0])

    def forward(self, x):
        """One map."""
        return self.b(self.bn(self.a(x)))


@pytest.mark.parametrize('kind, expected', [
    ('l1', [3, 3, 2]), ('l2', [5, 9, 2]), ('bn_scale', [0.5, 2, 0])])
def test_chain(kind, expected):
    model = Chain().eval()
    scores = importance(model, trace(model, (2, 4, 4)), kind)
    assert scores.keys() == {'a'}
    assert scores['a'].dtype == np.float64 and scores['a'].tolist() == expected


def test_taylor():
    # With an identity norm y = sum_k b_k a_k x. On x = (1, 1) everywhere the loss
    # sum(y) has gradient 16 b_k for both weights of row k: sum of w * g =
    # 16 b_k (w_k1 + w_k2) = 16 * (1 * -1, 10 * 3, 100 * -2), squared.
    model = Chain().eval()
    nn.init.ones_(model.bn.weight)
    model.bn.eps = 0
    graph = trace(model, (2, 4, 4))
    x = torch.ones(1, 2, 4, 4)
    once = np.array([16 * -1, 16 * 30, 16 * -200]) ** 2
    scores = importance(model, graph, 'taylor', [lambda: model(x).sum()])['a']
    np.testing.assert_allclose(scores, once, rtol=1e-5)
    # Squares add up over losses; a sum of both gradients would give 9 = 3 ** 2.
    scores = importance(model, graph, 'taylor', [
        lambda: model(x).sum(), lambda: 2 * model(x).sum()])['a']
    np.testing.assert_allclose(scores, once * 5, rtol=1e-5)


def test_taylor_scores_frozen_layers_and_leaves_no_gradient():
    model = Chain().eval()
    model.a.weight.requires_grad_(False)
    graph = trace(model, (2, 4, 4))
    scores = importance(
        model, graph, 'taylor', [lambda: model(torch.ones(1, 2, 4, 4)).sum()])
    assert (scores['a'][:2] > 0).all()
    assert not model.a.weight.requires_grad and model.b.weight.requires_grad
    assert all(p.grad is None for p in model.parameters())


def test_tied_members_add_up():
    model = ToyNetwork()
    l2 = importance(model, toy_graph(), 'l2')
    # The stem's unit: what stem, expand and depth produce; not what they read.
    expected = sum(
        m.weight.detach().double().square().sum((1, 2, 3))
        for m in (model.stem, model.expand, model.depth))
    np.testing.assert_allclose(l2['stem'], expected, rtol=1e-12)
    assert {k: len(v) for k, v in l2.items()} == dict(
        stem=16, reduce=8, point=24, merge=32, head=32)


def test_units_without_a_norm_use_l2():
    model = ToyNetwork()
    scale, l2 = (importance(model, toy_graph(), k) for k in ('bn_scale', 'l2'))
    expected = (model.stem_bn.weight.abs() + model.depth_bn.weight.abs()).detach()
    np.testing.assert_allclose(scale['stem'], expected.double(), rtol=1e-6)
    for name in ('point', 'merge', 'head'):
        np.testing.assert_array_equal(scale[name], l2[name])


def test_a_group_scores_as_the_sum_of_its_channels():
    class Model(nn.Module):
        def __init__(self):
            super().__init__()
            self.a = nn.Conv2d(1, 4, 1, bias=False)
            self.gn = nn.GroupNorm(2, 4)
            self.b = nn.Conv2d(4, 1, 1)

        def forward(self, x):
            return self.b(self.gn(self.a(x)))

    model = Model()
    model.a.weight.data = torch.tensor([1.0, 2, 3, -4])[:, None, None, None]
    model.gn.weight.data = torch.tensor([1.0, -1, 0, 5])
    graph = trace(model, (1, 4, 4))
    assert importance(model, graph, 'l1')['a'].tolist() == [3, 7]
    assert importance(model, graph, 'l2')['a'].tolist() == [5, 25]
    assert importance(model, graph, 'bn_scale')['a'].tolist() == [2, 5]


@pytest.mark.parametrize('groups, weight, expected', [
    # Inputs come first: output 0 is made of 1 and 3, output 1 of 2 and 4.
    (1, [[1.0, 2], [3, 4]], [4, 6]),
    # One output per group, one input each.
    (2, [[1.0], [5]], [1, 5]),
])
def test_transposed_convs_produce_along_their_second_axis(groups, weight, expected):
    class Model(nn.Module):
        def __init__(self):
            super().__init__()
            self.a = nn.Conv2d(1, 2, 1, bias=False)
            self.t = nn.ConvTranspose2d(2, 2, 1, groups=groups, bias=False)
            self.b = nn.Conv2d(2, 1, 1)

        def forward(self, x):
            return self.b(self.t(self.a(x)))

    model = Model()
    nn.init.zeros_(model.a.weight)
    model.t.weight.data = torch.tensor(weight)[..., None, None]
    scores = importance(model, trace(model, (1, 4, 4)), 'l1')
    assert scores['t' if groups == 1 else 'a'].tolist() == expected


def test_unknown_kind_and_missing_losses():
    model = Chain()
    graph = trace(model, (2, 4, 4))
    with pytest.raises(CompressionError, match=(
            "Unknown importance 'l3'; choose one of l1, l2, bn_scale, taylor")):
        importance(model, graph, 'l3')
    with pytest.raises(DataError, match="'taylor' needs calibration images"):
        importance(model, graph, 'taylor')


def test_index_keeps_the_order():
    model = ToyNetwork()
    before = {k: v.clone() for k, v in model.state_dict().items()}
    mutator = ChannelMutator('index')
    mutator.prepare(model, trace(model, (3, 16, 16)))
    assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())
    assert mutator.order['stem'].tolist() == list(range(16))
