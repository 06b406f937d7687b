"""A new searcher is one class that yields candidates; this file is all it takes."""

from collections.abc import Iterator

import numpy as np

from mmcompress.costs import parse_targets
from mmcompress.registry import SEARCHERS, build
from mmcompress.searchers import (
    Evaluated,
    Random,
    Searcher,
    best_per_target,
    fit_to_budget,
)
from mmcompress.testing import SearcherContract, run_search, toy_costs, toy_score


@SEARCHERS.register_module()
class HillClimb(Searcher):
    """Moves a few columns of the best policy within each budget."""

    def candidates(self, history, number, target, rng) -> Iterator[np.ndarray]:
        """See :meth:`Searcher.candidates`."""
        best, = best_per_target(history, [target])
        if best is None:
            return
        row = self.space.encode(best.policy)
        for reach in (0.2, 0.4):
            moved = row * rng.uniform(1 - reach, 1 + reach, (4, len(self.space)))
            yield fit_to_budget(self.space, self.costs, target, moved, rng)


class TestHillClimb(SearcherContract):
    searcher = HillClimb


def test_found_by_name_and_better_than_random():
    costs = toy_costs()
    targets = parse_targets({'macs': [0.5]}, costs)
    score = toy_score(costs.space)
    climber: Searcher = build(
        SEARCHERS, dict(type='HillClimb', evaluations=60), space=costs.space,
        costs=costs, targets=targets)
    ours = run_search(climber, score)
    others = run_search(Random(costs.space, costs, targets, 60), score)
    assert max(e.score for e in ours) > max(e.score for e in others)


class Careless(Searcher):
    """Ignores budgets and history; the base class does not."""

    def candidates(self, history, number, target, rng) -> Iterator[np.ndarray]:
        """See :meth:`Searcher.candidates`."""
        wide = self.space.snap(0.8 * self.space.highest)[0]
        yield np.stack([self.space.highest, wide, self.space.lowest])


def test_what_the_base_class_takes_care_of():
    costs = toy_costs()
    loose, tight = parse_targets({'macs': [0.75, 0.25]}, costs)
    searcher = Careless(costs.space, costs, [loose, tight], 4)
    rows = next(searcher.candidates((), 0, loose, None))
    _, wide, lowest = costs.space.decode(rows)
    assert searcher.propose((), 0) == wide  # the first one within its budget
    assert searcher.propose((), 1) == lowest  # the other target's turn
    history = [Evaluated(0, wide, 0.0, costs.of(wide))]
    assert searcher.propose(history, 2) == lowest  # wide is evaluated
    drawn = searcher.propose(history, 2, [lowest])  # and lowest is being evaluated
    assert drawn not in (wide, lowest) and loose.met_by(costs.of(drawn))
    assert searcher.propose(history, 4) is None  # the evaluations are used up
    searcher.spare = ()
    assert searcher.propose(history, 2, [lowest]) is None
