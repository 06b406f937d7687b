"""Convs that standardise their weight know only the inputs that remain."""

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from mmcompress.graph import trace, verify
from mmcompress.layers.rule import obstacle, register_rule, rule_of, sliced
from mmcompress.layers.standardised import StandardisedConvRule
from mmcompress.mutators import importance
from mmcompress.reconstruction.columns import has_columns
from mmcompress.reconstruction.moments import readers
from mmcompress.surgery.shadow import Shadow
from mmcompress.testing.networks import check_network


def standardise(module: nn.Module, weight: Tensor) -> Tensor:
    """Mean 0 and deviation 1 in every row."""
    rows = weight.flatten(1)
    rows = (rows - rows.mean(1, keepdim=True)) / rows.std(1, keepdim=True)
    return rows.reshape(weight.shape)


class Standardised(nn.Conv2d):
    """A conv of mean 0 and deviation 1 in every row."""

    def forward(self, x: Tensor) -> Tensor:
        """Map ``(N, C, H, W)``."""
        return self._conv_forward(x, standardise(self, self.weight), self.bias)


register_rule(Standardised, StandardisedConvRule(standardise))


def test_rows_are_standardised_over_what_remains():
    # Without the input of weight 6, the row 1, 2, 3 has mean 2 and deviation 1: it
    # multiplies by -1, 0, 1, and 1, 1, 5 becomes 4. With it the deviation is 2.16.
    layer = Standardised(4, 1, 1, bias=False)
    layer.weight.data = torch.tensor([1.0, 2, 3, 6]).reshape(1, 4, 1, 1)
    x = torch.tensor([1.0, 1, 5, 9]).reshape(1, 4, 1, 1)
    removed, kept = np.array([3]), np.array([0, 1, 2])
    assert rule_of(layer).mask(layer, removed)(x).item() == 4
    assert layer(x.index_fill(1, torch.tensor(3), 0)).item() != 4, 'zeros alone'
    shadow = Shadow(layer, sliced(layer, None, kept))
    assert layer(x[:, :3]).item() == 4
    shadow.lift()


def test_a_removed_group_changes_no_row_that_stays():
    layer = Standardised(4, 4, 1, groups=2)
    x = torch.rand(1, 4, 2, 2)
    out = rule_of(layer).mask(layer, np.array([0, 1]))(x)
    assert torch.equal(out[:, 2:], layer(x)[:, 2:])
    assert torch.equal(out[0, :2, 0, 0], layer.bias[:2]), 'zeros were read'


def test_the_same_places_of_all_groups_are_left_out_together():
    # Rows of two groups with three columns each; both lose their third one.
    layer = Standardised(6, 2, 1, groups=2, bias=False)
    layer.weight.data = torch.tensor([[1.0, 3, 9], [8, 2, 7]])[..., None, None]
    x = torch.tensor([2.0, 5, 1, 5, 2, 1]).reshape(1, 6, 1, 1)
    out = rule_of(layer).mask(layer, np.array([2, 5]))(x).flatten()
    # 1, 3 and 8, 2 become -+1 / sqrt(2) and +-1 / sqrt(2): 3 / sqrt(2) both times.
    assert out.tolist() == pytest.approx([3 / 2 ** 0.5] * 2)


def plain(m: nn.Module, x: Tensor) -> Tensor:
    return m.d(m.c(m.norm(m.b(m.a(x))).relu()).relu())


@pytest.fixture
def model(net) -> nn.Module:
    """Three standardised convs, the last with groups, and an ordinary one."""
    return net(
        plain, a=Standardised(3, 8, 3), b=Standardised(8, 12, 1, bias=False),
        norm=nn.GroupNorm(4, 12), c=Standardised(12, 8, 3, groups=4),
        d=nn.Conv2d(8, 2, 1))


def test_units_of_standardised_convs_are_found_and_exact(model):
    graph = verify(model, trace(model, (3, 12, 12)))
    assert [(u.name, u.width) for u in graph.units] == [('a', 8), ('b', 4)]
    assert graph.governed == 1
    report = check_network(model, (3, 12, 12))
    assert (report.units, report.left_out) == (2, 0)
    assert max(report.permuted, report.zeroed, report.materialised) < 1e-6
    assert (report.macs, report.params) == (report.true_macs, report.true_params)


def test_nobody_repairs_or_quantises_it(model):
    assert readers(model, 'abcd').keys() == {'d'}
    assert not has_columns(model.a) and has_columns(model.d)
    assert 'computed' in obstacle(model.a) or 'no quantised kind' in obstacle(model.a)


@pytest.mark.parametrize('kind', ['l1', 'l2', 'bn_scale', 'taylor'])
def test_its_channels_matter_by_the_scale_of_the_norm(model, kind):
    # Every row has the same size, and the gradient is orthogonal to it.
    model.norm.weight.data = torch.arange(12.0)
    losses = [lambda: model(torch.rand(1, 3, 12, 12)).sum()]
    graph = trace(model, (3, 12, 12))
    found = importance(model, graph, kind, losses)
    assert found['b'].tolist() == [0 + 1 + 2, 3 + 4 + 5, 6 + 7 + 8, 9 + 10 + 11]
    assert found['a'].tolist() == [1] * 8, 'no norm: all are alike'
