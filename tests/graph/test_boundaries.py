"""Where channels of units cross the boundaries of modules."""

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from mmcompress.errors import TraceError
from mmcompress.graph import trace
from mmcompress.graph.boundaries import Occupancy, trace_boundaries


class Branches(nn.Module):
    """A concatenation of two units, the second one shuffled, then a conv."""

    def __init__(self):
        super().__init__()
        self.a = nn.Conv2d(3, 2, 3, padding=1)
        self.b = nn.Conv2d(3, 4, 3, padding=1)
        self.both = nn.Conv2d(6, 3, 1)
        self.out = nn.Conv2d(3, 2, 1)

    def forward(self, x):
        b = F.relu(self.b(x)).unflatten(1, (2, 2)).transpose(1, 2).flatten(1, 2)
        return self.out(self.both(torch.cat([b, self.a(x)], 1)))


def test_positions_come_from_the_labels():
    model = Branches()
    graph = trace(model, (3, 8, 8))
    found = trace_boundaries(model, graph, ['both', 'out'])
    # The image and the outputs are no unit's; the rest is.
    assert set(found) == {
        ('both', 0, 'in', 0), ('both', 0, 'out', 0), ('out', 0, 'in', 0)}
    into = found['both', 0, 'in', 0]
    # b's channels 0 1 2 3 as 2 x 2, transposed: 0 2 1 3; then a's 0 1.
    assert into.dim == 1
    assert [into.units[i] for i in into.owner] == ['b'] * 4 + ['a'] * 2
    assert into.channel.tolist() == [0, 2, 1, 3, 0, 1]
    # b keeps 0 1 (positions 0 and 2), a keeps 0 (position 4).
    assert into.kept({'b': 2, 'a': 1}).tolist() == [0, 2, 4]
    assert into.kept({'b': 4}) is None
    assert found['both', 0, 'out', 0].kept({'both': 1}).tolist() == [0]


def test_units_beside_channels_that_stay():
    mixed = Occupancy(1, ('u',), np.array([-1, 0, 0, -1]), np.array([0, 0, 1, 0]))
    assert mixed.kept({'u': 1}).tolist() == [0, 1, 3]


def test_the_model_is_left_alone():
    model = Branches().train()
    before = {name: set(vars(m)) for name, m in model.named_modules()}
    trace_boundaries(model, trace(model, (3, 8, 8)), ['both', 'a'])
    assert model.both.training
    assert before == {name: set(vars(m)) for name, m in model.named_modules()}


def test_channels_along_two_axes_are_no_boundary():
    class Mixed(Branches):
        def forward(self, x):
            both = torch.stack([self.a(x), self.b(x)[:, :2]], 2)
            return self.out(self.both(self.identity(both).flatten(1, 2)
                                      .repeat(1, 2, 1, 1)[:, :6]))

    model = Mixed()
    model.identity = nn.Identity()
    graph = trace(model, (3, 8, 8))
    with pytest.raises(TraceError, match='several axes'):
        trace_boundaries(model, graph, ['identity'])
