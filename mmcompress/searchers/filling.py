"""Use up what a budget leaves: raise single columns while they fit."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from .grid import Grid

Rank = Callable[[np.ndarray, np.ndarray, np.ndarray], np.ndarray]
"""From the indices ``(N, D)`` of all rows, whether their columns are open ``(N, D)``
and the rows in question ``(n,)`` to the columns to raise next ``(n, k)``, best first
and open ones before closed ones. It may close columns that are not worth raising."""

Fits = Callable[[np.ndarray, np.ndarray], np.ndarray]
"""From rows of the space ``(n, k, D)`` and their numbers ``(n,)`` to ``(n, k)``."""


def fill(
    grid: Grid, index: np.ndarray, rank: Rank, fits: Fits, alone: bool
) -> np.ndarray:
    """Raise columns of many rows at once until nothing more fits.

    In a round every row raises as many of its best columns as fit together. Costs do
    not fall when a column rises, so a raise that does not fit now never will: the
    column is closed.

    Args:
        grid (Grid): The choices.
        index (np.ndarray): ``(N, D)`` of rows within their budgets; not changed.
        rank (Rank): The order of the raises.
        fits (Fits): Whether rows are within their budgets.
        alone (bool): Try every column by itself first, so that a round passes over
            those that do not fit. Otherwise the first one that does not fit ends it:
            half the trials for more rounds.

    Returns:
        np.ndarray: ``(N, D)``.
    """
    index = index.copy()
    is_open = index < grid.top
    live = np.flatnonzero(is_open.any(1))
    while len(live):
        columns = rank(index, is_open, live)
        now, at = index[live], (live[:, None], columns)
        able = is_open[at]
        count = columns.shape[1]
        if alone:
            each = np.eye(count, dtype=int) * able[:, None]
            able &= fits(grid.raised(now, columns, each), live)
        prefixes = np.tri(count, dtype=int) * able[:, None]
        together = fits(grid.raised(now, columns, prefixes), live)
        if alone:
            is_open[at] = able
        else:
            failed = ~together.all(1)
            first = together.argmin(1)[failed]
            is_open[live[failed], columns[failed, first]] = False
        index[at] += able & together
        is_open &= index < grid.top
        live = live[is_open[live].any(1)]
    return index
