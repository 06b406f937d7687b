"""The baseline: random policies that use up their budget."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ...costs import Costs, Target
from ...policy import Policy, SearchSpace
from ...registry import SEARCHERS
from ..base import Evaluated, Searcher
from ..budget import fit_to_budget
from ..novelty import first_new

DRAWS = (1, 8, 32)
"""Rows drawn at a time until one is new."""


def random_rows(
    space: SearchSpace, count: int, rng: np.random.Generator
) -> np.ndarray:
    """Draw rows that differ in their level and in how uneven they are.

    Widths, weight bits and activation bits each have their own level, so that rows
    of equal cost differ in what they save by.

    Args:
        space (SearchSpace): The space.
        count (int): Number of rows.
        rng (np.random.Generator): Source of randomness.

    Returns:
        np.ndarray: Real values of shape ``(count, len(space))``.
    """
    sizes = [len(space.units), len(space.layers), len(space.layers)]
    level = np.repeat(rng.uniform(0.1, 0.9, (count, 3)), sizes, axis=1)
    evenness = np.exp(rng.uniform(np.log(0.7), np.log(40.0), (count, 1)))
    share = rng.beta(level * evenness, (1 - level) * evenness)
    return space.lowest + share * (space.highest - space.lowest)


def new_random(
    space: SearchSpace,
    costs: Costs,
    target: Target,
    rng: np.random.Generator,
    history: Sequence[Evaluated],
    pending: Sequence[Policy],
) -> Policy | None:
    """A random policy within a budget that was not tried; None if none is found."""
    for count in DRAWS:
        rows = fit_to_budget(
            space, costs, target, random_rows(space, count, rng), rng)
        policy = first_new(space, costs, target.cost, rows, history, pending)
        if policy is not None:
            return policy
    return None


@SEARCHERS.register_module()
class Random(Searcher):
    """Random rows fitted to the targets in turn."""

    def propose(
        self,
        history: Sequence[Evaluated],
        number: int,
        pending: Sequence[Policy] = (),
    ) -> Policy | None:
        """See :meth:`Searcher.propose`."""
        if number >= self.evaluations:
            return None
        target = self.targets[number % len(self.targets)]
        rng = self.rng(number)
        return new_random(self.space, self.costs, target, rng, history, pending)
