"""The register of kinds of layers."""

import pytest
import torch
from torch import nn

from mmcompress.layers import rule as rules
from mmcompress.layers.conv import ConvRule, TransposedConvRule
from mmcompress.layers.rule import (
    LayerRule,
    is_layer,
    obstacle,
    register_provider,
    register_rule,
    rule_of,
)


class Own(nn.Conv2d):
    """A conv of a user."""


def test_a_subclass_has_the_rule_of_its_base_but_no_quantised_type():
    assert rule_of(Own(2, 2, 1)) is rule_of(nn.Conv2d(2, 2, 1))
    assert obstacle(nn.Conv2d(2, 2, 1)) == '' and 'Own' in obstacle(Own(2, 2, 1))
    assert type(rule_of(nn.ConvTranspose1d(2, 2, 1))) is TransposedConvRule
    assert type(rule_of(nn.Conv3d(2, 2, 1))) is ConvRule
    assert rule_of(None) is None and rule_of(nn.ReLU()) is None


def test_a_later_rule_holds_for_layers_already_seen():
    class Later(nn.Module):
        pass

    assert rule_of(Later()) is None
    rule = LayerRule()
    register_rule(Later, rule)
    assert rule_of(Later()) is rule


@pytest.mark.parametrize('module, expected', [
    (nn.Conv2d(2, 2, 1), True), (nn.Linear(2, 2), True), (nn.ConvTranspose1d(2, 2, 1),
     True), (nn.BatchNorm2d(2), False), (nn.PReLU(2), False), (nn.SiLU(), False)])
def test_layers_with_macs(module, expected):
    assert is_layer(module) == expected


def test_rules_of_a_package_come_when_its_layers_are_met(tmp_path, monkeypatch):
    (tmp_path / 'their_package.py').write_text(
        'from torch import nn\nclass Theirs(nn.Module):\n    pass\n')
    (tmp_path / 'our_rules.py').write_text(
        'from their_package import Theirs\n'
        'from mmcompress.layers import LayerRule, register_rule\n'
        'register_rule(Theirs, LayerRule())\n')
    monkeypatch.syspath_prepend(tmp_path)
    register_provider('their_package', 'our_rules')
    from their_package import Theirs

    assert rule_of(Theirs()) is not None
    assert 'their_package' not in rules._PROVIDERS, 'imported once'


@pytest.mark.parametrize('layer', [
    nn.Conv2d(4, 6, 3, groups=2), nn.ConvTranspose2d(4, 6, 3, groups=2),
    nn.ConvTranspose2d(4, 6, 3), nn.Linear(4, 6)])
def test_the_weight_by_output(layer):
    rule = rule_of(layer)
    rows = rule.by_output(layer, layer.weight)
    assert rows.shape[:2] == (6, 4 // rule.groups(layer))
    x = torch.zeros(1, *([4] if rows.dim() == 2 else [4, 1, 1]))
    x[0, 1] = 1  # of the first group
    padded = x if rows.dim() == 2 else nn.functional.pad(x, (1, 1, 1, 1))
    with torch.no_grad():
        out = layer(padded) - layer(0 * padded)
    sums = out.flatten(2).sum(2)[0] if rows.dim() > 2 else out[0]
    wanted = rows[:, 1].detach()
    if rows.dim() > 2 and rule.kind == 'conv':  # only the centre sees the pixel
        wanted = wanted[:, 1, 1]
    elif rows.dim() > 2:
        wanted = wanted.flatten(1).sum(1)
    wanted = wanted * (torch.arange(6) < 6 // rule.groups(layer))
    torch.testing.assert_close(sums, wanted)


@pytest.mark.parametrize('layer', [
    nn.Conv2d(4, 6, 3, groups=2, stride=2, padding=1),
    nn.Conv2d(4, 6, 3, padding=1, padding_mode='reflect'),
    nn.ConvTranspose2d(4, 6, 2, 2), nn.Linear(4, 6)])
def test_pull_is_the_gradient_of_the_input(layer):
    x = torch.randn((3, 4, 5, 5) if layer.weight.dim() > 2 else (3, 4))
    other, x = torch.randn_like(layer.weight), x.requires_grad_()
    gy = torch.randn_like(layer(x))
    found = rule_of(layer).pull(layer, other, x.detach(), gy)
    layer.weight.data = other
    wanted, = torch.autograd.grad(layer(x), x, gy)
    torch.testing.assert_close(found, wanted)


def test_mean_outputs_of_a_grouped_conv():
    layer = nn.Conv2d(4, 2, 1, groups=2, bias=False)
    layer.weight.data = torch.tensor([[1.0, 2.0], [3.0, 4.0]])[:, :, None, None]
    mean = torch.tensor([1.0, 10.0, 100.0, 1000.0])
    found = rule_of(layer).mean_output(layer, layer.weight.detach(), mean)
    assert found.tolist() == [21, 4300]
