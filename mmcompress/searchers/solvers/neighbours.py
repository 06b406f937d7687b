"""Policies near a policy: a little less here, a little more elsewhere."""

from __future__ import annotations

import numpy as np

from ...costs import Costs, Target
from ...prices.table import PriceTable
from .knapsack import refill
from .reduction import undominated

TOURNAMENT = 3
MOST = 3
"""Groups lowered at once, at most."""


def swapped(
    table: PriceTable,
    costs: Costs,
    target: Target,
    row: np.ndarray,
    rng: np.random.Generator,
) -> np.ndarray:
    """Lower one to three groups to their next choice, and spend what that saves.

    Each group is the one with the smallest added price per saved cost out of three
    drawn; the savings go to other groups by :func:`refill`.

    Args:
        table (PriceTable): Prices.
        costs (Costs): Costs of the model.
        target (Target): The budget; ``row`` meets it.
        row (np.ndarray): ``(D,)`` row of the space.
        rng (np.random.Generator): Draws the groups.

    Returns:
        np.ndarray: ``(D,)``; equal to ``row`` if no group can be lowered.
    """
    picks = table.picks_of(row)[0]
    every = np.arange(len(table.price))
    alone = target.of_rows(costs, table.variants(row, every)).numpy()
    now = float(target.of_rows(costs, row))
    moves = [m for g in range(len(picks)) if (m := _next(table, alone, now, g)) >= 0]
    if not moves:
        return row
    moves = np.array(moves)
    rate = (table.price[moves] - table.price[picks[table.group[moves]]]) \
        / (now - alone[moves])
    lowered = picks.copy()
    changed = []
    for _ in range(rng.integers(1, MOST + 1)):
        drawn = rng.integers(len(moves), size=TOURNAMENT)
        move = moves[drawn[rate[drawn].argmin()]]
        lowered[table.group[move]] = move
        changed.append(table.group[move])
    return table.row(refill(table, costs, target.limits, lowered, np.array(changed)))


def _next(table: PriceTable, alone: np.ndarray, now: float, group: int) -> int:
    """The undominated choice of a group with the next lower cost, -1 if none."""
    start, end = table.start[group], table.start[group + 1]
    kept = start + undominated(table.price[start:end], alone[None, start:end])
    kept = kept[alone[kept] < now * (1 - 1e-9)]
    return int(kept[alone[kept].argmax()]) if len(kept) else -1
