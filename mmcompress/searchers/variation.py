"""How searchers make policies out of others: crossover and mutation of rows."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..policy import SearchSpace


def mixed(
    first: np.ndarray, second: np.ndarray, share: float | np.ndarray,
    rng: np.random.Generator,
) -> np.ndarray:
    """Take each column from the second of two rows ``(N, D)`` with a probability.

    ``share`` is that probability; it broadcasts to ``(N, D)``.
    """
    return np.where(rng.random(first.shape) < share, second, first)


@dataclass(frozen=True)
class Crossover:
    """Uniform crossover: each column comes from either parent.

    Args:
        rate (float | None): Probability that a child has a second parent at all.
            Defaults to None: every child has.
    """

    rate: float | None = None

    def __call__(
        self, first: np.ndarray, second: np.ndarray, rng: np.random.Generator
    ) -> np.ndarray:
        """Children ``(N, D)`` of parents ``(N, D)``."""
        share = 0.5
        if self.rate is not None:
            share = np.where(rng.random((len(first), 1)) < self.rate, 0.5, 0.0)
        return mixed(first, second, share, rng)


@dataclass(frozen=True)
class Mutation:
    """Which columns a mutation changes.

    Args:
        space (SearchSpace): The space of the rows.
        share (float): Probability of a column to change.
        at_least_one (bool): Whether one free column of every row changes in any
            case. Defaults to True.
    """

    space: SearchSpace
    share: float
    at_least_one: bool = True

    def changed(
        self, shape: tuple[int, int], rng: np.random.Generator
    ) -> np.ndarray:
        """Draw booleans of a shape ``(N, D)``."""
        changed = rng.random(shape) < self.share
        free = self.space.free
        if self.at_least_one and len(free):
            drawn = free[rng.integers(len(free), size=shape[0])]
            changed[np.arange(shape[0]), drawn] = True
        return changed


class Redraw(Mutation):
    """Columns that change take any of their choices."""

    def __call__(self, rows: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Mutants ``(N, D)`` of rows of the space."""
        drawn = np.stack(
            [rng.choice(choice, len(rows)) for choice in self.space.choices], 1)
        return np.where(self.changed(rows.shape, rng), drawn, rows)


@dataclass(frozen=True)
class Steps(Mutation):
    """Columns that change take a normal step, off the choices and out of the range.

    Args:
        step (float): Standard deviation, as a share of the column's range.
            Defaults to 0.25.
    """

    step: float = 0.25

    def __call__(self, rows: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Real-valued mutants ``(N, D)``; see also :func:`reflect`."""
        changed = self.changed(rows.shape, rng)
        reach = self.space.highest - self.space.lowest
        moved = rows + rng.normal(0, self.step, rows.shape) * reach
        return np.where(changed, moved, rows)


def reflect(space: SearchSpace, rows: np.ndarray) -> np.ndarray:
    """Mirror what left the range: clipped, the ends would attract everything."""
    low, high = space.lowest, space.highest
    rows = np.where(rows < low, 2 * low - rows, rows)
    return np.where(rows > high, 2 * high - rows, rows)
