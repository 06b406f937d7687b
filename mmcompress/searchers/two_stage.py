"""The two-stage framework: prices once, then a knapsack for every budget."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from ..costs import Costs, Target, joined
from ..options import Count, Natural
from ..policy import Policy, SearchSpace
from ..prices.table import PriceTable
from ..registry import SEARCHERS
from .base import Evaluated, Searcher
from .front import best_per_target
from .solvers import Curve, exact, greedy, refill, sweep
from .solvers.neighbours import swapped
from .starts import uniform_pairs

SWAPS = 24
"""Neighbours drawn until one is new."""


@SEARCHERS.register_module()
class TwoStage(Searcher):
    """Solves a multiple-choice knapsack over priced choices for every target.

    The allocation of the unified two-stage framework (Pattern Recognition 140, 2023).
    The first proposal for a target is the policy with the lowest price within it, then
    the greedy one where it differs, and uniform bits of weights and of activations,
    since the sum of prices is only a prediction. The further ones swap neighbouring
    choices of the best policy scored so far.

    Args:
        prices (PriceTable): Prices of the space; the search loop computes them.
        exact (bool): Also solve the knapsack by integer programming; greedy only
            otherwise. Defaults to True.
    """

    needs = ('prices',)

    def __init__(
        self,
        space: SearchSpace,
        costs: Costs,
        targets: Sequence[Target],
        evaluations: Count = 100,
        seed: Natural = 0,
        *,
        prices: PriceTable,
        exact: bool = True,
    ) -> None:
        super().__init__(space, costs, targets, evaluations, seed)
        self.prices = prices
        self.exact = exact
        self._curves: dict[str, Curve] = {}
        self._solutions: dict[Target, np.ndarray] = {}
        self._starts: dict[Target, np.ndarray] = {}

    def candidates(
        self, history: Sequence[Evaluated], number: int, target: Target,
        rng: np.random.Generator,
    ) -> Iterator[np.ndarray]:
        """See :meth:`Searcher.candidates`."""
        yield self.starts(target)
        (best,) = best_per_target(history, [target])
        start = self.solutions(target)[0]
        if best is not None:
            row, = self.space.encode(best.policy)
            if self.prices.covers(row):  # else a random one, in a space of few prices
                start = row
        for _ in range(SWAPS if len(self.prices.groups) > 1 else 0):
            yield swapped(self.prices, self.costs, target, start, rng)

    def starts(self, target: Target) -> np.ndarray:
        """Rows to try first: the :meth:`solutions` of a target, then uniform bits."""
        if target not in self._starts:
            self._starts[target] = np.concatenate([
                self.solutions(target), uniform_pairs(self.space, self.costs, target)])
        return self._starts[target]

    def solutions(self, target: Target) -> np.ndarray:
        """Rows of the lowest price within a target, the best first.

        Args:
            target (Target): Any budget that the space can meet.

        Returns:
            np.ndarray: ``(1 or 2, len(space))``: exact and greedy.
        """
        if target not in self._solutions:
            self._solutions[target] = np.array(
                [self.prices.row(picks) for picks in self._solve(target)])
        return self._solutions[target]

    def _solve(self, target: Target) -> list[np.ndarray]:
        """Picks of the exact solution, where it is another one, and of the greedy."""
        costs = joined(self.costs, [target])
        if target.cost not in self._curves:
            self._curves[target.cost] = sweep(self.prices, costs, target.cost)
        picks = greedy(self.prices, costs, target.cost, target.limit,
                       self._curves[target.cost])
        # The sweep may end above a budget that only the lowest row meets.
        if picks is None:
            lowest = self.prices.picks_of(self.space.lowest)[0]
            picks = refill(self.prices, costs, target.limits, lowest)
        if self.exact:
            found = exact(self.prices, costs, target.limits, picks)
            if (found.picks != picks).any():
                return [found.picks, picks]
        return [picks]

    def answers(
        self, history: Sequence[Evaluated], targets: Sequence[Target]
    ) -> tuple[Policy, ...]:
        """See :meth:`Searcher.answers`: for budgets nobody searched, the solution."""
        found = []
        for target, best in zip(targets, best_per_target(history, targets)):
            if best is None or target not in self.targets:
                found.append(self.space.decode(self.solutions(target)[0])[0])
            else:
                found.append(best.policy)
        return tuple(found)
