"""A new cost is one function of the table and a policy; this file is all it takes."""

import pytest

from mmcompress.costs import parse_targets
from mmcompress.registry import COSTS
from mmcompress.searchers import Random
from mmcompress.testing import CostContract, run_search, toy_costs, toy_score


def weight_traffic(table, widths, weight_bits, activation_bits):
    """Bits of weights read for one image, once for every window position."""
    return (table.weights(widths) * weight_bits) @ table.positions


@pytest.fixture(autouse=True)
def registered():
    COSTS.register_module(module=weight_traffic)
    yield
    del COSTS.module_dict['weight_traffic']


class TestWeightTraffic(CostContract):
    cost = 'weight_traffic'
    dense = 979_968 * 32  # The MACs, times the bits of a float.


def test_a_search_takes_it_as_a_budget():
    costs = toy_costs()
    target, = parse_targets({'weight_traffic': 0.5}, costs)
    history = run_search(
        Random(costs.space, costs, [target], 5), toy_score(costs.space))
    assert len(history) == 5
    assert all(e.costs['weight_traffic'] <= 979_968 * 16 for e in history)
