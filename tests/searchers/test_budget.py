"""Rows of desired values become rows of the space that use up a budget."""

import numpy as np
import pytest

from mmcompress.costs import Costs, Target, parse_targets
from mmcompress.policy import SearchSpace
from mmcompress.searchers import fit_to_budget
from mmcompress.searchers.filling import fill
from mmcompress.searchers.grid import Grid
from mmcompress.testing import toy_costs, toy_space

CASES = {
    'widths': (toy_space(), {'macs': [0.9, 0.5, 0.1]}),
    'joint': (toy_space((2, 4, 8), (4, 8)), {'bops': [0.05, 0.01]}),
    'bits': (toy_space((4, 8, 32), prune=False), {'size_bytes': [0.8, 0.4]}),
    'several costs': (toy_space((2, 4, 8), (4, 8)),
                      {'together': [dict(bops=0.03, size_bytes=0.1)]}),
}


@pytest.fixture(params=CASES, name='case')
def make_case(request):
    space, spec = CASES[request.param]
    costs = toy_costs(space)
    return space, costs, parse_targets(spec, costs)


def desired(space: SearchSpace, count: int, seed: int = 0) -> np.ndarray:
    """Values anywhere, also beyond the ends of the columns."""
    rng = np.random.default_rng(seed)
    reach = space.highest - space.lowest
    return space.lowest + rng.uniform(-0.5, 1.5, (count, len(space))) * reach


def test_rows_are_allowed_and_within_the_budget(case):
    space, costs, targets = case
    for target in targets:
        rows = fit_to_budget(
            space, costs, target, desired(space, 50), np.random.default_rng(0))
        for policy in space.decode(rows):
            space.check(policy)
            assert target.met_by(costs.of(policy))


def test_no_single_upgrade_would_still_fit(case):
    space, costs, targets = case
    for target in targets:
        rows = fit_to_budget(
            space, costs, target, desired(space, 20), np.random.default_rng(0))
        for row in rows:
            for i in space.free:
                higher = [c for c in space.choices[i] if c > row[i]]
                if higher:
                    raised = row.copy()
                    raised[i] = higher[0]
                    assert not target.fits(costs, raised)


def test_what_is_desired_and_uses_the_budget_up_stays(case):
    space, costs, targets = case
    for target in targets:
        rows = fit_to_budget(
            space, costs, target, desired(space, 20), np.random.default_rng(0))
        again = fit_to_budget(space, costs, target, rows, np.random.default_rng(1))
        assert (again == rows).mean() > 0.95


def test_every_row_by_itself():
    space, costs = toy_space(), toy_costs()
    target, = parse_targets({'macs': 0.5}, costs)
    wanted = desired(space, 30)
    # What breaks ties is drawn for all rows together; here nothing is tied.
    together = fit_to_budget(space, costs, target, wanted, np.random.default_rng(0))
    alone = [fit_to_budget(space, costs, target, row, np.random.default_rng(0))[0]
             for row in wanted]
    assert (together == np.array(alone)).mean() > 0.95


def test_by_hand():
    # Two units of a chain: the cost is the sum of the widths.
    space = SearchSpace(('a', 'b'), (), ((1, 2, 3, 4), (1, 2, 3, 4)))
    costs = Costs(toy_costs().table, space, {
        'sum': lambda table, widths, *_: widths.sum(-1)})
    rng = np.random.default_rng(0)

    def fitted(row: list[float], limit: float) -> list[int]:
        return fit_to_budget(
            space, costs, Target('sum', limit, limit), np.array(row), rng)[0].tolist()

    assert fitted([3, 2], 5) == [3, 2]  # fits exactly
    assert fitted([4, 4], 8) == [4, 4]
    assert fitted([9, 9], 100) == [4, 4]  # the ends
    assert fitted([1, 1], 2) == [1, 1]  # the tightest budget
    # Down together towards (1, 1) until the cost is 5: (2.8, 2.2). Rounded down it is
    # (2, 2), and the first is further below.
    assert fitted([4, 3], 5) == [3, 2]


@pytest.mark.parametrize('alone', [True, False])
def test_filling_raises_the_best_first_and_passes_over_what_does_not_fit(alone):
    space = SearchSpace(('a', 'b', 'c'), (), ((1, 2), (1, 9), (1, 2)))
    grid = Grid.of(space)

    def rank(index, is_open, live):
        return np.tile([1, 0, 2], (len(live), 1))  # b is the best and too dear.

    def fits(rows, live):
        return rows.sum(-1) <= np.array([4, 5, 12, 20])[live][:, None]

    start = np.zeros((4, 3), int)
    filled = fill(grid, start, rank, fits, alone)
    assert filled.tolist() == [[1, 0, 0], [1, 0, 1], [1, 1, 0], [1, 1, 1]]
    assert (start == 0).all()
