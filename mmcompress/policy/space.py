"""The allowed widths and bits, and policies as rows of numbers."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from math import ceil
from typing import TypeVar

import numpy as np

from ..errors import PolicyError
from .policy import FLOAT, Bits, Policy
from .units import ChannelUnit, ModelGraph

Rows = TypeVar('Rows')
"""An array or a tensor whose last axis is a row of a space."""


def width_choices(
    unit: ChannelUnit, divisor: int = 8, min_ratio: float = 0.1,
    step: float | None = None,
) -> tuple[int, ...]:
    """Widths of one unit whose real channel count is a multiple of ``divisor``.

    The dense width is always allowed, and a unit of fewer than two times ``divisor``
    channels may take any width from its floor.

    Args:
        unit (ChannelUnit): The unit.
        divisor (int): Real channel counts to allow. Defaults to 8.
        min_ratio (float): Smallest kept share. Defaults to 0.1.
        step (float | None): Allow only the widths nearest to the shares
            ``min_ratio``, ``min_ratio + step``, ... 1. Defaults to None: all.

    Returns:
        tuple[int, ...]: Ascending widths; the last one is the dense width.
    """
    floor = max(1, ceil(min_ratio * unit.width - 1e-9))
    widths = range(floor, unit.width + 1)
    if unit.width * unit.granularity >= 2 * divisor:
        widths = [w for w in widths if w * unit.granularity % divisor == 0]
    choices = np.array(sorted({*widths, unit.width}))
    if step is not None:
        wanted = unit.width * np.arange(min_ratio, 1 + 1e-9, step)
        nearest = np.abs(choices - wanted[:, None]).argmin(1)
        choices = np.append(choices[np.unique(nearest)], unit.width)
    return tuple(np.unique(choices).tolist())


@dataclass(frozen=True)
class SearchSpace:
    """Choices of every unit and layer, in a fixed order.

    A policy is encoded as one row of ``len(space)`` numbers: the widths in the
    order of ``units``, then the weight bits and the activation bits in the order
    of ``layers``. Costs and predictors work on such rows. Nobody else counts the
    columns: ``widths``, ``weight_bits``, ``activation_bits`` and ``bits`` (both) are
    slices of a row, and :meth:`split` takes rows apart.

    Examples:
        >>> space = SearchSpace(('u',), ('l',), ((4, 8), (8, 32), (32,)))
        >>> row = space.lowest
        >>> row[space.widths], row[space.bits]
        (array([4]), array([ 8, 32]))
        >>> widths, weight_bits, activation_bits = space.split(row)

    Args:
        units (tuple[str, ...]): Unit names.
        layers (tuple[str, ...]): Layer names.
        choices (tuple[tuple[int, ...], ...]): Ascending allowed values of every
            column. The last value of a column is the uncompressed one.
    """

    units: tuple[str, ...]
    layers: tuple[str, ...]
    choices: tuple[tuple[int, ...], ...]

    def __post_init__(self) -> None:
        assert len(self.choices) == len(self.units) + 2 * len(self.layers)
        assert all(c and list(c) == sorted(set(c)) for c in self.choices)

    @classmethod
    def from_graph(
        cls,
        graph: ModelGraph,
        divisor: int = 8,
        min_ratio: float = 0.1,
        weight_bits: Sequence[int] | dict[str, Sequence[int]] = (FLOAT,),
        activation_bits: Sequence[int] | dict[str, Sequence[int]] = (FLOAT,),
        prune: bool = True,
        step: float | None = None,
        dense: Sequence[str] = (),
    ) -> SearchSpace:
        """Build the space of a traced model.

        Args:
            graph (ModelGraph): The traced model.
            divisor, min_ratio, step: See :func:`width_choices`.
            weight_bits, activation_bits: Allowed bits of every layer, or by layer
                name (layers that are absent stay in float).
            prune (bool): Whether widths may change. Defaults to True.
            dense (Sequence[str]): Names or patterns of units that keep their width.

        Raises:
            PolicyError: A pattern matches no unit.
        """
        names = [unit.name for unit in graph.units]
        for pattern in dense:
            if not any(fnmatchcase(name, pattern) for name in names):
                raise PolicyError(
                    f'{pattern!r} in dense matches no unit; the units start with: '
                    f'{", ".join(names[:5])}.')

        def may_change(unit: ChannelUnit) -> bool:
            return prune and not any(fnmatchcase(unit.name, p) for p in dense)

        def bits(spec: Sequence[int] | dict, layer: str) -> tuple[int, ...]:
            allowed = spec.get(layer, (FLOAT,)) if isinstance(spec, dict) else spec
            return tuple(sorted(set(allowed)))

        names = tuple(layer.name for layer in graph.layers)
        widths = [
            width_choices(u, divisor, min_ratio, step) if may_change(u)
            else (u.width,)
            for u in graph.units
        ]
        return cls(
            tuple(u.name for u in graph.units),
            names,
            (*widths,
             *(bits(weight_bits, n) for n in names),
             *(bits(activation_bits, n) for n in names)),
        )

    def __len__(self) -> int:
        return len(self.choices)

    @property
    def widths(self) -> slice:
        """Columns of the widths."""
        return slice(0, len(self.units))

    @property
    def bits(self) -> slice:
        """Columns of all bits."""
        return slice(len(self.units), len(self))

    @property
    def weight_bits(self) -> slice:
        """Columns of the weight bits."""
        return slice(len(self.units), len(self.units) + len(self.layers))

    @property
    def activation_bits(self) -> slice:
        """Columns of the activation bits."""
        return slice(len(self.units) + len(self.layers), len(self))

    def split(self, rows: Rows) -> tuple[Rows, Rows, Rows]:
        """Take rows ``(..., D)`` apart: widths, weight bits, activation bits."""
        return tuple(rows[..., columns] for columns in (
            self.widths, self.weight_bits, self.activation_bits))

    @property
    def free(self) -> np.ndarray:
        """Indices of the columns with more than one choice."""
        return np.array([i for i, c in enumerate(self.choices) if len(c) > 1], int)

    @property
    def lowest(self) -> np.ndarray:
        """Row of the smallest choice of every column."""
        return np.array([c[0] for c in self.choices], dtype=np.int64)

    @property
    def highest(self) -> np.ndarray:
        """Row of the largest choice of every column: the least compressed."""
        return np.array([c[-1] for c in self.choices], dtype=np.int64)

    def encode(self, policies: Policy | Iterable[Policy]) -> np.ndarray:
        """Turn policies into rows.

        Returns:
            np.ndarray: Integers of shape ``(N, len(self))``; one policy gives one
            row (N = 1).
        """
        if isinstance(policies, Policy):
            policies = [policies]
        dense = self.highest
        dense[self.bits] = FLOAT
        rows = []
        for policy in policies:
            row = dense.copy()
            widths, *bits = self.split(row)
            widths[:] = [policy.widths.get(*pair) for pair in zip(self.units, widths)]
            for i, name in enumerate(self.layers):
                if name in policy.bits:
                    bits[0][i], bits[1][i] = policy.bits[name]
            rows.append(row)
        return np.array(rows, dtype=np.int64).reshape(-1, len(self))

    def decode(self, rows: np.ndarray) -> list[Policy]:
        """Turn rows into policies; layers in float are left out of ``bits``."""
        policies = []
        for row in np.atleast_2d(np.asarray(rows)).astype(int):
            widths, *sides = (part.tolist() for part in self.split(row))
            bits = {name: Bits(*pair) for name, *pair in zip(self.layers, *sides)}
            bits = {name: b for name, b in bits.items() if not b.is_float}
            policies.append(Policy(dict(zip(self.units, widths)), bits))
        return policies

    def snap(self, rows: np.ndarray) -> np.ndarray:
        """Move every entry to the nearest allowed value (ties go down)."""
        rows = np.atleast_2d(np.asarray(rows, dtype=float))
        out = np.empty(rows.shape, dtype=np.int64)
        for i, choice in enumerate(self.choices):
            values = np.asarray(choice)
            middles = (values[1:] + values[:-1]) / 2
            out[:, i] = values[np.searchsorted(middles, rows[:, i], side='left')]
        return out

    def check(self, policy: Policy) -> None:
        """Raise :class:`PolicyError` if ``policy`` is not in this space."""
        for kind, given, known in (
            ('unit', policy.widths, self.units), ('layer', policy.bits, self.layers)
        ):
            if unknown := sorted(set(given) - set(known)):
                raise PolicyError(
                    f'The policy names the {kind} {unknown[0]!r}, which this model '
                    f'does not have. Known {kind}s start with: '
                    f'{", ".join(known[:5])}. Use a policy searched on this model.')
        columns = [
            *(('width', name) for name in self.units),
            *((f'{side} bits', name) for side in ('weight', 'activation')
              for name in self.layers)]
        row = self.encode(policy)[0].tolist()
        for (what, name), value, allowed in zip(columns, row, self.choices):
            if value not in allowed:
                raise PolicyError(
                    f'{what} {value} of {name!r} is outside the search space; allowed: '
                    f'{", ".join(map(str, allowed))}. Change the policy or widen the '
                    'space (divisor, min_ratio, bits).')
