"""The baseline: the same ratio everywhere."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ..policy import Policy
from ..registry import SEARCHERS
from .base import Evaluated, Searcher
from .starts import largest_uniform, uniform_rows


@SEARCHERS.register_module()
class Uniform(Searcher):
    """Every unit and layer at the same share of its uncompressed value.

    The first evaluations are the largest ratios that meet each target; the rest
    is an evenly spaced grid of ratios from the uncompressed model down to the
    smallest one.
    """

    _plan: tuple[int, ...] | None = None

    def propose(
        self,
        history: Sequence[Evaluated],
        number: int,
        pending: Sequence[Policy] = (),
    ) -> Policy | None:
        """See :meth:`Searcher.propose`; evaluation ``number`` is that of the plan.

        Where a search is continued with more evaluations, its plan has changed: what
        has been evaluated by an earlier one is passed over.
        """
        if self._plan is None:
            self._plan = self._make_plan()
        if number >= len(self._plan):
            return None
        _, rows = uniform_rows(self.space)
        taken = {*pending, *(e.policy for e in history)}
        planned = self.space.decode(rows[[*self._plan[number:], *self._plan[:number]]])
        return next((policy for policy in planned if policy not in taken), None)

    def _make_plan(self) -> tuple[int, ...]:
        """Indices of the uniform rows to evaluate, each once."""
        ratios, _ = uniform_rows(self.space)
        chosen = (largest_uniform(self.space, self.costs, t) for t in self.targets)
        plan = list(dict.fromkeys(chosen))
        wanted = self.evaluations - len(plan)
        # The uncompressed model is scored anyway, as the reference of every search.
        unused = np.setdiff1d(np.arange(len(ratios) - 1), plan)
        if wanted < len(unused):
            unused = _spread(ratios, unused, max(wanted, 0))
        return tuple([*plan, *unused[::-1].tolist()][:self.evaluations])


def _spread(ratios: np.ndarray, unused: np.ndarray, count: int) -> np.ndarray:
    """Choose ``count`` indices whose ratios lie about evenly."""
    picked: list[int] = []
    left = unused.tolist()
    for ratio in np.linspace(ratios[0], ratios[-1], count + 2)[1:-1]:
        nearest = int(np.abs(ratios[left] - ratio).argmin())
        picked.append(left.pop(nearest))
    return np.sort(np.array(picked, dtype=int))
