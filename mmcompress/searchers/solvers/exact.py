"""The multiple-choice knapsack solved to optimality, several budgets at once."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from scipy.optimize import Bounds, LinearConstraint, milp
from scipy.sparse import csr_array, vstack

from ...costs import Costs, granted
from ...errors import TargetError
from ...prices.table import PriceTable
from ...quiet import quiet
from .knapsack import greedy, refill
from .reduction import undominated

ROUNDS = 10
"""Linearisations at most; a sum over groups needs one."""


@dataclass(frozen=True, eq=False)
class Solution:
    """A choice for every group.

    Args:
        picks (np.ndarray): ``(G,)`` flat indices of the price table.
        price (float): Its price.
        costs (dict[str, float]): Its true costs by budget.
        rounds (int): Linearisations it took.
    """

    picks: np.ndarray
    price: float
    costs: dict[str, float]
    rounds: int


def solve_linear(
    prices: np.ndarray,
    group: np.ndarray,
    costs: np.ndarray,
    limits: np.ndarray,
    gap: float = 1e-6,
    seconds: float = 60.0,
) -> np.ndarray | None:
    """One choice per group with the smallest sum of prices, by HiGHS.

    Args:
        prices (np.ndarray): ``(M,)`` price of every choice.
        group (np.ndarray): ``(M,)`` its group, ascending from 0.
        costs (np.ndarray): ``(B, M)`` its cost in every budget.
        limits (np.ndarray): ``(B,)``.
        gap (float): Relative gap to the bound at which to stop. Defaults to 1e-6.
        seconds (float): Time limit; the best found counts. Defaults to 60.

    Returns:
        np.ndarray | None: ``(G,)`` indices of choices; None if none fits.
    """
    parts = np.split(np.arange(len(prices)), np.flatnonzero(np.diff(group)) + 1)
    kept = np.concatenate([p[undominated(prices[p], costs[:, p])] for p in parts])
    # HiGHS lets a row be violated by 1e-6: with coefficients up to 1000 that is
    # less than the slack of a budget.
    scale = np.maximum(np.abs(costs[:, kept]).max(1), np.abs(limits)) / 1000
    scale[scale == 0] = 1
    groups = group[-1] + 1
    one = csr_array((np.ones(len(kept)), (group[kept], np.arange(len(kept)))),
                    shape=(groups, len(kept)))
    rows = vstack([one, csr_array(costs[:, kept] / scale[:, None])])
    low = np.concatenate([np.ones(groups), np.full(len(limits), -np.inf)])
    high = np.concatenate([np.ones(groups), limits / scale])
    unit = np.abs(prices).max() or 1.0
    with quiet():
        result = milp(
            prices[kept] / unit, integrality=np.ones(len(kept)), bounds=Bounds(0, 1),
            constraints=LinearConstraint(rows, low, high),
            options=dict(mip_rel_gap=gap, time_limit=seconds))
    if result.x is None:
        return None
    chosen = kept[result.x > 0.5]
    assert (group[chosen] == np.arange(groups)).all()
    return chosen


def exact(
    table: PriceTable,
    costs: Costs,
    limits: Mapping[str, float],
    start: np.ndarray | None = None,
    gap: float = 1e-6,
) -> Solution:
    """The cheapest price within all budgets.

    Costs that are sums over the groups (bits alone) are solved to optimality. Where
    groups multiply (widths), the costs are linearised around the incumbent, and
    around each solution again, until it repeats or meets the budgets within 1 %
    without a better one; then the slack is refilled at true costs.

    Args:
        table (PriceTable): Prices.
        costs (Costs): Costs of the model.
        limits (Mapping[str, float]): Budgets by cost name.
        start (np.ndarray, optional): Picks within the budgets to linearise around
            first. Defaults to those of the greedy sweep.
        gap (float): See :func:`solve_linear`.

    Returns:
        Solution: Never worse than ``start``, and within the budgets.

    Raises:
        TargetError: No policy was found within the budgets.
    """
    limits = dict(limits)
    every = np.arange(len(table.price))
    picks = _first(table, costs, limits) if start is None else start
    best, seen = None, set()

    def consider(picks: np.ndarray) -> dict[str, float]:
        """True costs; within the budgets, also refill and keep the better one."""
        nonlocal best
        spent = {n: float(costs.of_rows(n, table.row(picks))) for n in limits}
        if all(spent[n] <= granted(v) for n, v in limits.items()):
            full = refill(table, costs, limits, picks)
            if best is None or table.price[full].sum() < table.price[best].sum():
                best = full
        return spent

    spent = consider(picks)
    rounds = 0
    while rounds < ROUNDS and picks.tobytes() not in seen:
        seen.add(picks.tobytes())
        rounds += 1
        rows = table.variants(table.row(picks), every)
        deltas = np.stack([costs.of_rows(n, rows).numpy() - spent[n] for n in limits])
        room = np.array([granted(v) - spent[n] for n, v in limits.items()])
        found = solve_linear(table.price, table.group, deltas, room, gap)
        if found is None:
            break
        picks, old = found, best
        spent = consider(picks)
        fits = all(spent[n] <= granted(v) for n, v in limits.items())
        if fits and best is old:
            break
    if best is None:
        raise TargetError(
            'No policy was found within all budgets '
            f'({", ".join(f"{n} <= {v:.6g}" for n, v in limits.items())}); '
            'raise one of them.')
    final = {n: float(costs.of_rows(n, table.row(best))) for n in limits}
    return Solution(best, float(table.price[best].sum()), final, rounds)


def _first(table: PriceTable, costs: Costs, limits: dict[str, float]) -> np.ndarray:
    """Greedy picks of the tightest budget, else the most compressed choices."""
    found = [p for n, v in limits.items()
             if (p := greedy(table, costs, n, v)) is not None]
    if found:
        return max(found, key=lambda p: table.price[p].sum())
    return np.array([s + g.values.sum(1).argmin()
                     for s, g in zip(table.start, table.groups)])
