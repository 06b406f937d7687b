"""Dominance and LP-dominance."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from mmcompress.searchers.solvers.reduction import hull, undominated

pairs = st.lists(st.tuples(st.integers(0, 9), st.integers(0, 9)), min_size=1,
                 max_size=9)


def test_by_hand():
    # (price, cost):    (0,9) (1,5) (2,4) (3,1) (4,1) (3,3)
    prices = np.array([0, 1, 2, 3, 4, 3.0])
    costs = np.array([9, 5, 4, 1, 1, 3.0])
    # (4,1) and (3,3) are no better than (3,1) in anything.
    assert undominated(prices, costs).tolist() == [0, 1, 2, 3]
    # From (1,5) to (3,1) the line passes (2,3), which is below (2,4).
    assert hull(prices, costs).tolist() == [0, 1, 3]


def test_of_equal_choices_the_first_stays():
    assert undominated(np.ones(3), np.ones((2, 3))).tolist() == [0]


@given(pairs)
def test_every_choice_left_out_has_a_better_one(choices):
    prices, costs = np.array(choices, float).T
    kept = undominated(prices, costs)
    for j in range(len(choices)):
        assert any(prices[i] <= prices[j] and costs[i] <= costs[j] for i in kept)
        if j in kept:
            assert not any(
                i != j and prices[i] <= prices[j] and costs[i] <= costs[j]
                for i in kept)


@given(pairs)
def test_the_hull_serves_every_exchange_rate(choices):
    prices, costs = np.array(choices, float).T
    path = hull(prices, costs)
    slopes = np.diff(prices[path]) / -np.diff(costs[path])
    assert (np.diff(prices[path]) > 0).all() and (np.diff(costs[path]) < 0).all()
    assert (np.diff(slopes) > 0).all()
    for rate in (0.05, 0.4, 1.0, 2.3, 20.0):
        value = prices + rate * costs
        assert np.isclose(value[path].min(), value.min())
