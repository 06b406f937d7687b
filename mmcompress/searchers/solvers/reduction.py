"""Choices that no solution needs (Kellerer, Pferschy, Pisinger: Knapsack Problems,
2004, section 11.2)."""

from __future__ import annotations

import numpy as np


def undominated(prices: np.ndarray, costs: np.ndarray) -> np.ndarray:
    """Indices of the choices of one group that some solution may need.

    A choice is dominated if another one has no higher price and no higher cost in
    any budget; of equal ones the first stays.

    Args:
        prices (np.ndarray): ``(C,)``.
        costs (np.ndarray): ``(B, C)``, one row per budget.

    Returns:
        np.ndarray: Ascending indices.
    """
    values = np.concatenate([prices[None], np.atleast_2d(costs)])
    no_worse = (values[:, :, None] <= values[:, None, :]).all(0)  # i no worse than j
    equal = no_worse & no_worse.T
    first = np.arange(len(prices))
    beats = no_worse & (~equal | (first[:, None] < first[None, :]))
    return np.flatnonzero(~beats.any(0))


def hull(prices: np.ndarray, costs: np.ndarray) -> np.ndarray:
    """Indices of the choices on the lower convex hull of price over cost.

    The others are LP-dominated: the relaxed problem never uses them.

    Args:
        prices, costs (np.ndarray): ``(C,)``.

    Returns:
        np.ndarray: From the lowest price to the lowest cost; the added price per
        saved cost ascends.
    """
    kept = undominated(prices, costs)
    kept = kept[np.argsort(prices[kept], kind='stable')]
    path: list[int] = []
    for j in kept.tolist():
        while len(path) > 1 and _above(prices, costs, path[-2], path[-1], j):
            path.pop()
        path.append(j)
    return np.array(path)


def _above(prices: np.ndarray, costs: np.ndarray, a: int, b: int, c: int) -> bool:
    """Whether b lies on or above the line from a to c."""
    to_b = (prices[b] - prices[a]) * (costs[a] - costs[c])
    to_c = (prices[c] - prices[a]) * (costs[a] - costs[b])
    return to_b >= to_c
