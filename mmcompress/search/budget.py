"""Bring rows of desired values within a budget, and close to it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from ..costs import Costs, Target
from ..policy import SearchSpace

BISECTIONS = 24
TRIALS_PER_ROUND = 4096
SLACK = 1e-9
"""Relative slack of a limit, the same that :meth:`Target.met_by` grants."""

Fits = Callable[[np.ndarray], np.ndarray]


@dataclass(frozen=True, eq=False)
class ChoiceGrid:
    """The choices of a space as arrays, so that rows become indices at once.

    Args:
        values (np.ndarray): ``(D, C)`` choices of every column, padded with the
            column's last choice.
        top (np.ndarray): ``(D,)`` index of every column's last choice.
        flat (np.ndarray): All choices in one ascending array: column i is shifted
            by ``i * shift``, which lets one binary search serve all columns.
        start (np.ndarray): ``(D,)`` where column i begins in ``flat``.
        shift (float): Larger than any choice.
    """

    values: np.ndarray
    top: np.ndarray
    flat: np.ndarray
    start: np.ndarray
    shift: float

    @classmethod
    @lru_cache(maxsize=16)
    def of(cls, space: SearchSpace) -> ChoiceGrid:
        """Return the grid of a space; it is built once."""
        sizes = np.array([len(c) for c in space.choices])
        values = np.empty((len(space), sizes.max(initial=1)))
        for i, choice in enumerate(space.choices):
            values[i, :len(choice)] = choice
            values[i, len(choice):] = choice[-1]
        shift = 2 * float(values.max(initial=1)) + 2
        inside = np.arange(values.shape[1]) < sizes[:, None]
        flat = (values + shift * np.arange(len(space))[:, None])[inside]
        return cls(values, sizes - 1, flat, np.cumsum(sizes) - sizes, shift)

    def floor(self, rows: np.ndarray) -> np.ndarray:
        """Index of the largest choice that does not exceed each entry."""
        # The shifted keys lose a few digits, hence the small push upwards.
        keys = rows + self.shift * np.arange(rows.shape[1]) + 1e-6
        index = np.searchsorted(self.flat, keys, side='right') - 1 - self.start
        return np.clip(index, 0, self.top)

    def rows(self, index: np.ndarray) -> np.ndarray:
        """Values at the indices, as rows of the space."""
        columns = np.arange(len(self.top))
        return self.values[columns, index].astype(np.int64)


def uniform_row(space: SearchSpace, ratio: float) -> np.ndarray:
    """Row that gives every column the same share of its uncompressed value.

    Args:
        space (SearchSpace): The space.
        ratio (float): Share of the largest choice, rounded to the nearest choice.

    Returns:
        np.ndarray: Integers of shape ``(len(space),)``.
    """
    return space.snap(ratio * space.highest)[0]


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
    grid = ChoiceGrid.of(space)
    rows = np.atleast_2d(np.asarray(rows, dtype=float))
    limit = target.limit * (1 + SLACK)

    def fits(candidates: np.ndarray) -> np.ndarray:
        shape = candidates.shape[:-1]
        flat = candidates.reshape(-1, candidates.shape[-1])
        return (costs.of_rows(target.cost, flat).numpy() <= limit).reshape(shape)

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
    grid: ChoiceGrid, index: np.ndarray, desired: np.ndarray, fits: Fits
) -> np.ndarray:
    """Raise single columns until none fits.

    Costs do not fall when a column rises, so a raise that does not fit now never
    will: each trial either raises a column or closes it for good.
    """
    free = np.flatnonzero(grid.top > 0)
    scale = (grid.values[:, -1] - grid.values[:, 0])[free]

    def order(rows: np.ndarray | slice) -> np.ndarray:
        gap = (desired[rows] - grid.rows(index[rows]))[:, free] / scale
        return free[np.argsort(np.where(is_open[rows][:, free], -gap, np.inf), axis=1)]

    is_open = index < grid.top
    index = _raise_most(grid, index, order(slice(None)), fits)
    is_open = index < grid.top
    live = np.flatnonzero(is_open.any(1))
    while len(live):
        k = max(4, TRIALS_PER_ROUND // len(live))
        columns = order(live)[:, :k]
        now, at = index[live], (live[:, None], columns)
        # One row per column on trial, then one per prefix of those that fit.
        alone = np.broadcast_to(np.eye(columns.shape[1], dtype=int), (
            len(live), columns.shape[1], columns.shape[1]))
        single = is_open[at]
        single = single & fits(_raised(grid, now, columns, alone * single[:, None]))
        prefix = np.tri(columns.shape[1], dtype=int) * single[:, None]
        index[at] += single & fits(_raised(grid, now, columns, prefix))
        is_open[at] = single & (index < grid.top)[at]
        live = live[is_open[live].any(1)]
    return index


def _raise_most(
    grid: ChoiceGrid, index: np.ndarray, order: np.ndarray, fits: Fits
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


def _raised(
    grid: ChoiceGrid, index: np.ndarray, columns: np.ndarray, by: np.ndarray
) -> np.ndarray:
    """Rows of shape ``(N, M, D)``: row n with ``columns[n]`` raised by ``by[n, m]``."""
    out = np.repeat(index[:, None], by.shape[1], axis=1)
    n = np.arange(by.shape[0])[:, None, None]
    m = np.arange(by.shape[1])[:, None]
    out[n, m, columns[:, None]] += by
    return grid.rows(out)
