"""The cost table agrees with counting each layer on its own."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

import mmcompress as mmc
from mmcompress.costs import Costs, CostTable, costs_of
from mmcompress.costs.table import CHUNK
from mmcompress.policy import IN, OUT, ChannelUnit, Layer, Member, ModelGraph, Policy
from mmcompress.testing import TOY_MACS, toy_costs, toy_graph, toy_space

COSTS = toy_costs(toy_space(divisor=1))
WIDTHS = st.tuples(*(st.integers(1, u.width) for u in toy_graph().units))


def brute_force(widths: dict[str, int]) -> tuple[int, int]:
    """MACs and parameters from the members, layer by layer."""
    graph = toy_graph()
    lost: dict[tuple[str, str], int] = {}
    for unit in graph.units:
        for member in unit.members:
            gone = member.positions[widths[unit.name]:].size
            key = member.layer, member.side
            lost[key] = lost.get(key, 0) + gone
    macs = params = 0
    for layer in graph.layers:
        out = layer.out_channels - lost.get((layer.name, OUT), 0)
        into = layer.in_channels - lost.get((layer.name, IN), 0)
        groups = layer.groups if layer.groups == 1 else into
        weights = out * into // groups * layer.kernel
        macs += weights * layer.positions
        params += weights + layer.has_bias * out
    norms = sum(n * (size - lost.get((name, OUT), 0)) for (name, n), size in zip(
        graph.norm_params.items(), (16, 8, 16)))
    return macs, params + norms + 22


@given(WIDTHS)
def test_agrees_with_brute_force(widths):
    named = dict(zip(COSTS.space.units, widths))
    costs = COSTS.of(Policy(named))
    assert (costs['macs'], costs['params']) == brute_force(named)


@given(WIDTHS, WIDTHS)
def test_never_falls_when_a_width_rises(one, other):
    low, high = np.minimum(one, other), np.maximum(one, other)
    rows = np.repeat(COSTS.space.highest[None], 2, 0)
    rows[:, :5] = low, high
    for name in COSTS.names():
        cheap, dear = COSTS.of_rows(name, rows).tolist()
        assert cheap <= dear


def test_gradient_is_the_marginal_cost():
    # One more channel of head (width 8): 32 * 9 weights and 6 predictions at 80
    # positions, 4 inputs of 16 features of fc.
    rows = torch.tensor(COSTS.space.highest, dtype=torch.float64)
    rows[4] = 8
    rows.requires_grad_()
    COSTS.of_rows('macs', rows).backward()
    assert rows.grad[4] == 80 * (288 + 6) + 64
    assert rows.grad[5:].abs().sum() == 0  # bits are no MACs


def test_channels_between_whole_numbers():
    table = CostTable.from_graph(toy_graph())
    out, into = table.channels(torch.tensor([8.5, 8, 24, 32, 32]))
    assert out.tolist() == [8.5, 8, 8.5, 8.5, 24, 32, 32, 6, 16]
    # merge reads 24 + 8.5, a depthwise conv one channel per group, fc 4 * 32.
    assert into.tolist() == [3, 8.5, 8, 1, 8.5, 32.5, 32, 32, 128]


def test_chunks_do_not_show():
    rows = np.tile(COSTS.space.highest, (CHUNK + 3, 1))
    rows[:, 4] = np.arange(CHUNK + 3) % 32 + 1
    grad = torch.tensor(rows, dtype=torch.float64, requires_grad=True)
    many = COSTS.of_rows('macs', grad)
    assert many.tolist() == [float(COSTS.of_rows('macs', r)) for r in rows]
    many.sum().backward()
    assert (grad.grad[:, 4] == 80 * (288 + 6) + 64).all()


def grouped_graph() -> ModelGraph:
    """conv 4 -> 12 in 3 groups of the unit: 4 outputs and 2 inputs each."""
    positions = np.arange(12).reshape(3, 4)
    layers = (
        Layer('a', 'conv', 6, 3, positions=10),
        Layer('b', 'conv', 12, 6, groups=3, kernel=9, has_bias=True, positions=10),
        Layer('t', 'conv_transpose', 5, 12, kernel=4, positions=10))
    params = 18 + 12 * 2 * 9 + 12 + 4 * 12 * 5
    return ModelGraph(
        (ChannelUnit('a', (
            Member('a', OUT, np.arange(6).reshape(3, 2)),
            Member('b', IN, np.arange(6).reshape(3, 2)),
            Member('b', OUT, positions), Member('t', IN, positions)), 2),),
        layers, params, {}, (3, 4, 4), 'grouped')


def test_groups_leave_as_a_whole():
    table = CostTable.from_graph(grouped_graph())
    out, into = table.channels(torch.tensor([2.0]))
    assert out.tolist() == [4, 8, 5] and into.tolist() == [3, 2, 8]
    assert table.weights(torch.tensor([2.0])).tolist() == [12, 144, 160]


def test_further_costs_are_bound_to_the_model():
    space = toy_space()
    costs = Costs(CostTable.from_graph(toy_graph()), space, extra=dict(
        latency_ms=lambda table, widths, weight_bits, activation_bits:
            widths.sum(-1) / 100))
    assert 'latency_ms' in costs.names() and 'latency_ms' not in COSTS.names()
    assert costs.dense()['latency_ms'] == pytest.approx(1.12)
    assert costs.of(Policy({'stem': 8}))['latency_ms'] == pytest.approx(1.04)


def test_dense_is_the_empty_policy():
    assert COSTS.dense() == COSTS.of(Policy())
    assert COSTS.dense()['macs'] == TOY_MACS


def test_costs_of_widths_and_bits_are_those_of_a_search():
    net = nn.Sequential(nn.Conv2d(3, 16, 3), nn.ReLU(), nn.Conv2d(16, 8, 3), nn.ReLU(),
                        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 4))
    images = torch.randn(8, 3, 12, 12)
    session = mmc.prepare(net.eval(), images[:1], calibration=[images],
                          channel=dict(divisor=4), quant=dict(bits=[4, 8]))
    policy, = session.space.decode(session.space.lowest)
    assert policy.widths and policy.bits
    wanted = Costs(CostTable.from_graph(session.graph), session.space)
    assert costs_of(session.graph, policy) == wanted.of(policy)
    assert costs_of(session.graph, Policy()) == wanted.dense()
