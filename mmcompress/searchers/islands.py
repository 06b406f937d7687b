"""Evolution in generations, on islands that exchange their best."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from ..costs import Costs, Target
from ..options import Count, Natural, Share
from ..policy import SearchSpace
from ..registry import SEARCHERS
from .base import Evaluated, Searcher
from .starts import uniform_within
from .variation import Crossover, Redraw

DRAWS = (1, 8, 32)
"""Children bred at a time until one is new and within the budget."""


@SEARCHERS.register_module()
class Islands(Searcher):
    """Evolves one population per island and target, in generations.

    The evolutionary search of SWP (arXiv 2011.04908): the first generation is random;
    of each later one half are mutants and half are crossovers of the best policies so
    far; what is over the budget is rejected before it is evaluated. Several islands
    evolve apart and receive their neighbour's best policies every few generations.

    A child descends from finished generations only, so that workers need not wait for
    each other within one. ``evaluations`` should be islands x population x generations
    x targets; the first policy of every target is the uniform one.

    Args:
        population (int): Policies of an island per generation. Defaults to 50.
        islands (int): Defaults to 1.
        top (int): Best policies of an island that have children. Defaults to 50.
        mutation (float): Share of the columns of a mutant that change. Defaults to
            0.1.
        migrants (int): Best policies that the next island receives. Defaults to 2.
        every (int): Generations between two migrations. Defaults to 5.
    """

    def __init__(
        self,
        space: SearchSpace,
        costs: Costs,
        targets: Sequence[Target],
        evaluations: Count = 1000,
        seed: Natural = 0,
        population: Count = 50,
        islands: Count = 1,
        top: Count = 50,
        mutation: Share = 0.1,
        migrants: Natural = 2,
        every: Count = 5,
    ) -> None:
        super().__init__(space, costs, targets, evaluations, seed)
        self.population, self.islands, self.top = population, islands, top
        self.crossover, self.mutation = Crossover(), Redraw(space, mutation)
        self.migrants, self.every = migrants, every

    def place(self, number: int) -> tuple[int, int, int, int]:
        """Target, generation, island and place in its population of an evaluation."""
        turn, target = divmod(number, len(self.targets))
        round_, island = divmod(turn, self.islands)
        generation, slot = divmod(round_, self.population)
        return target, generation, island, slot

    def candidates(
        self, history: Sequence[Evaluated], number: int, target: Target,
        rng: np.random.Generator,
    ) -> Iterator[np.ndarray]:
        """See :meth:`Searcher.candidates`."""
        if number < len(self.targets):
            yield uniform_within(self.space, self.costs, target)
        which, generation, island, slot = self.place(number)
        parents = self._parents(history, which, generation, island)
        for count in DRAWS if len(parents) else ():
            yield self._children(parents, slot % 2 == 0, count, rng)

    def _parents(
        self, history: Sequence[Evaluated], which: int, generation: int, island: int
    ) -> np.ndarray:
        """Rows ``(P, D)`` of an island's best and of those that migrated to it."""
        arrived = generation - generation % self.every
        neighbour = (island - 1) % self.islands
        own, others = [], []
        for entry in history:
            target, before, home, _ = self.place(entry.number)
            if target == which and home == island and before < generation:
                own.append(entry)
            elif target == which and home == neighbour and before < arrived:
                others.append(entry)

        def best(entries: list[Evaluated], count: int) -> list[Evaluated]:
            return sorted(entries, key=lambda e: (-e.score, e.number))[:count]

        chosen = best([*own, *best(others, self.migrants)], self.top)
        return self.space.encode(entry.policy for entry in chosen)

    def _children(
        self, parents: np.ndarray, mutate: bool, count: int, rng: np.random.Generator
    ) -> np.ndarray:
        """Rows ``(count, D)`` of the space, whatever they cost."""
        first, second = parents[rng.integers(len(parents), size=(2, count))]
        if mutate:
            return self.mutation(first, rng)
        return self.crossover(second, first, rng)
