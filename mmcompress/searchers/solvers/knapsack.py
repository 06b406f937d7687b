"""The multiple-choice knapsack by greedy descent: one choice per group, one budget.

The allocation of the unified two-stage framework (Pattern Recognition 140, 2023).
Costs need not be sums over the groups: the width of a unit multiplies with the width
of the next and with bits, so what a step saves is computed anew after every step.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ...costs import Costs, granted, within
from ...prices.table import PriceTable
from .reduction import hull

LEAST_SAVING = 1e-9
"""A step that saves a smaller share of the cost saves nothing but rounding."""


@dataclass(frozen=True, eq=False)
class Curve:
    """The whole trade-off of one sweep, from the least to the most compressed.

    Args:
        picks (np.ndarray): ``(S, G)`` choices, flat indices of the price table.
        cost (np.ndarray): ``(S,)`` true costs, descending.
        price (np.ndarray): ``(S,)`` prices, ascending.
    """

    picks: np.ndarray
    cost: np.ndarray
    price: np.ndarray


def sweep(table: PriceTable, costs: Costs, cost: str) -> Curve:
    """Descend from the least compressed choices to the cheapest ones.

    Each step moves the group with the smallest added price per saved cost to the
    next choice along its hull. The hull is found once, with the other groups at
    their least compressed choice: it is the same for every cost that is affine in
    the group's contribution. What steps save is exact.

    Args:
        table (PriceTable): Prices.
        costs (Costs): Costs of the model.
        cost (str): The cost to reduce.
    """
    paths = _hulls(table, costs, cost)
    groups = len(paths)
    length = np.array([len(p) for p in paths], int)
    path = np.zeros((groups, length.max(initial=0) + 1), int)
    for g, p in enumerate(paths):
        path[g] = np.append(p, np.full(path.shape[1] - len(p), p[-1]))
    at = np.zeros(groups, int)
    every = np.arange(groups)
    picks = path[every, at] if groups else np.empty(0, int)
    row = table.row(picks)
    now = float(costs.of_rows(cost, row))
    steps, spent = [picks], [now]
    open_ = length > 1
    while open_.any():
        able = every[open_]
        move = path[able, at[able] + 1]
        after = costs.of_rows(cost, table.variants(row, move)).numpy()
        saved = now - after
        useful = saved > LEAST_SAVING * now
        if not useful.any():
            break
        able, move, after, saved = (x[useful] for x in (able, move, after, saved))
        best = int(((table.price[move] - table.price[picks[able]]) / saved).argmin())
        g = able[best]
        picks = picks.copy()
        picks[g], now = move[best], float(after[best])
        row = table.variants(row, move[best:best + 1])[0]
        at[g] += 1
        open_[g] = at[g] + 1 < length[g]
        steps.append(picks)
        spent.append(now)
    steps = np.array(steps)
    return Curve(steps, np.array(spent), table.price[steps].sum(1))


def greedy(
    table: PriceTable, costs: Costs, cost: str, limit: float, curve: Curve | None = None
) -> np.ndarray | None:
    """Picks ``(G,)`` within a limit, by greedy descent.

    Two ways lead over the limit's edge, and the one that ends at the lower price
    counts: the curve's own step, and the cheapest single change of the point before.
    Both are refilled.

    Args:
        table (PriceTable): Prices.
        costs (Costs): Costs of the model.
        cost (str): Name of the budget's cost.
        limit (float): The budget.
        curve (Curve, optional): From :func:`sweep` of the same cost.

    Returns:
        np.ndarray | None: None if even the end of the sweep is over the limit.
    """
    curve = sweep(table, costs, cost) if curve is None else curve
    inside = curve.cost <= granted(limit)
    if not inside.any():
        return None
    first = int(inside.argmax())
    starts = [curve.picks[first]]
    if first:
        before = curve.picks[first - 1]
        rows = table.variants(table.row(before), np.arange(len(table.price)))
        fits = within(costs, {cost: limit}, rows)
        added = table.price - table.price[before][table.group]
        if fits.any():
            move = np.flatnonzero(fits)[added[fits].argmin()]
            other = before.copy()
            other[table.group[move]] = move
            starts.append(other)
    ends = [refill(table, costs, {cost: limit}, start) for start in starts]
    return min(ends, key=lambda picks: table.price[picks].sum())


def refill(
    table: PriceTable,
    costs: Costs,
    limits: dict[str, float],
    picks: np.ndarray,
    fixed: np.ndarray | None = None,
) -> np.ndarray:
    """Use up the slack by single changes, the largest drop in price first.

    Args:
        table (PriceTable): Prices.
        costs (Costs): Costs of the model.
        limits (dict[str, float]): Budgets by cost name.
        picks (np.ndarray): ``(G,)`` choices within the budgets.
        fixed (np.ndarray, optional): Groups that may not change.

    Returns:
        np.ndarray: ``(G,)``; no single change that still fits lowers the price.
    """
    picks = picks.copy()
    row = table.row(picks)
    drop = table.price[picks][table.group] - table.price
    able = np.flatnonzero(drop > 0)
    if fixed is not None:
        able = able[~np.isin(table.group[able], fixed)]
    while len(able):
        # Costs only rise from here, so what does not fit is out for good.
        able = able[within(costs, limits, table.variants(row, able))]
        if not len(able):
            break
        best = able[drop[able].argmax()]
        picks[table.group[best]] = best
        row = table.row(picks)
        able = able[table.price[able] < table.price[picks[table.group[able]]]]
        drop = table.price[picks][table.group] - table.price
    return picks


def _hulls(table: PriceTable, costs: Costs, cost: str) -> list[np.ndarray]:
    """Flat indices along the hull of every group."""
    least = np.array([s + g.prices.argmin() for s, g in zip(table.start, table.groups)],
                     dtype=int)
    every = np.arange(len(table.price))
    alone = costs.of_rows(cost, table.variants(table.row(least), every)).numpy()
    return [table.start[g] + hull(table.price[part], alone[part])
            for g, part in enumerate(map(slice, table.start[:-1], table.start[1:]))]
