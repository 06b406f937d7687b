"""Hooks for the length of a block."""

import pytest
import torch
from torch import nn

from mmcompress.surgery.hooks import hooked


def test_hooks_see_and_change_calls_within_the_block():
    layer, seen = nn.Linear(2, 2), []
    x = torch.ones(1, 2)
    plain = layer(x)

    def double(module, args):
        return (2 * args[0],)

    def after(module, args, output):
        seen.append((module, args[0].tolist()))
        return output + 1

    with hooked(before={layer: double}, after={layer: after}):
        torch.testing.assert_close(layer(x), layer.forward(2 * x) + 1)
    assert seen == [(layer, [[2.0, 2.0]])]
    assert torch.equal(layer(x), plain)


def test_they_go_when_the_block_fails():
    layer = nn.Linear(2, 2)
    with pytest.raises(ZeroDivisionError), hooked(before={layer: lambda *_: 1 / 0}):
        layer(torch.ones(1, 2))
    layer(torch.ones(1, 2))
