"""From learned scores to widths for a budget."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mmcompress.costs import parse_targets
from mmcompress.errors import CompressionError, TargetError
from mmcompress.policy import ChannelScores
from mmcompress.searchers import Ladder
from mmcompress.testing import TOY_MACS, toy_costs, toy_scores, toy_space

UNITS = ('stem', 'reduce', 'point', 'merge', 'head')


def scores_by_hand(head=1.0):
    """Descending whole numbers: reduce 18 to 11, head 32 to 1, the others 100."""
    return ChannelScores('l2', {
        'stem': {name: np.full(16, 100.0) for name in ('stem', 'expand', 'depth')},
        'reduce': {'reduce': np.arange(18.0, 10, -1)},
        'point': {'point': np.full(24, 100.0)},
        'merge': {'merge': np.full(32, 100.0)},
        'head': {'head': head * np.arange(32.0, 0, -1)}})


def row_of(ladder, costs, share, **factors):
    """Widths by unit at a share of the MACs; ``head=(alpha, kappa)``."""
    alpha, kappa = np.ones(len(ladder.layers)), np.zeros(len(ladder.layers))
    for layer, pair in factors.items():
        i = ladder.layers.index(layer)
        alpha[i], kappa[i] = pair
    row = ladder.row(
        ladder.descent(alpha, kappa), costs, parse_targets({'macs': [share]}, costs))
    return dict(zip(UNITS, row.tolist())), float(costs.of_rows('macs', row))


# A channel of the head costs 80 * (9 * 32 + 6) + 64 = 23584 MACs, one of reduce
# 64 * (16 + 9 * 16) = 10240.
DENSE = dict(stem=16, reduce=8, point=24, merge=32, head=32)


def test_prunes_from_the_bottom_until_the_cost_is_met():
    costs = toy_costs(toy_space(divisor=1))
    ladder = Ladder(costs.space, scores_by_hand())
    # 7 % of 979968 are 68598: two channels of the head are not enough, three are.
    widths, macs = row_of(ladder, costs, 0.93)
    assert widths == {**DENSE, 'head': 29}
    assert macs == TOY_MACS - 3 * 23584


def test_an_offset_moves_a_layer_in_the_global_order():
    costs = toy_costs(toy_space(divisor=1))
    ladder = Ladder(costs.space, scores_by_hand())
    # The head now scores 11.5, 12.5, ..., reduce 11, 12, ...: they take turns.
    # reduce, head, reduce, head save 67648 of the 68598; the next is reduce again.
    widths, macs = row_of(ladder, costs, 0.93, head=(1, 10.5))
    assert widths == {**DENSE, 'head': 30, 'reduce': 5}
    assert macs == TOY_MACS - 2 * 23584 - 3 * 10240


def test_a_factor_moves_a_layer_in_the_global_order():
    costs = toy_costs(toy_space(divisor=1))
    ladder = Ladder(costs.space, scores_by_hand())
    # 40, 80, ... for the head: all of reduce but its floor (one channel) goes first,
    # 7 * 10240 = 71680 > 68598.
    widths, _ = row_of(ladder, costs, 0.93, head=(40, 0))
    assert widths == {**DENSE, 'reduce': 1}


def test_a_unit_at_its_floor_is_skipped():
    costs = toy_costs(toy_space(divisor=1))
    ladder = Ladder(costs.space, scores_by_hand(head=0.1), floors={'head': 30})
    # The head may lose two channels only (47168); reduce gives the other 21430.
    widths, _ = row_of(ladder, costs, 0.93)
    assert widths == {**DENSE, 'head': 30, 'reduce': 5}


def test_a_step_is_worth_the_mean_of_its_channels():
    costs = toy_costs(toy_space(divisor=4))
    ladder = Ladder(costs.space, scores_by_hand())
    # Blocks of four: reduce 12.5 (and its floor, 4), head 2.5, 6.5, 10.5, 14.5.
    widths, _ = row_of(ladder, costs, 1 - (3 * 4 * 23584 + 1) / TOY_MACS)
    assert widths == {**DENSE, 'head': 20, 'reduce': 4}


@pytest.mark.parametrize(('reduction', 'expected'), [
    ('sum', 2 * 3 + 1 + 5 + 7), ('mean', (2 * 3 + 1 + 5 + 7) / 3), ('max', 7)])
def test_reduction_of_tied_layers(reduction, expected):
    scores = scores_by_hand()
    scores.units['stem']['stem'][0] = 3.0
    scores.units['stem']['expand'][0] = 5.0
    scores.units['stem']['depth'][0] = 7.0
    ladder = Ladder(toy_space(divisor=1), scores, reduction)
    assert ladder.layers[:3] == ('stem', 'expand', 'depth')
    alpha, kappa = np.ones(len(ladder.layers)), np.zeros(len(ladder.layers))
    alpha[0], kappa[0] = 2, 1  # the stem: 2 * 3 + 1
    assert ladder.scores(alpha, kappa)[0] == pytest.approx(expected)


def test_errors():
    space = toy_space()
    with pytest.raises(CompressionError, match='choose one of sum, mean, max'):
        Ladder(space, toy_scores(), 'median')
    costs = toy_costs(space)
    ladder = Ladder(space, toy_scores(), floors=dict.fromkeys(UNITS, 16))
    with pytest.raises(TargetError, match='every unit at its floor'):
        row_of(ladder, costs, 0.2)


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 1000), divisor=st.sampled_from([1, 2, 4]),
    reduction=st.sampled_from(['sum', 'mean', 'max']),
    cost=st.sampled_from(['macs', 'params', 'size_bytes']),
    shares=st.lists(st.floats(0.3, 1.0), min_size=2, max_size=6))
def test_nested_and_within_one_step_of_the_budget(
    seed, divisor, reduction, cost, shares
):
    costs = toy_costs(toy_space(divisor=divisor))
    ladder = Ladder(costs.space, toy_scores(seed), reduction)
    rng = np.random.default_rng(seed)
    descent = ladder.descent(
        np.exp(rng.normal(size=len(ladder.layers))), rng.normal(0, ladder.spread))
    rows = []
    for target in parse_targets({cost: sorted(shares)}, costs):
        row = ladder.row(descent, costs, [target])
        assert float(costs.of_rows(cost, row)) <= target.limit * (1 + 1e-9)
        taken = ladder.top[:5].sum() - sum(
            costs.space.choices[i].index(w) for i, w in enumerate(row[:5]))
        if taken:  # One step fewer would be too much.
            back = row.copy()
            column = descent[taken - 1]
            choices = costs.space.choices[column]
            back[column] = choices[choices.index(row[column]) + 1]
            assert float(costs.of_rows(cost, back)) > target.limit
        rows.append(row)
    assert (np.diff(rows, axis=0) >= 0).all()
