"""Budgets are read as the user means them, or refused with a reason."""

import math

import numpy as np
import pytest

from mmcompress.costs import (
    Costs,
    CostTable,
    Target,
    joined,
    parse_targets,
    tightest,
    within,
)
from mmcompress.errors import TargetError
from mmcompress.policy import Policy
from mmcompress.testing import TOY_MACS, TOY_PARAMS, toy_costs, toy_graph, toy_space


def with_latency() -> Costs:
    return Costs(CostTable.from_graph(toy_graph()), toy_space(), extra=dict(
        latency_ms=lambda table, widths, *_: widths.sum(-1) / 100))


def test_fractions_and_absolute_values():
    targets = parse_targets(dict(macs=[0.5, 300_000], params=1.0), toy_costs())
    assert targets == (
        Target('macs', 0.5, TOY_MACS / 2), Target('macs', 300_000.0, 300_000.0),
        Target('params', 1.0, TOY_PARAMS))
    assert [t.name for t in targets] == ['macs_0.5', 'macs_300000', 'params_1']


def test_milliseconds_are_always_absolute():
    # Dense 1.12 ms, cheapest (2 + 2 + 4 + 4 + 4) / 100 = 0.16 ms.
    target, = parse_targets(dict(latency_ms=0.5), with_latency())
    assert target.limit == 0.5


def test_a_percentage_is_a_share_of_any_cost():
    # Dense 1.12 ms.
    half, three = parse_targets(dict(latency_ms=['50%', '30.5 %']), with_latency())
    assert half == Target('latency_ms', 0.5, 0.56, percent=True)
    assert (half.name, three.name) == ('latency_ms_50pct', 'latency_ms_30.5pct')
    assert three.limit == pytest.approx(0.305 * 1.12)
    assert parse_targets(dict(macs='50%'), toy_costs()) == parse_targets(
        dict(macs=0.5), toy_costs())
    both, = parse_targets(
        dict(together=dict(latency_ms='50%', macs=0.9)), with_latency())
    assert both.limits == dict(latency_ms=0.56, macs=0.9 * TOY_MACS)
    assert both.name.startswith('latency_ms_50pct+macs_0.9')
    for wrong in ('5O%', '%', '-5%', '0%'):
        with pytest.raises(TargetError, match='is not a positive number, or a share'):
            parse_targets(dict(latency_ms=wrong), with_latency())


def test_met_up_to_rounding():
    target = Target('macs', 0.5, 100.0)
    assert target.met_by(dict(macs=100.0)) and target.met_by(dict(macs=100 + 1e-8))
    assert not target.met_by(dict(macs=100.001))


@pytest.mark.parametrize('spec', [{}, None])
def test_no_targets(spec):
    with pytest.raises(TargetError, match=r'No targets given; write .*macs=\[0.5\]'):
        parse_targets(spec, toy_costs())


def test_unknown_cost():
    with pytest.raises(TargetError, match="Unknown cost 'flops' in targets; known: "
                                          'activation_bytes, bops, latency_ms, macs, '):
        parse_targets(dict(flops=0.5), toy_costs())


@pytest.mark.parametrize(
    'value', [0, -0.5, math.nan, math.inf, 'half', None, True, [0.5, 'x']], ids=str)
def test_malformed_value(value):
    with pytest.raises(TargetError, match='is not a positive number'):
        parse_targets(dict(macs=value), toy_costs())


def test_an_empty_list_is_no_target():
    with pytest.raises(TargetError, match='No targets given'):
        parse_targets(dict(macs=[]), toy_costs())


@pytest.mark.parametrize('spec', [dict(macs=0.001), dict(macs=[0.5, 1000])])
def test_below_the_cheapest_policy(spec):
    costs = toy_costs()
    # Widths 2, 2, 4, 4, 4: weights 54, 4, 36, 18, 8, 24 at 64 positions; head 144
    # and predict 24 at 80; fc 256. 9216 + 13440 + 256 = 22912, .023 of dense.
    assert costs.of_rows('macs', costs.space.lowest) == 22_912
    with pytest.raises(TargetError, match=(
            r'Target macs=\S+ \(\S+\) is below the cheapest policy of the search '
            r'space. Attainable: 22912 \(0.023 of dense\) to 979968. Raise the '
            r'target or widen')):
        parse_targets(spec, costs)


