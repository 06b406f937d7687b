"""Evolution of a whole trade-off front: all budgets share one population."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np

from ..costs import Costs, Target
from ..options import Count, Natural, Positive, Share
from ..policy import ChannelScores, SearchSpace
from ..registry import SEARCHERS
from .base import Evaluated, Searcher
from .budget import fit_to_budget
from .ladder import Ladder
from .starts import random_rows, uniform_bits, uniform_within
from .variation import Crossover, Steps, reflect

DRAWS = (1, 8)
"""Children bred at a time until one is new; each time more of their columns change."""


@SEARCHERS.register_module()
class Evolution(Searcher):
    """Mutates and crosses the best policies of the whole history.

    The targets take turns. A child for one target descends from the best policies
    of that budget and, fewer of them, of the neighbouring budgets, and is fitted
    to its budget. It starts from the uniform policy of every target, that of the
    global ranking of all channels by their scores, where widths and bits are searched
    that of uniform bits at full widths (the other two take as much from widths, which
    costs most without training), and some random ones.

    Args:
        scores (ChannelScores | None): What the channels are sorted by; None where no
            widths are searched, hence there is nothing to rank.
        initial (float): Share of the evaluations that are random at the start.
            Defaults to 0.15.
        elite (int): Parents from the target's own budget. A budget that is d
            places away gives ``elite // (1 + d)``. Defaults to 6.
        tournament (int): Candidates from which each parent is chosen. Defaults to 3.
        crossover (float): Probability of a second parent. Defaults to 0.7.
        mutation (float): Share of the columns that change. Defaults to 0.1.
        step (float): Standard deviation of a change, as a share of the column's
            range. Defaults to 0.25.
    """

    needs = ('scores',)
    spare = (32,)  # Nothing new is near the parents.

    def __init__(
        self,
        space: SearchSpace,
        costs: Costs,
        targets: Sequence[Target],
        evaluations: Count = 100,
        seed: Natural = 0,
        scores: ChannelScores | None = None,
        initial: Share = 0.15,
        elite: Count = 6,
        tournament: Count = 3,
        crossover: Share = 0.7,
        mutation: Share = 0.1,
        step: Positive = 0.25,
    ) -> None:
        super().__init__(space, costs, targets, evaluations, seed)
        self.ladder = Ladder(space, scores) if scores and space.units else None
        self.starts = (
            'uniform', *(['ranking'] if self.ladder else []),
            *(['bits'] if self._is_joint() else []))
        self.initial = len(self.targets) * len(self.starts) + round(
            initial * evaluations)
        self.elite = elite
        self.tournament = tournament
        self.crossover = Crossover(crossover)
        self.mutation = Steps(space, mutation, step=step)
        dense = self.costs.dense()
        shares = [t.limit / dense[t.cost] for t in self.targets]
        self.places = np.argsort(np.argsort(shares, kind='stable'), kind='stable')

    def candidates(
        self, history: Sequence[Evaluated], number: int, target: Target,
        rng: np.random.Generator,
    ) -> Iterator[np.ndarray]:
        """See :meth:`Searcher.candidates`."""
        yield from self._start(number, target, rng)
        parents, merit = self._parents(history, self.targets.index(target))
        evolve = (number >= self.initial and len(parents) > 0
                  and len(self.space.free) > 0)
        for attempt, count in enumerate(DRAWS):
            rows = (self._children(parents, merit, count, attempt, rng) if evolve
                    else random_rows(self.space, count, rng))
            yield fit_to_budget(self.space, self.costs, target, rows, rng)

    def _is_joint(self) -> bool:
        is_free = self.space.highest > self.space.lowest
        return bool(is_free[self.space.widths].any() and is_free[self.space.bits].any())

    def _start(
        self, number: int, target: Target, rng: np.random.Generator
    ) -> Iterator[np.ndarray]:
        """Yield the row to begin with, none once every target had all of them."""
        turn = number // len(self.targets)
        start = self.starts[turn] if turn < len(self.starts) else None
        if start == 'bits':
            row = uniform_bits(self.space, self.costs, target)
            if row is not None:
                yield fit_to_budget(self.space, self.costs, target, row, rng)
        elif start is not None:
            uniform = uniform_within(self.space, self.costs, target)
            ladder = self.ladder
            yield uniform if start == 'uniform' else ladder.row(
                ladder.base_descent, self.costs, [target], uniform)

    def _parents(
        self, history: Sequence[Evaluated], which: int
    ) -> tuple[np.ndarray, np.ndarray]:
        """Rows ``(P, D)`` to breed from and their merit ``(P,)``, lower is better."""
        merit: dict[int, int] = {}
        scores = np.array([e.score for e in history])
        for place, target in zip(self.places, self.targets):
            distance = abs(int(place - self.places[which]))
            within = [i for i, e in enumerate(history) if target.met_by(e.costs)]
            best = np.array(within, int)[np.argsort(-scores[within], kind='stable')] \
                if within else np.empty(0, int)
            for rank, i in enumerate(best[:self.elite // (1 + distance)].tolist()):
                worth = rank + 2 * distance
                merit[i] = min(merit.get(i, worth), worth)
        rows = self.space.encode(history[i].policy for i in merit)
        return rows, np.array(list(merit.values()))

    def _children(
        self,
        parents: np.ndarray,
        merit: np.ndarray,
        count: int,
        attempt: int,
        rng: np.random.Generator,
    ) -> np.ndarray:
        """Real-valued rows ``(count, D)``; later attempts mutate more."""
        drawn = rng.integers(len(parents), size=(2, count, self.tournament))
        winners = np.take_along_axis(
            drawn, merit[drawn].argmin(-1)[..., None], -1)[..., 0]
        first, second = parents[winners].astype(float)
        share = min(1.0, self.mutation.share * 3 ** attempt)
        mutation = replace(self.mutation, share=share)
        rows = mutation(self.crossover(first, second, rng), rng)
        return reflect(self.space, rows)
