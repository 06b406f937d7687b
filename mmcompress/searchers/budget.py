"""Bring rows of desired values within a budget, and close to it."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from ..costs import Costs, Target
from ..policy import SearchSpace
from .filling import fill
from .grid import Grid

BISECTIONS = 24
TRIALS_PER_ROUND = 4096

Fits = Callable[[np.ndarray], np.ndarray]


def fit_to_budget(
    space: SearchSpace,
    costs: Costs,
    target: Target,
    rows: np.ndarray,
    rng: np.random.Generator,
) -> np.ndarray:
    """Turn desired values into allowed rows that use up a budget.

    All columns of a row move together towards their lowest or highest choice until
    the cost meets the limit; the result is rounded down, and the slack is filled
    by single upgrades, those furthest below the desired value first. In the
    result no single upgrade of any column would still fit.

    Args:
        space (SearchSpace): Allowed values.
        costs (Costs): Costs of the model; the target's must not fall when a
            column rises.
        target (Target): The budget, attainable in the space.
        rows (np.ndarray): ``(N, D)`` desired real values.
        rng (np.random.Generator): Decides between equal upgrades.

    Returns:
        np.ndarray: Integers of shape ``(N, D)``.
    """
    grid = Grid.of(space)
    rows = np.atleast_2d(np.asarray(rows, dtype=float))

    def fits(candidates: np.ndarray, _: np.ndarray | None = None) -> np.ndarray:
        return target.fits(costs, candidates)

    assert fits(space.lowest[None]).all(), f'{target.name} is below the space'
    desired = _scaled_to_limit(rows, space.lowest, space.highest, fits)
    index = grid.floor(desired)
    # Rounding may put an entry a hair above the value that was found to fit.
    over = ~fits(grid.rows(index))
    index[over] = grid.floor(desired[over] - 1e-3)
    # Distinct tiny offsets make the order of upgrades total, hence reproducible.
    desired = desired + rng.uniform(0, 1e-6, desired.shape) * space.highest
    return grid.rows(_filled(grid, index, desired, fits))


def _scaled_to_limit(
    rows: np.ndarray, low: np.ndarray, high: np.ndarray, fits: Fits
) -> np.ndarray:
    """Bisect, per row, how far it moves towards ``low`` or ``high``."""
    rows = np.clip(rows, low, high)
    inside = fits(rows)
    end = np.where(inside[:, None], high, low)
    # At t = 0 a row is the desired one, at t = 1 the end. A row inside the limit
    # goes as far as it still fits, one outside only as far as it must.
    near, far = np.zeros(len(rows)), np.ones(len(rows))
    near[inside & fits(end)] = 1.0
    for _ in range(BISECTIONS):
        t = (near + far) / 2
        same = fits(rows + t[:, None] * (end - rows)) == inside
        near, far = np.where(same, t, near), np.where(same, far, t)
    t = np.where(inside, near, far)[:, None]
    return rows + t * (end - rows)


def _filled(
    grid: Grid, index: np.ndarray, desired: np.ndarray, fits: Fits
) -> np.ndarray:
    """Raise single columns until none fits, those furthest below the desired first."""
    free = np.flatnonzero(grid.top > 0)
    scale = (grid.values[:, -1] - grid.values[:, 0])[free]

    def order(
        index: np.ndarray, is_open: np.ndarray, live: np.ndarray | slice
    ) -> np.ndarray:
        gap = (desired[live] - grid.rows(index[live]))[:, free] / scale
        worth = np.where(is_open[live][:, free], -gap, np.inf)
        return free[np.argsort(worth, axis=1)]

    def rank(index: np.ndarray, is_open: np.ndarray, live: np.ndarray) -> np.ndarray:
        count = max(4, TRIALS_PER_ROUND // len(live))
        return order(index, is_open, live)[:, :count]

    everything = order(index, index < grid.top, slice(None))
    index = _raise_most(grid, index, everything, fits)
    return fill(grid, index, rank, fits, alone=True)


def _raise_most(
    grid: Grid, index: np.ndarray, order: np.ndarray, fits: Fits
) -> np.ndarray:
    """Raise as many columns once, in this order, as fit together."""
    rank = np.full(index.shape, index.shape[1])
    np.put_along_axis(rank, order, np.arange(order.shape[1])[None], axis=1)

    def first(count: np.ndarray) -> np.ndarray:
        return np.minimum(index + (rank < count[:, None]), grid.top)

    low, high = np.zeros(len(index), int), np.full(len(index), order.shape[1] + 1)
    while (high - low > 1).any():
        middle = (low + high) // 2
        ok = fits(grid.rows(first(middle)))
        low, high = np.where(ok, middle, low), np.where(ok, high, middle)
    return first(low)
