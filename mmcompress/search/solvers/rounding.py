"""From real-valued policies to allowed ones within their budgets, many at once."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from ...costs import Costs, Target
from ...policy import SearchSpace
from ..budget import SLACK, ChoiceGrid
from ..predictors import PolicyFeatures, Predictor

PREFIXES = 16
EXCHANGES = (8, 4, 2, 1)


class Grid:
    """The choices of a space as places between 0 and 1, equally far apart.

    Steps from 4 to 6 bits and from 8 to 32 are the same distance here.

    Args:
        space (SearchSpace): The space.
        features (PolicyFeatures): The predictor's view of it.

    Attributes:
        top (Tensor): ``(D,)`` index of every column's last choice.
        values (Tensor): ``(D, C)`` choices, padded with the last one.
        seen (Tensor): ``(D, C)`` their features, 0 where there is no choice.
    """

    def __init__(self, space: SearchSpace, features: PolicyFeatures) -> None:
        choices = ChoiceGrid.of(space)
        self.top = torch.from_numpy(choices.top)
        self.values = torch.from_numpy(choices.values)
        self.free = torch.from_numpy(space.free)
        self.seen = torch.zeros_like(self.values)
        self.seen[self.free] = features(self.values.T).T

    def at(self, table: Tensor, index: Tensor) -> Tensor:
        """Entries of a ``(D, C)`` table at indices ``(N, D)``."""
        return table.T.gather(0, index.reshape(-1, len(self.top))).view(index.shape)

    def rows(self, index: Tensor) -> Tensor:
        """Rows ``(..., D)`` at indices ``(..., D)``."""
        return self.at(self.values, index)

    def values_at(self, place: Tensor) -> Tensor:
        """Rows ``(N, D)`` at places, linear between neighbouring choices."""
        scaled = place * self.top
        low = scaled.detach().long().clamp_max((self.top - 1).clamp_min(0))
        high = torch.minimum(low + 1, self.top)
        start = self.rows(low)
        return start + (scaled - low) * (self.rows(high) - start)

    def nearest(self, place: Tensor) -> Tensor:
        """Indices ``(N, D)`` of the nearest choices."""
        return (place * self.top).round().long()


class Budgets:
    """One target per row of a batch; targets on different costs may be mixed.

    Args:
        costs (Costs): The costs.
        targets (Sequence[Target]): ``(N,)``.
    """

    def __init__(self, costs: Costs, targets: Sequence[Target]) -> None:
        self.costs = costs
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
        out = rows.new_zeros(rows.shape[:-1])
        for name, members in self._rows.items():
            mine = torch.zeros(len(self.limit), dtype=torch.bool)
            mine[members] = True
            at = (mine if which is None else mine[which]).nonzero()[:, 0]
            out = out.index_copy(0, at, self._cost(name, rows[at]))
        return out / limit

    def _cost(self, name: str, rows: Tensor) -> Tensor:
        flat = self.costs.of_rows(name, rows.reshape(-1, rows.shape[-1]))
        return flat.reshape(rows.shape[:-1])

    def fits(self, rows: Tensor, which: Tensor | None = None) -> Tensor:
        """Whether rows meet their targets; see :meth:`share`."""
        return self.share(rows, which) <= 1 + SLACK


def decode(
    predictor: Predictor, grid: Grid, budgets: Budgets, place: Tensor
) -> Tensor:
    """Round places to choices, repair, fill, and exchange what does not pay.

    Args:
        predictor (Predictor): Judges steps by its gradient in its features.
        grid (Grid): The choices.
        budgets (Budgets): One target per row.
        place (Tensor): ``(N, D)`` between 0 and 1.

    Returns:
        Tensor: Indices ``(N, D)`` of policies that meet their targets.
    """
    index = grid.nearest(place)
    slopes = Slopes(predictor, grid, budgets, index)
    index = fill(grid, budgets, repair(grid, budgets, index, slopes), slopes)
    return exchange(predictor, grid, budgets, index)


class Slopes:
    """What a step of every column is worth, to first order around a batch.

    Args:
        predictor, grid, budgets: See :func:`decode`.
        index (Tensor): Indices ``(N, D)`` around which to look.
    """

    def __init__(
        self, predictor: Predictor, grid: Grid, budgets: Budgets, index: Tensor
    ) -> None:
        self.grid = grid
        rows = grid.rows(index).requires_grad_()
        seen = predictor.features(rows).detach().requires_grad_()
        score = predictor.mean(seen)
        gain, = torch.autograd.grad(score.sum(), seen)
        self.score = score.detach()
        self.gain = torch.zeros_like(rows).index_copy(1, grid.free, gain).detach()
        self.cost, = torch.autograd.grad(budgets.share(rows).sum(), rows)

    def step(self, index: Tensor, to: Tensor) -> tuple[Tensor, Tensor]:
        """Change of score and of cost share ``(N, D)`` between two indices."""
        grid = self.grid
        gain = self.gain * (grid.at(grid.seen, to) - grid.at(grid.seen, index))
        return gain, self.cost * (grid.rows(to) - grid.rows(index))

    def up(self, index: Tensor) -> Tensor:
        """Gain per cost of the next choice; -inf at a column's end."""
        to = torch.minimum(index + 1, self.grid.top)
        gain, cost = self.step(index, to)
        worth = gain / cost.clamp_min(1e-15)
        return worth.masked_fill(to == index, -torch.inf)

    def down(self, index: Tensor) -> Tensor:
        """Loss per saved cost of the choice below; inf at a column's end."""
        to = (index - 1).clamp_min(0)
        gain, cost = self.step(index, to)
        worth = -gain / (-cost).clamp_min(1e-15)
        return worth.masked_fill(to == index, torch.inf)