def test_the_cheapest_policy_itself_is_attainable():
    target, = parse_targets(dict(macs=22_912), toy_costs())
    assert target.limit == 22_912


def test_several_costs_at_once():
    costs = toy_costs(toy_space((4, 8, 32), (4, 8, 32)))
    single, both = parse_targets(
        dict(bops=0.2, together=[dict(bops=0.25, size_bytes=0.5)]), costs)
    costs = joined(costs, [single, both])
    assert single == Target('bops', 0.2, 0.2 * TOY_MACS * 1024)
    assert (both.name, both.limit) == ('bops_0.25+size_bytes_0.5_1', 1.0)
    # 8 and 32 bits for weights: a quarter of the BOPs at most meets the first budget,
    # and the bytes are a quarter plus the norms.
    names = [layer.name for layer in toy_graph().layers]
    for bits, value in ((8, 32), True), ((32, 8), False), ((8, 8), True):
        found = costs.of(Policy({}, dict.fromkeys(names, bits)))
        assert both.met_by(found) == value
        assert found[both.cost] == pytest.approx(max(
            found['bops'] / (0.25 * TOY_MACS * 1024),
            found['size_bytes'] / (0.5 * TOY_PARAMS * 4)))
    assert costs.dense()[both.cost] == 4


@pytest.mark.parametrize('spec, message', [
    ([0.5], 'not a list of budgets'), ([{}], 'not a list of budgets'),
    ([dict(flops=1)], "Unknown cost 'flops'"), ([dict(macs=-1)], 'positive number'),
    ([dict(macs=0.001, params=0.5)], 'below the cheapest'),
])
def test_malformed_budgets_together(spec, message):
    with pytest.raises(TargetError, match=message):
        parse_targets(dict(together=spec), toy_costs())


def test_reading_targets_changes_no_costs():
    costs = toy_costs(toy_space((4, 8, 32), (4, 8, 32)))
    names = costs.names()
    target, = parse_targets(dict(together=[dict(bops=0.25, size_bytes=0.5)]), costs)
    more = joined(costs, [target])
    assert costs.names() == names
    assert more.names() == sorted([*names, 'bops_0.25+size_bytes_0.5'])
    assert joined(costs, [Target('macs', 1, 1.0)]) is costs


def test_a_target_knows_its_cost_without_help():
    costs = toy_costs(toy_space((4, 8, 32), (4, 8, 32)))
    target, = parse_targets(dict(together=[dict(bops=0.25, size_bytes=0.5)]), costs)
    rows = np.stack([costs.space.lowest, costs.space.highest])
    for row, policy, fits in zip(rows, costs.space.decode(rows), (True, False)):
        known = costs.of(policy)
        assert target.cost not in known
        assert float(target.of_rows(costs, row)) == target.of(known)
        assert target.met_by(known) == fits == target.fits(costs, row)
    assert target.fits(costs, rows[None]).tolist() == [[True, False]]


def test_the_slack_is_the_same_everywhere():
    costs = toy_costs()
    row = costs.space.highest
    for factor, fits in ((1.0, True), (1 - 1e-10, True), (1 - 1e-8, False)):
        target = Target('macs', 1.0, TOY_MACS * factor)
        assert target.fits(costs, row) == target.met_by(costs.dense()) == fits
        assert within(costs, {'macs': TOY_MACS * factor}, row) == fits


def test_the_tightest_of_several_targets():
    costs = toy_costs()
    targets = parse_targets(
        dict(macs=[0.5, 0.25], params=0.5, together=[dict(macs=0.3, bops=0.5)]), costs)
    assert tightest(targets) == {
        'macs': 0.25 * TOY_MACS, 'params': 0.5 * TOY_PARAMS,
        'bops': 0.5 * TOY_MACS * 1024}
