"""The two-stage searcher, on prices as data."""

import numpy as np
import pytest

from mmcompress.costs import parse_targets
from mmcompress.policy import SearchSpace
from mmcompress.searchers import Searcher, TwoStage, Uniform, best_per_target
from mmcompress.searchers.solvers import exact
from mmcompress.testing import (
    SearcherContract,
    run_search,
    toy_costs,
    toy_prices,
    toy_space,
)


class TestTwoStage(SearcherContract):
    searcher = TwoStage

    def make(self, space: SearchSpace | None = None, **changes) -> Searcher:
        space = toy_space() if space is None else space
        return super().make(space, **{'prices': toy_prices(space), **changes})

    def test_starts_from_the_lowest_price_of_every_target(self):
        searcher = self.make(toy_space((4, 8, 32)), targets={'bops': [0.5, 0.3, 0.2]})
        for number, target in enumerate(searcher.targets):
            policy = searcher.propose((), number)
            best = exact(searcher.prices, searcher.costs, {target.cost: target.limit})
            price = searcher.prices.of_rows(searcher.space.encode(policy))[0]
            assert price == pytest.approx(best.price)

    def test_greedy_only(self):
        searcher = self.make(exact=False)
        assert all(len(searcher.solutions(t)) == 1 for t in searcher.targets)
        assert self.run(searcher)

    def test_answers_budgets_that_were_not_searched(self):
        searcher = self.make()
        history = self.run(searcher)
        others = parse_targets({'macs': np.linspace(0.3, 0.9, 20).tolist()},
                               searcher.costs)
        policies = searcher.answers(history, others)
        for target, policy in zip(others, policies):
            assert target.met_by(searcher.costs.of(policy))
        own = searcher.answers(history, searcher.targets)
        assert own == tuple(
            e.policy for e in best_per_target(history, searcher.targets))


def test_several_budgets_in_one_target():
    costs = toy_costs(toy_space((4, 8, 32), (8, 32)))
    spec = dict(bops=0.3, size_bytes=0.5)
    targets = parse_targets({'together': [spec]}, costs)
    prices = toy_prices(costs.space)
    searcher = TwoStage(costs.space, costs, targets, 1, prices=prices)
    found = searcher.propose((), 0)
    limits = {name: share * costs.dense()[name] for name, share in spec.items()}
    for name, value in costs.of(found).items():
        assert value <= limits.get(name, np.inf) * (1 + 1e-9)
    best = exact(prices, costs, limits)
    assert prices.of_rows(costs.space.encode(found))[0] <= best.price + 1e-9


def test_better_than_uniform_where_prices_tell_the_truth():
    costs = toy_costs(toy_space((4, 8, 32), (8, 32)))
    targets = parse_targets({'bops': [0.3, 0.1]}, costs)
    prices = toy_prices(costs.space)

    def score(policy) -> float:
        return -float(prices.of_rows(costs.space.encode(policy))[0])

    ours = run_search(TwoStage(costs.space, costs, targets, 2, prices=prices), score)
    others = run_search(Uniform(costs.space, costs, targets, 2), score)
    for mine, theirs in zip(ours, best_per_target(others, targets)):
        assert mine.score > theirs.score


def test_swaps_spend_what_they_save():
    costs = toy_costs(toy_space((4, 8, 32)))
    (target,) = parse_targets({'bops': [0.3]}, costs)
    prices = toy_prices(costs.space)
    searcher = TwoStage(costs.space, costs, [target], 30, prices=prices)
    history = run_search(searcher, lambda policy: 0.0)
    spent = np.array([e.costs['bops'] for e in history]) / target.limit
    assert len(history) == 30 and (spent <= 1 + 1e-9).all() and np.median(spent) > 0.95


def test_uniform_bits_are_tried_as_well():
    # Prices say that 8 bits of activations are worth nothing; the score disagrees.
    space = toy_space((4, 8), (4, 8), prune=False)
    costs = toy_costs(space)
    (target,) = parse_targets({'bops': [32 / 1024 + 1e-6]}, costs)
    prices = toy_prices(space)
    history = run_search(
        TwoStage(space, costs, [target], 5, prices=prices),
        lambda policy: sum(b.activation for b in policy.bits.values()))
    (best,) = best_per_target(history, [target])
    assert {tuple(b) for b in best.policy.bits.values()} == {(4, 8)}
