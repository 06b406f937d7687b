"""What every searcher is: a pure function from history to the next policy."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from ..costs import Costs, Target, joined
from ..options import Checked, Count, Natural
from ..policy import Policy, SearchSpace
from .budget import fit_to_budget
from .evaluated import Evaluated, Taken
from .starts import random_rows

__all__ = ['Evaluated', 'Searcher']


GIVEN = ('space', 'costs', 'targets', 'scores', 'prices')
"""Arguments that a search adds to the user's."""


class Searcher(Checked):
    """Proposes policies from the history of evaluated ones. Pure, no I/O.

    The life of a search: the targets take turns, so evaluation ``number`` serves
    :meth:`turn`. A worker that has claimed it calls :meth:`propose`, scores the policy
    and adds it to the history, until :meth:`propose` returns None. Afterwards the
    worker calls :meth:`answers` and :meth:`artefacts`.

    A new searcher implements :meth:`candidates`, registers itself in ``SEARCHERS``
    and passes ``mmcompress.testing.SearcherContract``. :meth:`propose` takes the first
    candidate that is within the budget and that nobody has tried; if there is none, it
    draws random policies. This one yields no candidates: all its policies are random.

    Everything a searcher knows is in its arguments and in the history, so a
    search that was killed continues as if nothing had happened, and several
    workers can share one study.

    Examples:
        >>> class Halves(Searcher):
        ...     def candidates(self, history, number, target, rng):
        ...         yield fit_to_budget(
        ...             self.space, self.costs, target, self.space.highest / 2, rng)

    Args:
        space (SearchSpace): Allowed widths and bits.
        costs (Costs): Costs of the model over rows of the space.
        targets (Sequence[Target]): Budgets to serve.
        evaluations (int): Evaluations the whole search may use.
        seed (int): Seed of every draw. Defaults to 0.

    Attributes:
        needs (tuple[str, ...]): List the model data your searcher needs (``scores`` or
            ``prices``); the search loop computes it and passes it in. ``scores`` are
            the :class:`ChannelScores` that the channels were sorted by, ``prices`` a
            :class:`PriceTable`.
        spare (tuple[int, ...]): How many random policies are drawn at a time when
            the candidates are used up. Empty: none.
    """

    needs: tuple[str, ...] = ()
    spare: tuple[int, ...] = (1, 8, 32)

    def __init__(
        self,
        space: SearchSpace,
        costs: Costs,
        targets: Sequence[Target],
        evaluations: Count = 100,
        seed: Natural = 0,
    ) -> None:
        self.space = space
        self.costs = joined(costs, targets)
        self.targets = tuple(targets)
        self.evaluations = evaluations
        self.seed = seed

    def rng(self, number: int) -> np.random.Generator:
        """Generator for evaluation ``number``, the same in every process."""
        return np.random.default_rng([self.seed, number])

    def turn(self, number: int) -> Target:
        """The target that evaluation ``number`` serves."""
        return self.targets[number % len(self.targets)]

    def propose(
        self,
        history: Sequence[Evaluated],
        number: int,
        pending: Sequence[Policy] = (),
    ) -> Policy | None:
        """Return the policy to evaluate next.

        Args:
            history (Sequence[Evaluated]): Finished evaluations in order of their
                number; failed ones are missing.
            number (int): Number of the evaluation asked for, counted from 0.
            pending (Sequence[Policy]): What other workers are evaluating right now;
                it is not to be proposed again.

        Returns:
            Policy | None: A policy of the space, or None if there is nothing
            left to evaluate.
        """
        if number >= self.evaluations:
            return None
        target, rng = self.turn(number), self.rng(number)
        taken = Taken(self.costs, target, history, pending)
        for rows in self._all_candidates(history, number, target, rng):
            rows = np.atleast_2d(rows)
            policy = taken.first_new(rows[self.admits(rows, number, target)])
            if policy is not None:
                return policy
        return None

    def candidates(
        self, history: Sequence[Evaluated], number: int, target: Target,
        rng: np.random.Generator,
    ) -> Iterator[np.ndarray]:
        """Yield rows of the space that evaluation ``number`` may try.

        Args:
            history (Sequence[Evaluated]): See :meth:`propose`.
            number (int): Number of the evaluation.
            target (Target): The budget that it serves.
            rng (np.random.Generator): Its only source of randomness.

        Yields:
            np.ndarray: ``(N, D)``, the most promising row first. Later ones are asked
            for only if no row of the earlier ones is new and within the budget.
        """
        yield from ()

    def admits(self, rows: np.ndarray, number: int, target: Target) -> np.ndarray:
        """Which rows ``(N, D)`` evaluation ``number`` may try: those in its budget."""
        return target.fits(self.costs, rows)

    def _all_candidates(
        self, history: Sequence[Evaluated], number: int, target: Target,
        rng: np.random.Generator,
    ) -> Iterator[np.ndarray]:
        yield from self.candidates(history, number, target, rng)
        for count in self.spare:
            rows = random_rows(self.space, count, rng)
            yield fit_to_budget(self.space, self.costs, target, rows, rng)

    def answers(
        self, history: Sequence[Evaluated], targets: Sequence[Target]
    ) -> tuple[Policy, ...]:
        """Derive a policy for each target from what the search has learned.

        They are evaluated and written after the search. A searcher that proposes
        every policy it ends with has none to add, and the best evaluated policy
        within each budget is written.

        Args:
            history (Sequence[Evaluated]): Finished evaluations.
            targets (Sequence[Target]): Any budgets, not only the searcher's own.

        Returns:
            tuple[Policy, ...]: One per target, or none. Defaults to none.
        """
        return ()

    def artefacts(self, history: Sequence[Evaluated]) -> dict[str, dict | bytes]:
        """What else to keep of the search: file name to JSON data or content."""
        return {}
