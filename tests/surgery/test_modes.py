"""Modes end with everything as it was."""

import pytest
import torch
from torch import Tensor, nn

from mmcompress.graph import trace
from mmcompress.graph.trace import fingerprint
from mmcompress.surgery.modes import tables_kept


class Positions(nn.Module):
    """Adds a table that it computes anew for every other width, as EVA-02 does."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.width = width
        self.register_buffer('table', torch.arange(width) / width)
        self.register_buffer('calls', torch.zeros(()))

    def forward(self, x: Tensor) -> Tensor:
        self.calls += 1
        if x.shape[-1] != self.width:
            self.width = x.shape[-1]
            self.register_buffer('table', torch.arange(self.width) / self.width)
        return x + self.table


@pytest.fixture
def network() -> nn.Module:
    return nn.Sequential(nn.Conv2d(3, 4, 1), Positions(96), nn.Conv2d(4, 2, 1))


def test_tables_of_another_size_are_undone(network):
    table, positions = network[1].table, network[1]
    with tables_kept(network):
        network(torch.zeros(1, 3, 8, 8))
        assert len(positions.table) == positions.width == 8
    assert positions.table is table and positions.width == 96
    network(torch.zeros(1, 3, 8, 96))  # it fits again
    with tables_kept(network):
        network(torch.zeros(1, 3, 8, 96))
    assert positions.calls == 3, 'what changes in its own place stays changed'


def test_a_trace_leaves_the_model_as_it_was(network):
    before = fingerprint(network)
    graph = trace(network, (3, 96, 128))
    # On an image of 128 the table has 128 places; the model was made for 96.
    assert graph.trace_shape[2] < 96 and graph.fingerprint == before
    assert fingerprint(network) == before
