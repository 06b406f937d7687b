"""Greedy and exact solvers against brute force."""

from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mmcompress.costs import Costs, parse_targets
from mmcompress.errors import CompressionError, TargetError
from mmcompress.policy import SearchSpace
from mmcompress.prices.table import PriceGroup, PriceTable
from mmcompress.searchers.solvers import exact, greedy, refill, solve_linear, sweep
from mmcompress.testing import toy_costs, toy_graph, toy_prices, toy_space

BITS = {'stem': (4, 8), 'expand': (2, 4, 8), 'head': (4, 8, 32), 'fc': (4, 32)}


def bits_only() -> Costs:
    """6 groups or fewer; size and BOPs are sums over the layers."""
    return toy_costs(SearchSpace.from_graph(
        toy_graph(), weight_bits=BITS, activation_bits={'head': (4, 8)}, prune=False))


def widths() -> Costs:
    """4 * 2 * 3 * 4 * 4 widths, which multiply."""
    return toy_costs(toy_space(divisor=8))


def brute_force(table: PriceTable, costs: Costs, limits: dict) -> float:
    """Lowest price within the budgets, over all policies."""
    parts = [range(a, b) for a, b in zip(table.start, table.start[1:])]
    picks = np.array(list(product(*parts)))
    rows = np.array([table.row(p) for p in picks])
    fits = np.ones(len(rows), bool)
    for name, limit in limits.items():
        fits &= costs.of_rows(name, rows).numpy() <= limit * (1 + 1e-9)
    return float(table.price[picks[fits]].sum(1).min())


def spent(costs: Costs, name: str, table: PriceTable, picks: np.ndarray) -> float:
    return float(costs.of_rows(name, table.row(picks)))


@st.composite
def instances(draw):
    """Prices, groups, two costs and budgets that something meets."""
    sizes = draw(st.lists(st.integers(1, 4), min_size=1, max_size=4))
    group = np.repeat(np.arange(len(sizes)), sizes)
    numbers = st.lists(st.integers(0, 20), min_size=len(group), max_size=len(group))
    prices, one, two = (np.array(draw(numbers), float) for _ in range(3))
    split = np.flatnonzero(np.diff(group)) + 1
    chosen = [draw(st.sampled_from(p.tolist()))
              for p in np.split(np.arange(len(group)), split)]
    slack = draw(st.integers(0, 3))
    costs = np.stack([one, two])
    return prices, group, costs, costs[:, chosen].sum(1) + slack


@settings(deadline=None, max_examples=60)
@given(instances())
def test_linear_problem_is_solved_to_optimality(instance):
    prices, group, costs, limits = instance
    parts = np.split(np.arange(len(group)), np.flatnonzero(np.diff(group)) + 1)
    every = np.array(list(product(*parts)))
    fits = (costs[:, every].sum(2) <= limits[:, None]).all(0)
    found = solve_linear(prices, group, costs, limits)
    assert (costs[:, found].sum(1) <= limits + 1e-6).all()
    assert prices[found].sum() == pytest.approx(prices[every[fits]].sum(1).min())


def test_linear_problem_without_solution():
    assert solve_linear(np.zeros(2), np.array([0, 0]), np.array([[3.0, 4.0]]),
                        np.array([2.0])) is None


@settings(deadline=None, max_examples=25)
@given(st.integers(0, 10**6), st.sampled_from(['bops', 'size_bytes']),
       st.floats(0, 1))
def test_bits_against_brute_force(seed, cost, share):
    costs = bits_only()
    table = toy_prices(costs.space, seed)
    low, high = (float(costs.of_rows(cost, r))
                 for r in (costs.space.lowest, costs.space.highest))
    limit = low + share * (high - low)
    best = brute_force(table, costs, {cost: limit})
    ours = exact(table, costs, {cost: limit})
    assert ours.price == pytest.approx(best, rel=1e-6, abs=1e-9)
    assert ours.costs[cost] <= limit * (1 + 1e-9)
    picks = greedy(table, costs, cost, limit)
    assert spent(costs, cost, table, picks) <= limit * (1 + 1e-9)
    assert table.price[picks].sum() >= best - 1e-9


@settings(deadline=None, max_examples=15)
@given(st.integers(0, 10**6), st.floats(0.05, 1))
def test_widths_against_brute_force(seed, share):
    costs = widths()
    table = toy_prices(costs.space, seed)
    low, high = (float(costs.of_rows('macs', r))
                 for r in (costs.space.lowest, costs.space.highest))
    limit = low + share * (high - low)
    best = brute_force(table, costs, {'macs': limit})
    picks = greedy(table, costs, 'macs', limit)
    ours = exact(table, costs, {'macs': limit}, picks)
    for chosen in (picks, ours.picks):
        assert spent(costs, 'macs', table, chosen) <= limit * (1 + 1e-9)
    assert best - 1e-9 <= ours.price <= table.price[picks].sum() + 1e-9


