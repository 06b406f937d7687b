"""The baseline: the same ratio everywhere."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from itertools import pairwise

import numpy as np

from ...costs import Costs, Target
from ...policy import Policy, SearchSpace
from ...registry import SEARCHERS
from ..base import Evaluated, Searcher
from ..budget import SLACK


@lru_cache(maxsize=8)
def uniform_rows(space: SearchSpace) -> tuple[np.ndarray, np.ndarray]:
    """All rows that one ratio for every column can produce.

    Returns:
        tuple[np.ndarray, np.ndarray]: Ratios ``(K,)``, ascending, and their rows
        ``(K, len(space))``; the last row is the uncompressed one.
    """
    # A column changes where the ratio passes the middle of two of its choices.
    changes = np.unique([
        (low + high) / 2 / choice[-1]
        for choice in space.choices for low, high in pairwise(choice)
    ])
    edges = np.concatenate([[0.0], changes, [1.0]])
    ratios = np.append((edges[:-1] + edges[1:])[:-1] / 2, 1.0)
    rows = space.snap(ratios[:, None] * space.highest)
    new = np.append(True, (rows[1:] != rows[:-1]).any(1))
    return ratios[new], rows[new]


def largest_uniform(space: SearchSpace, costs: Costs, target: Target) -> int:
    """Index in :func:`uniform_rows` of the largest ratio within a budget."""
    _, rows = uniform_rows(space)
    within = costs.of_rows(target.cost, rows).numpy() <= target.limit * (1 + SLACK)
    # Rows ascend in every column, so the costs ascend as well.
    return max(int(within.sum()) - 1, 0)


def uniform_bits(space: SearchSpace, costs: Costs, target: Target) -> np.ndarray | None:
    """Row ``(len(space),)`` of full widths and the largest uniform ratio of bits.

    None if full widths miss the budget at any bits.
    """
    rows = uniform_rows(space)[1].copy()
    units = len(space.units)
    rows[:, :units] = space.highest[:units]
    within = costs.of_rows(target.cost, rows).numpy() <= target.limit * (1 + SLACK)
    return rows[int(within.sum()) - 1] if within.any() else None


def uniform_pairs(space: SearchSpace, costs: Costs, target: Target) -> np.ndarray:
    """Full widths, all weights at one bit width and all activations at another.

    Args:
        space (SearchSpace): The space; layers that lack a width take the nearest.
        costs (Costs): Costs of the model.
        target (Target): A budget.

    Returns:
        np.ndarray: ``(K, len(space))``: every pair within the budget of which neither
        can be raised, the costliest first. None in a space without bits.
    """
    units, layers = len(space.units), len(space.layers)
    columns = np.split(np.arange(len(space)), [units, units + layers])[1:]
    bits = [sorted({b for i in own for b in space.choices[i]}) for own in columns]
    pairs = np.array([(w, a) for w in bits[0] for a in bits[1]])
    if len(pairs) < 2:
        return np.empty((0, len(space)), np.int64)
    rows = np.repeat(space.highest[None].astype(float), len(pairs), 0)
    for own, wanted in zip(columns, pairs.T):
        rows[:, own] = np.minimum(rows[:, own], wanted[:, None])
    rows = space.snap(rows)
    cost = costs.of_rows(target.cost, rows).numpy()
    within = cost <= target.limit * (1 + SLACK)
    rows, cost, pairs = rows[within], cost[within], pairs[within]
    raised = [((pairs >= pair).all(1) & (pairs > pair).any(1)).any() for pair in pairs]
    order = [i for i in np.argsort(-cost, kind='stable') if not raised[i]]
    return rows[order]


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
        """See :meth:`Searcher.propose`; the history does not matter."""
        if self._plan is None:
            self._plan = self._make_plan()
        if number >= len(self._plan):
            return None
        _, rows = uniform_rows(self.space)
        return self.space.decode(rows[self._plan[number]])[0]

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
