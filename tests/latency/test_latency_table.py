"""A latency table that interpolates, keeps its contract and fits whole networks."""

import numpy as np
import pytest
import torch

from mmcompress.costs import Costs, CostTable
from mmcompress.latency.layer_timer import LayerShape, LayerTimer
from mmcompress.latency.table import LatencyTable, layer_shapes
from mmcompress.testing import CostContract, toy_space
from mmcompress.testing.toy import toy_graph


def analytic(shape, out, into, groups, integer):
    """A device on which time is 1 us per 1000 weights, a third of it in integers."""
    assert groups == 1 or out % groups == 0
    assert out >= groups >= 1 and into >= 1
    return (0.001 * out * into + 0.01) / (3 if integer else 1)


def toy_table() -> LatencyTable:
    shapes = {layer.name: [LayerShape(layer.kind, (8, 8))] * layer.calls
              for layer in toy_graph().layers}
    return LatencyTable(shapes, analytic)


class TestLatency(CostContract):
    cost = 'latency_ms'

    def make_costs(self) -> Costs:
        space = toy_space((2, 4, 8, 32), (4, 8, 32))
        return Costs(CostTable.from_graph(toy_graph()), space,
                     extra=dict(latency_ms=toy_table()))


def test_grid_points_are_measurements():
    graph = toy_graph()
    costs = TestLatency().make_costs()
    # The dense network is on the grid: every call of every layer counts.
    wanted = sum(
        layer.calls * analytic(None, layer.out_channels,
                               layer.in_channels // layer.groups, 1, False)
        for layer in graph.layers)
    assert costs.dense()['latency_ms'] == pytest.approx(wanted)


def test_fit():
    table = toy_table()
    table.fit([1.0, 2.0, 4.0], [2.5, 4.5, 8.5])  # 2 x + 0.5
    assert (table.scale, table.constant) == pytest.approx((2.0, 0.5))
    table.fit([2.0], [3.0])
    assert (table.scale, table.constant) == pytest.approx((1.5, 0.0))
    table.fit([1.0, 2.0], [1.0, 3.0])  # the line has a constant of -1
    assert table.constant == 0.0 and table.scale > 0


def test_timer_remembers(tmp_path):
    shape = LayerShape('conv', (8, 8), (3, 3), padding=(1, 1), activation='SiLU')
    timer = LayerTimer(tmp_path / 'latency.json')
    times = {integer: timer.layer(shape, 8, 4, 1, integer)
             for integer in (False, True)}
    assert all(t > 0 for t in times.values()) and timer.measured == 2
    timer.save()
    again = LayerTimer(tmp_path / 'latency.json')
    assert again.layer(shape, 8, 4, 1, True) == times[True] and again.measured == 0
    other = LayerTimer(tmp_path / 'latency.json', threads=2)
    other.layer(LayerShape('linear', (1,)), 8, 4, 1, True)
    assert other.measured == 1


def test_layers_in_openvino(tmp_path):
    pytest.importorskip('openvino')
    timer = LayerTimer(tmp_path / 'latency.json', 'openvino')
    conv = LayerShape('conv', (8, 8), (3, 3), padding=(1, 1), activation='SiLU')
    for shape in (conv, LayerShape('linear', (4,))):
        for integer in (False, True):
            assert timer.layer(shape, 8, 4, 1, integer) > 0


def test_shapes_of_calls():
    from torch import nn

    from mmcompress.graph import trace

    model = nn.Sequential(
        nn.Conv2d(3, 8, 3, 2, 1), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(),
        nn.Linear(8, 4))
    graph = trace(model, (3, 16, 16))
    shapes = layer_shapes(model, graph)
    assert shapes['0'] == [LayerShape('conv', (16, 16), (3, 3), (2, 2), (1, 1))]
    assert shapes['4'] == [LayerShape('linear', (1,))]
    table = LatencyTable(shapes, analytic)
    costs = Costs(CostTable.from_graph(graph), toy_space_of(graph),
                  extra=dict(latency_ms=table))
    rows = np.array([costs.space.highest, costs.space.lowest])
    dense, thin = costs.of_rows('latency_ms', torch.as_tensor(rows))
    assert thin < dense


def toy_space_of(graph):
    from mmcompress.policy import SearchSpace

    return SearchSpace.from_graph(graph, divisor=2)
