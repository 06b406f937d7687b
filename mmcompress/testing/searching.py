"""The contract of a searcher, and what is needed to run one without a model."""

from __future__ import annotations

import pickle
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from ..costs import Costs, parse_targets
from ..policy import Policy, SearchSpace
from ..prices.table import PriceTable
from ..searchers import Evaluated, Searcher
from .toy import toy_costs, toy_space


def toy_score(space: SearchSpace) -> Callable[[Policy], float]:
    """Make a deterministic score: every column loses, some more than others."""
    rng = np.random.default_rng(7)
    weight = rng.exponential(size=len(space))

    def score(policy: Policy) -> float:
        share = space.encode(policy)[0] / space.highest
        return float(1 - (weight * (1 - share) ** 2).sum() / weight.sum())

    return score


def toy_prices(space: SearchSpace, seed: int = 0) -> PriceTable:
    """Make a price table of a space: the more is cut, the higher, in every column."""
    rng = np.random.default_rng(seed)
    prices = {}
    for column, choice in enumerate(space.choices):
        cut = 1 - np.array(choice) / choice[-1]
        prices[column] = rng.exponential() * cut ** rng.uniform(1, 3)
    return PriceTable.from_columns(space, prices)


def run_search(
    searcher: Searcher,
    score: Callable[[Policy], float],
    history: Sequence[Evaluated] = (),
    evaluations: int | None = None,
) -> tuple[Evaluated, ...]:
    """Let a searcher search, or continue to search, in this process.

    Args:
        searcher (Searcher): The searcher.
        score (Callable): From a policy to its score.
        history (Sequence[Evaluated]): What has been evaluated already.
        evaluations (int, optional): Where to stop; all of them by default.

    Returns:
        tuple[Evaluated, ...]: The whole history.
    """
    done = list(history)
    stop = searcher.evaluations if evaluations is None else evaluations
    for number in range(len(done), stop):
        policy = searcher.propose(tuple(done), number)
        if policy is None:
            break
        done.append(Evaluated(
            number, policy, score(policy), searcher.costs.of(policy)))
    return tuple(done)


class SearcherContract:
    """Tests that every searcher must pass.

    Inherit in a test class and set ``searcher``, e.g.::

        class TestRandom(SearcherContract):
            searcher = Random

    Attributes:
        searcher (type[Searcher]): The class under test.
        options (dict): Arguments of its own. Defaults to none.
        evaluations (int): Length of the searches. Defaults to 24.
        targets (Mapping): Budgets as a user writes them.
        avoids_pending (bool): Whether policies of other workers count as taken.
            False for searchers whose plan gives every number its own policy.
        fits_budget (bool): Whether every policy must meet the budget whose turn it
            is (the targets take turns). Defaults to True.
    """

    searcher: type[Searcher]
    options: Mapping[str, Any] = {}
    evaluations = 24
    targets: Mapping[str, Sequence[float]] = {'macs': [0.75, 0.5, 0.35]}
    avoids_pending = True
    fits_budget = True

    def make(self, space: SearchSpace | None = None, **changes: Any) -> Searcher:
        """Build the searcher on the toy network."""
        costs: Costs = toy_costs(space)
        spec = changes.pop('targets', self.targets)
        arguments = dict(
            space=costs.space, costs=costs, targets=parse_targets(spec, costs),
            evaluations=self.evaluations, seed=0, **self.options)
        return self.searcher(**{**arguments, **changes})

    def run(self, searcher: Searcher, **kwargs: Any) -> tuple[Evaluated, ...]:
        """Run a search with the toy score."""
        return run_search(searcher, toy_score(searcher.space), **kwargs)

    def test_same_arguments_give_the_same_policy(self):
        history = self.run(self.make(), evaluations=self.evaluations // 2)
        before = pickle.dumps(history)
        one, other = self.make(), self.make()
        for number in range(len(history), self.evaluations):
            first = one.propose(history, number)
            assert first == other.propose(history, number)
            assert first == one.propose(history, number), 'a call changed the searcher'
        assert pickle.dumps(history) == before, 'the history was changed'

    def test_every_policy_is_in_the_space_and_new(self):
        searcher = self.make()
        history = self.run(searcher)
        assert history
        for entry in history:
            searcher.space.check(entry.policy)
        assert len({e.policy for e in history}) == len(history)

    def test_what_others_evaluate_is_not_proposed_again(self):
        searcher = self.make()
        history = self.run(searcher, evaluations=self.evaluations // 2)
        number = len(history)
        first = searcher.propose(history, number)
        second = searcher.propose(history, number, [first])
        assert (second != first) == self.avoids_pending

    def test_budgets_take_turns_and_are_met(self):
        for space, targets in (
            (None, self.targets),
            (toy_space((4, 8, 32), (8, 32)), {'bops': [0.5, 0.1, 0.05]}),
            (toy_space((4, 8, 32), prune=False), {'size_bytes': [0.8, 0.4]}),
        ):
            searcher = self.make(space, targets=targets)
            history = self.run(searcher)
            for entry in history:
                turn = searcher.targets[entry.number % len(searcher.targets)]
                assert not self.fits_budget or turn.met_by(entry.costs)
            assert all(
                any(t.met_by(e.costs) for e in history)
                for t in searcher.targets), 'a target was never met'

    def test_resumed_search_equals_an_uninterrupted_one(self):
        whole = self.run(self.make())
        for cut in (1, len(whole) // 2, len(whole) - 1):
            assert self.run(self.make(), history=whole[:cut]) == whole

    def test_survives_pickling(self):
        searcher = self.make()
        history = self.run(searcher, evaluations=self.evaluations // 2)
        copy = pickle.loads(pickle.dumps(searcher))
        number = len(history)
        assert copy.propose(history, number) == searcher.propose(history, number)

    def test_failed_evaluations_leave_gaps(self):
        searcher = self.make()
        history = self.run(searcher, evaluations=self.evaluations // 2)
        policy = searcher.propose(history[::2], len(history))
        assert policy is not None
        searcher.space.check(policy)

    def test_says_when_it_is_done(self):
        searcher = self.make()
        history = self.run(searcher)
        assert searcher.propose(history, self.evaluations) is None

    def test_says_when_nothing_is_left(self):
        # One layer with three choices of bits: three policies exist.
        space = toy_space({'stem': (4, 8, 32)}, prune=False)
        searcher = self.make(space, targets={'size_bytes': [1.0]}, evaluations=50)
        history = self.run(searcher)
        assert 1 <= len(history) <= 3
        assert searcher.propose(history, len(history)) is None

    def test_one_target_and_one_evaluation(self):
        spec = {'macs': [0.5]}
        assert len(self.run(self.make(targets=spec, evaluations=1))) == 1
