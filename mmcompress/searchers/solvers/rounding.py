"""From real-valued policies to allowed ones within their budgets, many at once."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from ...costs import Costs, Target, granted, joined
from ..filling import fill
from ..grid import Grid
from ..predictors import Predictor

PREFIXES = 16
EXCHANGES = (8, 4, 2, 1)


class Budgets:
    """One target per row of a batch; targets on different costs may be mixed.

    Args:
        costs (Costs): The costs.
        targets (Sequence[Target]): ``(N,)``.
    """

    def __init__(self, costs: Costs, targets: Sequence[Target]) -> None:
        self.costs = joined(costs, targets)
        self.limit = torch.tensor([t.limit for t in targets], dtype=torch.float64)
        names = np.array([t.cost for t in targets])
        self._rows = {name: torch.from_numpy(np.flatnonzero(names == name))
                      for name in dict.fromkeys(names.tolist())}

    def share(self, rows: Tensor, which: Tensor | None = None) -> Tensor:
        """Cost over limit ``(N, ...)`` of rows ``(N, ..., D)``.

        Args:
            rows (Tensor): Row n, or rows n, under target ``which[n]``.
            which (Tensor, optional): ``(N,)``; all targets in order by default.
        """
        limit = self.limit if which is None else self.limit[which]
        limit = limit.view(-1, *[1] * (rows.dim() - 2))
        if len(self._rows) == 1:
            name, = self._rows
            return self._cost(name, rows) / limit
        out = torch.zeros(rows.shape[:-1], dtype=torch.float64)
        for name, members in self._rows.items():
            mine = torch.zeros(len(self.limit), dtype=torch.bool)
            mine[members] = True
            at = (mine if which is None else mine[which]).nonzero()[:, 0]
            out = out.index_copy(0, at, self._cost(name, rows[at]))
        return out / limit

    def _cost(self, name: str, rows: Tensor) -> Tensor:
        flat = self.costs.of_rows(name, rows.reshape(-1, rows.shape[-1]))
        return flat.reshape(rows.shape[:-1])

    def room(self, rows: np.ndarray, which: np.ndarray | None = None) -> np.ndarray:
        """What rows leave of their limits, as a share; see :meth:`share`."""
        which = None if which is None else torch.from_numpy(which)
        return granted(1.0) - self.share(torch.from_numpy(rows), which).numpy()

    def fits(self, rows: np.ndarray, which: np.ndarray | None = None) -> np.ndarray:
        """Whether rows meet their targets; see :meth:`share`."""
        return self.room(rows, which) >= 0


def decode(
    predictor: Predictor, grid: Grid, budgets: Budgets, place: Tensor
) -> np.ndarray:
    """Round places to choices, repair, fill, and exchange what does not pay.

    Args:
        predictor (Predictor): Judges steps by its gradient in its features.
        grid (Grid): The choices.
        budgets (Budgets): One target per row.
        place (Tensor): ``(N, D)`` between 0 and 1.

    Returns:
        np.ndarray: Indices ``(N, D)`` of policies that meet their targets.
    """
    index = grid.nearest(place)
    slopes = Slopes(predictor, grid, budgets, index)
    index = refilled(budgets, repair(budgets, index, slopes), slopes)
    return exchange(predictor, grid, budgets, index)


class Slopes:
    """What a step of every column is worth, to first order around a batch.

    Args:
        predictor, grid, budgets: See :func:`decode`.
        index (np.ndarray): Indices ``(N, D)`` around which to look.
    """

    def __init__(
        self, predictor: Predictor, grid: Grid, budgets: Budgets, index: np.ndarray
    ) -> None:
        self.grid = grid
        free, features = predictor.space.free, predictor.features
        rows = torch.from_numpy(grid.rows(index)).double().requires_grad_()
        seen = features(rows).detach().requires_grad_()
        score = predictor.mean(seen)
        gain, = torch.autograd.grad(score.sum(), seen)
        cost, = torch.autograd.grad(budgets.share(rows).sum(), rows)
        self.score, self.cost = score.detach().numpy(), cost.numpy()
        self.gain, self.seen = np.zeros(rows.shape), np.zeros(grid.values.shape)
        self.gain[:, free] = gain.numpy()
        self.seen[free] = features(grid.values.T).T

    def step(self, index: np.ndarray, to: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Change of score and of cost share ``(N, D)`` between two indices."""
        grid = self.grid
        gain = self.gain * (grid.at(self.seen, to) - grid.at(self.seen, index))
        return gain, self.cost * (grid.rows(to) - grid.rows(index))

    def up(self, index: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Gain per cost of the next choice, -inf at a column's end; and its cost."""
        to = np.minimum(index + 1, self.grid.top)
        gain, cost = self.step(index, to)
        worth = gain / cost.clip(1e-15)
        return np.where(to == index, -np.inf, worth), cost

    def down(self, index: np.ndarray) -> np.ndarray:
        """Loss per saved cost of the choice below; inf at a column's end."""
        to = (index - 1).clip(0)
        gain, cost = self.step(index, to)
        worth = -gain / (-cost).clip(1e-15)
        return np.where(to == index, np.inf, worth)


def repair(budgets: Budgets, index: np.ndarray, slopes: Slopes) -> np.ndarray:
    """Lower the columns that lose least per saved cost until every row fits."""
    rows = slopes.grid.rows
    while not (fits := budgets.fits(rows(index))).all():
        order = slopes.down(index).argsort(1, kind='stable')
        rank = order.argsort(1, kind='stable')
        few = (~fits).astype(int)
        many = few * index.shape[1]
        while (few < many).any():
            middle = (few + many) // 2
            enough = budgets.fits(rows(_lowered(index, rank, middle)))
            few = np.minimum(np.where(enough, few, middle + 1), many)
            many = np.where(enough, middle, many)
        index = _lowered(index, rank, many)
    return index


def _lowered(index: np.ndarray, rank: np.ndarray, count: np.ndarray) -> np.ndarray:
    """Lower, per row, the ``count`` columns of the lowest rank by one."""
    return (index - (rank < count[:, None])).clip(0)


def refilled(budgets: Budgets, index: np.ndarray, slopes: Slopes) -> np.ndarray:
    """Raise columns by predicted gain per cost while they fit; see :func:`fill`.

    Columns that are predicted to harm are not raised, nor those whose cost by its
    gradient exceeds what the budget leaves.
    """
    grid = slopes.grid

    def rank(index: np.ndarray, is_open: np.ndarray, live: np.ndarray) -> np.ndarray:
        worth, rise = (values[live] for values in slopes.up(index))
        room = budgets.room(grid.rows(index[live]), live)
        is_open[live] &= (worth > 0) & (rise <= room[:, None])
        worth = np.where(is_open[live], worth, -np.inf)
        return np.argsort(-worth, axis=1, kind='stable')[:, :PREFIXES]

    return fill(grid, index, rank, budgets.fits, alone=False)


def exchange(
    predictor: Predictor, grid: Grid, budgets: Budgets, index: np.ndarray
) -> np.ndarray:
    """Swap steps between columns where the prediction improves.

    Fewer and fewer columns at a time: those that pay least are lowered and the
    slack is filled, or those that would pay most are raised and the rest repaired.
    """
    slopes = Slopes(predictor, grid, budgets, index)
    for count in EXCHANGES:
        for move in (_give, _take):
            moved = move(index, slopes, count)
            moved = refilled(budgets, repair(budgets, moved, slopes), slopes)
            after = Slopes(predictor, grid, budgets, moved)
            better = after.score > slopes.score
            if better.any():
                index = np.where(better[:, None], moved, index)
                slopes = Slopes(predictor, grid, budgets, index)
    return index


def _give(index: np.ndarray, slopes: Slopes, count: int) -> np.ndarray:
    """Lower the worst columns, as far as the best raises would pay more."""
    columns, pays = _worst_and_best(index, slopes, count)
    return _moved(index, columns[0], -pays)


def _take(index: np.ndarray, slopes: Slopes, count: int) -> np.ndarray:
    """Raise the best columns over the budget, as far as they pay."""
    columns, pays = _worst_and_best(index, slopes, count)
    return _moved(index, columns[1], pays)


def _worst_and_best(
    index: np.ndarray, slopes: Slopes, count: int
) -> tuple[list[np.ndarray], np.ndarray]:
    """Columns that lose least and that gain most; whether swapping them pays."""
    down, up = slopes.down(index), -slopes.up(index)[0]
    columns = [np.argsort(x, axis=1, kind='stable')[:, :count] for x in (down, up)]
    lost, gained = (np.take_along_axis(x, c, 1) for x, c in zip((down, up), columns))
    return columns, (lost < -gained).astype(int)


def _moved(index: np.ndarray, columns: np.ndarray, by: np.ndarray) -> np.ndarray:
    index = index.copy()
    np.put_along_axis(index, columns, np.take_along_axis(index, columns, 1) + by, 1)
    return index