def test_several_budgets_at_once():
    costs = bits_only()
    table = toy_prices(costs.space)
    limits = {
        name: float(costs.of_rows(name, costs.space.lowest)) * times
        for name, times in (('bops', 1.2), ('size_bytes', 1.1))}
    ours = exact(table, costs, limits)
    assert ours.price == pytest.approx(brute_force(table, costs, limits))
    alone = exact(table, costs, {'bops': limits['bops']})
    assert alone.costs['bops'] <= limits['bops']
    assert alone.price <= ours.price
    assert float(costs.of_rows('size_bytes', table.row(alone.picks))) \
        > limits['size_bytes'], 'the second budget does not bind'


def test_budgets_nothing_meets():
    costs = bits_only()
    table = toy_prices(costs.space)
    with pytest.raises(TargetError, match='raise one'):
        exact(table, costs, {'bops': 1.0, 'size_bytes': 1.0})
    assert greedy(table, costs, 'bops', 1.0) is None


@pytest.mark.parametrize('cost', ['bops', 'size_bytes', 'macs', 'params'])
def test_one_sweep_gives_the_whole_curve(cost):
    costs = toy_costs(toy_space((4, 8, 32), (8, 32)))
    table = toy_prices(costs.space)
    curve = sweep(table, costs, cost)
    assert (np.diff(curve.cost) < 0).all() and (np.diff(curve.price) >= 0).all()
    rows = np.array([table.row(p) for p in curve.picks])
    np.testing.assert_allclose(costs.of_rows(cost, rows), curve.cost, rtol=1e-12)
    np.testing.assert_allclose(table.of_rows(rows), curve.price)
    ends = [float(costs.of_rows(cost, r))
            for r in (costs.space.highest, costs.space.lowest)]
    assert curve.cost[[0, -1]].tolist() == pytest.approx(ends)
    for target in parse_targets({cost: [0.9, 0.7]}, costs):
        at = greedy(table, costs, cost, target.limit, curve)
        assert spent(costs, cost, table, at) <= target.limit * (1 + 1e-9)
        assert table.price[at].sum() <= curve.price[curve.cost <= target.limit].min()


def test_refill_leaves_no_change_that_fits():
    costs = toy_costs(toy_space((4, 8, 32)))
    table = toy_prices(costs.space)
    limit = 0.5 * costs.dense()['bops']
    low = table.picks_of(costs.space.lowest)[0]
    full = refill(table, costs, {'bops': limit}, low)
    rows = table.variants(table.row(full), np.arange(len(table.price)))
    cheaper = table.price < table.price[full][table.group]
    assert (costs.of_rows('bops', rows).numpy()[cheaper] > limit).all()


def test_table_round_trip_and_joint_groups(tmp_path):
    space = toy_space((4, 8), (8, 32))
    n = len(space.units)
    # The unit 'reduce' with the weight bits of its only reader 'expand'.
    columns = (1, n + 2)
    values = np.array(list(product(space.choices[1], space.choices[n + 2])))
    joint = PriceGroup(columns, values, np.arange(len(values), dtype=float))
    prices = {i: np.linspace(1, 0, len(c)) for i, c in enumerate(space.choices)}
    table = PriceTable.from_columns(space, prices, [joint])
    assert sorted(c for g in table.groups for c in g.columns) == space.free.tolist()
    rng = np.random.default_rng(0)
    rows = space.snap(rng.uniform(space.lowest, space.highest, (20, len(space))))
    for row, picks in zip(rows, table.picks_of(rows)):
        np.testing.assert_array_equal(table.row(picks), row)
    # Everything at its last choice is free but the joint group, whose last costs 7.
    assert len(values) == 8
    assert table.of_rows(space.highest).tolist() == [7.0]
    table.save(tmp_path / 'prices.json')
    again = PriceTable.load(tmp_path / 'prices.json')
    np.testing.assert_array_equal(again.of_rows(rows), table.of_rows(rows))
    with pytest.raises(CompressionError, match='no price'):
        table.picks_of(space.lowest - 1)
    (tmp_path / 'prices.json').write_text('{}')
    with pytest.raises(CompressionError, match='delete it'):
        PriceTable.load(tmp_path / 'prices.json')
