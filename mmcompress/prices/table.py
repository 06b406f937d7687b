"""What every choice of a search space is predicted to lose, as data."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import product

import numpy as np

from ..errors import CompressionError
from ..files import read_json, write_text
from ..policy import SearchSpace

FORMAT, VERSION = 'mmcompress.prices', 1


@dataclass(frozen=True, eq=False)
class PriceGroup:
    """Columns that are decided together, and the price of each joint choice.

    Args:
        columns (tuple[int, ...]): Columns of the search space: the width of a
            unit, the weight and activation bits of a layer, or all three.
        values (np.ndarray): ``(C, len(columns))`` integers, the joint choices.
        prices (np.ndarray): ``(C,)`` predicted increase of the loss.
    """

    columns: tuple[int, ...]
    values: np.ndarray
    prices: np.ndarray

    def __post_init__(self) -> None:
        assert self.values.shape == (len(self.prices), len(self.columns))
        assert len(self.prices) and np.isfinite(self.prices).all()


@dataclass(frozen=True, eq=False)
class PriceTable:
    """Prices of a space: a policy's price is the sum over the groups.

    Args:
        groups (tuple[PriceGroup, ...]): Disjoint; together they hold every free
            column of the space.
        base (np.ndarray): ``(D,)`` row of the least compressed choices; it gives
            the columns that no group holds.
    """

    groups: tuple[PriceGroup, ...]
    base: np.ndarray

    def __post_init__(self) -> None:
        used = [c for g in self.groups for c in g.columns]
        assert len(used) == len(set(used)), 'a column is in two groups'

    @classmethod
    def from_columns(
        cls,
        space: SearchSpace,
        prices: Mapping[int, Sequence[float]],
        joint: Iterable[PriceGroup] = (),
    ) -> PriceTable:
        """Build the table from one price per column and choice.

        The weight and activation bits of a layer become one group, since their
        product is what a layer's bit operations depend on; their prices add up.

        Args:
            space (SearchSpace): The space.
            prices (Mapping[int, Sequence[float]]): By free column, a price for
                each of its choices. Columns inside ``joint`` may be absent.
            joint (Iterable[PriceGroup]): Groups with prices of their own.
        """
        joint = tuple(joint)
        taken = {c for group in joint for c in group.columns}
        widths, *bits = space.split(np.arange(len(space)))
        wanted = [*zip(widths.tolist()), *zip(*(side.tolist() for side in bits))]
        groups = list(joint)
        for columns in wanted:
            free = tuple(c for c in columns
                         if len(space.choices[c]) > 1 and c not in taken)
            if free:
                values = np.array(list(product(*(space.choices[c] for c in free))))
                added = [sum(p) for p in product(*(prices[c] for c in free))]
                groups.append(PriceGroup(free, values, np.array(added, float)))
        return cls(tuple(groups), space.highest)

    # -- all choices as flat arrays of length M --------------------------------
    @cached_property
    def start(self) -> np.ndarray:
        """``(G + 1,)``: choices of group g are ``start[g]`` to ``start[g + 1]``."""
        return np.cumsum([0, *(len(g.prices) for g in self.groups)])

    @cached_property
    def group(self) -> np.ndarray:
        """``(M,)`` group of every choice."""
        return np.repeat(np.arange(len(self.groups)), np.diff(self.start))

    @cached_property
    def price(self) -> np.ndarray:
        """``(M,)`` price of every choice."""
        return np.concatenate([g.prices for g in self.groups] or [np.empty(0)])

    @cached_property
    def _writes(self) -> tuple[np.ndarray, np.ndarray]:
        """``(M, K)`` columns and values; short groups repeat their last column."""
        k = max((len(g.columns) for g in self.groups), default=1)
        columns, values = [], []
        for group in self.groups:
            index = np.minimum(np.arange(k), len(group.columns) - 1)
            columns.append(np.tile(np.array(group.columns)[index],
                                   (len(group.prices), 1)))
            values.append(group.values[:, index])
        if not columns:
            return np.empty((0, k), int), np.empty((0, k), int)
        return np.concatenate(columns), np.concatenate(values)

    def row(self, picks: np.ndarray) -> np.ndarray:
        """Row ``(D,)`` of one choice (a flat index) for every group."""
        row = self.base.copy()
        columns, values = self._writes
        row[columns[picks]] = values[picks]
        return row

    def variants(self, row: np.ndarray, picks: np.ndarray) -> np.ndarray:
        """Rows ``(len(picks), D)``: ``row`` with one choice applied in each."""
        rows = np.repeat(row[None], len(picks), axis=0)
        columns, values = self._writes
        rows[np.arange(len(picks))[:, None], columns[picks]] = values[picks]
        return rows

    def picks_of(self, rows: np.ndarray) -> np.ndarray:
        """Flat indices ``(N, G)`` of the choices in rows of the space.

        Raises:
            CompressionError: A row holds a choice without a price.
        """
        rows = np.atleast_2d(rows)
        picks = np.empty((len(rows), len(self.groups)), int)
        for g, group in enumerate(self.groups):
            same = (rows[:, None, group.columns] == group.values).all(-1)
            if not same.any(1).all():
                raise CompressionError(
                    'A policy holds a choice that has no price; compute prices for '
                    'this search space.')
            picks[:, g] = self.start[g] + same.argmax(1)
        return picks

    def covers(self, row: np.ndarray) -> bool:
        """Whether every choice in a row ``(D,)`` of the space has a price."""
        return all((row[list(g.columns)] == g.values).all(1).any() for g in self.groups)

    def of_rows(self, rows: np.ndarray) -> np.ndarray:
        """Predicted loss increase ``(N,)`` of rows of the space."""
        return self.price[self.picks_of(rows)].sum(1)

    # -- files -------------------------------------------------------------------
    def save(self, path: str | os.PathLike) -> None:
        """Write as JSON; the file appears complete or not at all."""
        groups = [dict(columns=list(g.columns), values=g.values.tolist(),
                       prices=g.prices.tolist()) for g in self.groups]
        write_text(path, json.dumps(dict(
            format=FORMAT, version=VERSION, base=self.base.tolist(), groups=groups)))

    @classmethod
    def load(cls, path: str | os.PathLike) -> PriceTable:
        """Read what :meth:`save` wrote.

        Raises:
            CompressionError: Not a price table, or damaged.
        """
        try:
            data = read_json(path)
            if (data['format'], data['version']) != (FORMAT, VERSION):
                raise ValueError('another format or version')
            groups = tuple(
                PriceGroup(tuple(g['columns']), np.array(g['values'], int),
                           np.array(g['prices'], float)) for g in data['groups'])
            return cls(groups, np.array(data['base'], int))
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise CompressionError(
                f'{path} is not a readable price table ({error!r}); delete it to '
                'compute the prices again.') from error
