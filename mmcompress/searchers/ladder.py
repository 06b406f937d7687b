"""The steps down from the dense widths, in the order in which a ranking goes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property

import numpy as np

from ..costs import Costs, Target, tightest, within
from ..errors import CompressionError, TargetError
from ..policy import ChannelScores, SearchSpace
from .grid import Grid

REDUCTIONS = ('sum', 'mean', 'max')
PROBES = 32
"""Lengths tried at once while looking for the one that meets a budget."""


class Ladder:
    """Turns affine scores of layers into widths for a budget (LeGR, sec. 3.1).

    Channel j of layer l scores ``alpha[l] * base[l, j] + kappa[l]``; the scores of
    the layers of a unit are reduced to one. A step takes one unit from one allowed
    width to the next lower one and is as important as the mean of the channels
    that it removes. All steps of the network are sorted together, and the least
    important ones go until the budget is met.

    A model's channels are sorted once, by the sum of their base scores. Where
    layers that disagree are tied, other factors may put the channels of their unit
    into another order; the learned scores then say how many channels stay, and the
    order says which.

    Args:
        space (SearchSpace): Allowed widths.
        scores (ChannelScores): Base scores of every unit of the space.
        reduction (str): ``'sum'``, ``'mean'`` or ``'max'`` over the layers of a
            unit. Defaults to 'sum'.
        floors (Mapping[str, int]): By unit, the width below which it is not taken.

    Attributes:
        layers (tuple[str, ...]): Names of the layers, in the order of the factors.
        spread (np.ndarray): ``(L,)`` standard deviation of each layer's scores.
    """

    def __init__(
        self,
        space: SearchSpace,
        scores: ChannelScores,
        reduction: str = 'sum',
        floors: Mapping[str, int] | None = None,
    ) -> None:
        if reduction not in REDUCTIONS:
            raise CompressionError(
                f'Unknown reduction {reduction!r}; choose one of '
                f'{", ".join(REDUCTIONS)}.')
        self.space, self.reduction = space, reduction
        by_unit = [scores.units[unit] for unit in space.units]
        self.layers = tuple(dict.fromkeys(n for unit in by_unit for n in unit))
        self.spread = np.array([
            np.concatenate([u[layer] for u in by_unit if layer in u]).std()
            for layer in self.layers])
        self._collect_channels(by_unit)
        self._collect_steps(floors or {})

    def _collect_channels(self, by_unit: Sequence[Mapping[str, np.ndarray]]) -> None:
        """Lay the scores of all layers out flat, those of one channel together."""
        place = {layer: i for i, layer in enumerate(self.layers)}
        base, layer, count = [], [], []
        for unit in by_unit:
            table = np.array(list(unit.values()))  # (layers of the unit, width)
            base.append(table.T.ravel())
            layer.append(np.tile([place[n] for n in unit], table.shape[1]))
            count.append(np.full(table.shape[1], len(table)))
        self._base, self._layer = np.concatenate(base), np.concatenate(layer)
        self._count = np.concatenate(count)
        self._start = np.cumsum(self._count) - self._count
        widths = [len(next(iter(unit.values()))) for unit in by_unit]
        self._unit = np.repeat(np.arange(len(widths)), widths)

    def _collect_steps(self, floors: Mapping[str, int]) -> None:
        """Cut every unit into the blocks of channels between allowed widths."""
        self.top = np.array([len(c) - 1 for c in self.space.choices])
        starts, columns, first = [], [], 0
        for i, unit in enumerate(self.space.units):
            choices = np.array(self.space.choices[i])
            floor = min(floors.get(unit, 0), choices[-1])
            choices = choices[choices >= floor]
            # Ascending in score: first what the widest step removes, last what stays.
            starts.append(first + choices[-1] - choices[::-1])
            columns.append(np.append(np.full(len(choices) - 1, i), -1))
            first += int(choices[-1])
        self._blocks = np.concatenate(starts)
        self._lengths = np.diff(np.append(self._blocks, first))
        self._column = np.concatenate(columns)

    @property
    def bottom(self) -> np.ndarray:
        """Row of the narrowest widths; bits are uncompressed."""
        counts = np.bincount(self._column[self._column >= 0], minlength=len(self.top))
        return Grid.of(self.space).rows(self.top - counts)

    def scores(self, alpha: np.ndarray, kappa: np.ndarray) -> np.ndarray:
        """Learned scores of all channels, unit after unit.

        Args:
            alpha, kappa (np.ndarray): ``(L,)`` factors and offsets of the layers.
        """
        parts = alpha[self._layer] * self._base + kappa[self._layer]
        if self.reduction == 'max':
            return np.maximum.reduceat(parts, self._start)
        total = np.add.reduceat(parts, self._start)
        return total / self._count if self.reduction == 'mean' else total

    def descent(self, alpha: np.ndarray, kappa: np.ndarray) -> np.ndarray:
        """Columns of the space in the order in which they lose a step: ``(M,)``."""
        scores = self.scores(alpha, kappa)
        ascending = scores[np.lexsort((scores, self._unit))]
        worth = np.add.reduceat(ascending, self._blocks) / self._lengths
        real = self._column >= 0
        order = np.argsort(worth[real], kind='stable')
        return self._column[real][order]

    @cached_property
    def base_descent(self) -> np.ndarray:
        """:meth:`descent` of the base scores; of l2 ones, plain global L2 pruning."""
        layers = len(self.layers)
        return self.descent(np.ones(layers), np.zeros(layers))

    def row(
        self,
        descent: np.ndarray,
        costs: Costs,
        targets: Sequence[Target],
        bits: np.ndarray | None = None,
    ) -> np.ndarray:
        """Widest row of a descent that meets every target.

        Args:
            descent (np.ndarray): From :meth:`descent`.
            costs (Costs): Costs of the model.
            targets (Sequence[Target]): The budgets.
            bits (np.ndarray | None): Row whose bits to use. Defaults to float.

        Returns:
            np.ndarray: ``(len(space),)``. Giving back the last step that was taken
            would break a budget.

        Raises:
            TargetError: Not even the bottom meets a target.
        """
        low, high = -1, len(descent)
        rows = self._rows(descent, [high], bits)
        limits = tightest(targets)
        if not within(costs, limits, rows)[0]:
            raise TargetError(
                f'{", ".join(t.name for t in targets)} cannot be met with every unit '
                'at its floor. Raise the target, or lower min_ratio and min_channels.')
        while high - low > 1:
            tried = np.unique(np.linspace(low + 1, high - 1, PROBES).astype(int))
            tried_rows = self._rows(descent, tried, bits)
            # Costs fall along a descent: first the lengths that do not fit.
            first = int((~within(costs, limits, tried_rows)).sum())
            if first < len(tried):
                high, rows = int(tried[first]), tried_rows[first:first + 1]
            if first:
                low = int(tried[first - 1])
        return rows[0]

    def _rows(
        self, descent: np.ndarray, lengths: Sequence[int], bits: np.ndarray | None
    ) -> np.ndarray:
        counts = [np.bincount(descent[:n], minlength=len(self.top)) for n in lengths]
        rows = Grid.of(self.space).rows(self.top - np.array(counts))
        if bits is not None:
            rows[:, self.space.bits] = bits[self.space.bits]
        return rows
