"""Rows to start from: uniform ones and random ones."""

from __future__ import annotations

from functools import lru_cache
from itertools import pairwise

import numpy as np

from ..costs import Costs, Target
from ..policy import SearchSpace


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
    sizes = [len(part) for part in space.split(space.highest)]
    level = np.repeat(rng.uniform(0.1, 0.9, (count, 3)), sizes, axis=1)
    evenness = np.exp(rng.uniform(np.log(0.7), np.log(40.0), (count, 1)))
    share = rng.beta(level * evenness, (1 - level) * evenness)
    return space.lowest + share * (space.highest - space.lowest)


def uniform_row(space: SearchSpace, ratio: float) -> np.ndarray:
    """Row that gives every column the same share of its uncompressed value.

    Args:
        space (SearchSpace): The space.
        ratio (float): Share of the largest choice, rounded to the nearest choice.

    Returns:
        np.ndarray: Integers of shape ``(len(space),)``.
    """
    return space.snap(ratio * space.highest)[0]


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
    # Rows ascend in every column, so the costs ascend as well.
    return max(int(target.fits(costs, rows).sum()) - 1, 0)


def uniform_within(space: SearchSpace, costs: Costs, target: Target) -> np.ndarray:
    """Row ``(len(space),)`` of the largest uniform ratio within a budget."""
    return uniform_rows(space)[1][largest_uniform(space, costs, target)]


def uniform_bits(space: SearchSpace, costs: Costs, target: Target) -> np.ndarray | None:
    """Row ``(len(space),)`` of full widths and the largest uniform ratio of bits.

    None if full widths miss the budget at any bits.
    """
    rows = uniform_rows(space)[1].copy()
    rows[:, space.widths] = space.highest[space.widths]
    within = target.fits(costs, rows)
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
    _, *columns = space.split(np.arange(len(space)))
    bits = [sorted({b for i in own for b in space.choices[i]}) for own in columns]
    pairs = np.array([(w, a) for w in bits[0] for a in bits[1]])
    if len(pairs) < 2:
        return np.empty((0, len(space)), np.int64)
    rows = np.repeat(space.highest[None].astype(float), len(pairs), 0)
    for own, wanted in zip(columns, pairs.T):
        rows[:, own] = np.minimum(rows[:, own], wanted[:, None])
    rows = space.snap(rows)
    within = target.fits(costs, rows)
    rows, pairs = rows[within], pairs[within]
    cost = target.of_rows(costs, rows).numpy()
    raised = [((pairs >= pair).all(1) & (pairs > pair).any(1)).any() for pair in pairs]
    order = [i for i in np.argsort(-cost, kind='stable') if not raised[i]]
    return rows[order]