def repair(grid: Grid, budgets: Budgets, index: Tensor, slopes: Slopes) -> Tensor:
    """Lower the columns that lose least per saved cost until every row fits."""
    while not (fits := budgets.fits(grid.rows(index))).all():
        rank = slopes.down(index).argsort(1).argsort(1)
        few = (~fits).long()
        many = few * index.shape[1]
        while (few < many).any():
            middle = (few + many) // 2
            enough = budgets.fits(grid.rows(_lowered(index, rank, middle)))
            few = torch.where(enough, few, middle + 1).minimum(many)
            many = torch.where(enough, middle, many)
        index = _lowered(index, rank, many)
    return index


def _lowered(index: Tensor, rank: Tensor, count: Tensor) -> Tensor:
    """Lower, per row, the ``count`` columns of the lowest rank by one."""
    return (index - (rank < count[:, None]).long()).clamp_min(0)


def fill(grid: Grid, budgets: Budgets, index: Tensor, slopes: Slopes) -> Tensor:
    """Raise columns by predicted gain per cost while they fit.

    In each round a row raises as many of its best columns as fit together; the
    first that does not is closed, and so are columns whose cost by its gradient
    exceeds the slack: costs do not fall when a column rises.
    """
    index = index.clone()
    is_open = index < grid.top
    live = torch.arange(len(index))
    while len(live):
        now = index[live]
        slack = 1 + SLACK - budgets.share(grid.rows(now), live)
        _, rise = slopes.step(index, torch.minimum(index + 1, grid.top))
        is_open[live] &= rise[live] <= slack[:, None]
        worth = slopes.up(index)[live].masked_fill(~is_open[live], -torch.inf)
        worth, columns = worth.topk(min(PREFIXES, worth.shape[1]), dim=1)
        # A column that is predicted to harm is not raised.
        allowed = worth > 0
        one = torch.nn.functional.one_hot(columns, index.shape[1])
        trial = now[:, None] + (one * allowed[..., None]).cumsum(1)
        fits = budgets.fits(grid.rows(trial), live) & allowed
        count = fits.long().cumprod(1).sum(1)
        raised = (one * (torch.arange(one.shape[1]) < count[:, None])[..., None]).sum(1)
        index[live] = now + raised
        failed = count < one.shape[1]
        at = columns.gather(1, count.clamp_max(one.shape[1] - 1)[:, None])[:, 0]
        is_open[live[failed], at[failed]] = False
        is_open &= index < grid.top
        live = live[(allowed.any(1) & is_open[live].any(1))]
    return index


def exchange(
    predictor: Predictor, grid: Grid, budgets: Budgets, index: Tensor
) -> Tensor:
    """Swap steps between columns where the prediction improves.

    Fewer and fewer columns at a time: those that pay least are lowered and the
    slack is filled, or those that would pay most are raised and the rest repaired.
    """
    slopes = Slopes(predictor, grid, budgets, index)
    for count in EXCHANGES:
        for move in (_give, _take):
            moved = move(index, slopes, min(count, index.shape[1]))
            moved = fill(grid, budgets, repair(grid, budgets, moved, slopes), slopes)
            after = Slopes(predictor, grid, budgets, moved)
            better = after.score > slopes.score
            if better.any():
                index = torch.where(better[:, None], moved, index)
                slopes = Slopes(predictor, grid, budgets, index)
    return index


def _give(index: Tensor, slopes: Slopes, count: int) -> Tensor:
    """Lower the worst columns, as far as the best raises would pay more."""
    worst, columns = slopes.down(index).topk(count, dim=1, largest=False)
    best = slopes.up(index).topk(count, dim=1).values
    pays = (worst < best).long()
    return index - torch.zeros_like(index).scatter(1, columns, pays)


def _take(index: Tensor, slopes: Slopes, count: int) -> Tensor:
    """Raise the best columns over the budget, as far as they pay."""
    best, columns = slopes.up(index).topk(count, dim=1)
    worst = slopes.down(index).topk(count, dim=1, largest=False).values
    pays = (worst < best).long()
    return index + torch.zeros_like(index).scatter(1, columns, pays)
