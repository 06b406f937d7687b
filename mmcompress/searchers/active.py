"""Which policies are worth a label: acquisitions, and evolution towards them."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from ..errors import PredictorError
from ..policy import SearchSpace
from .grid import Grid
from .predictors import Predictor
from .variation import mixed

PIECE = 16384
"""Rows predicted at a time, so that memory stays small."""

Acquisition = Callable[[Predictor, np.ndarray, np.random.Generator], np.ndarray]


def counterfactual(
    predictor: Predictor, rows: np.ndarray, rng: np.random.Generator
) -> np.ndarray:
    """How much the prediction changes where one decision is a level lower.

    ``U(x) = mean over x' in C(x) of (f(x') - f(x))^2``, with C(x) the policies
    with one column at the next lower choice (SeerNet, arXiv 2304.06393).

    Args:
        predictor (Predictor): Fitted; f.
        rows (np.ndarray): Policies ``(N, D)``.
        rng (np.random.Generator): Not used.

    Returns:
        np.ndarray: ``(N,)``, the more the better a label.
    """
    changed, exists = _one_lower(predictor.space, rows)
    there = _mean(predictor, changed.reshape(-1, rows.shape[1])).reshape(exists.shape)
    squared = (there - _mean(predictor, rows)[:, None]) ** 2 * exists
    return squared.sum(1) / exists.sum(1).clip(1)


def variance(
    predictor: Predictor, rows: np.ndarray, rng: np.random.Generator
) -> np.ndarray:
    """Predicted variance; of an ensemble, how much its members disagree."""
    with torch.no_grad():
        return (predictor.predict(rows)[1] ** 2).numpy()


def arbitrary(
    predictor: Predictor, rows: np.ndarray, rng: np.random.Generator
) -> np.ndarray:
    """Any policy is as good as any other."""
    return rng.random(len(rows))


ACQUISITIONS: dict[str, Acquisition] = dict(
    counterfactual=counterfactual, variance=variance, random=arbitrary)


def acquisition(name: str) -> Acquisition:
    """Look an acquisition up.

    Raises:
        PredictorError: There is none of this name.
    """
    if name not in ACQUISITIONS:
        raise PredictorError(
            f'Unknown acquisition {name!r}; use one of {", ".join(ACQUISITIONS)}.')
    return ACQUISITIONS[name]


def counterfactual_weights(
    predictor: Predictor, rows: np.ndarray, scores: np.ndarray
) -> np.ndarray:
    """Weights of labels in the loss of the next fit, mean 1.

    ``w_i ~ mean over x' in C(x_i) of |f(x') - y_i|`` (SeerNet). They are bounded to
    a factor of 4 either way, so that few labels cannot take a fit over.
    """
    changed, exists = _one_lower(predictor.space, rows)
    there = _mean(predictor, changed.reshape(-1, rows.shape[1])).reshape(exists.shape)
    raw = (np.abs(there - scores[:, None]) * exists).sum(1) / exists.sum(1).clip(1)
    raw = raw / raw.mean() if raw.mean() > 0 else np.ones(len(raw))
    return raw.clip(0.25, 4.0) / raw.clip(0.25, 4.0).mean()


def _mean(predictor: Predictor, rows: np.ndarray) -> np.ndarray:
    with torch.no_grad():
        parts = torch.from_numpy(rows).split(PIECE)
        return torch.cat(
            [predictor.mean(predictor.features(part)) for part in parts]).numpy()


def _one_lower(space: SearchSpace, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Rows ``(N, F, D)`` with free column f one choice lower; whether there is one."""
    grid, free = Grid.of(space), space.free
    index = grid.floor(np.asarray(rows, float))
    lower = grid.rows(np.maximum(index - 1, 0))
    changed = np.repeat(np.asarray(rows)[:, None], len(free), axis=1)
    at = np.arange(len(free))
    changed[:, at, free] = lower[:, free]
    return changed, index[:, free] > 0


def evolve(
    space: SearchSpace,
    merit: Callable[[np.ndarray], np.ndarray],
    start: np.ndarray,
    rng: np.random.Generator,
    generations: int = 30,
    mutation: float = 0.1,
) -> tuple[np.ndarray, np.ndarray]:
    """Evolve policies on the grid of choices; the best are never lost.

    Each generation keeps the better half and replaces the other by mutants, by
    crossings and by fresh random policies (a half, three eighths, an eighth).

    Args:
        space (SearchSpace): The grid.
        merit (Callable): From rows ``(N, D)`` to values; -inf is not allowed.
        start (np.ndarray): First population ``(P, D)``.
        rng (np.random.Generator): Source of randomness.
        generations (int): Defaults to 30.
        mutation (float): Share of columns that a mutant changes. Defaults to 0.1.

    Returns:
        tuple[np.ndarray, np.ndarray]: Distinct rows, best first, and their merit.
    """
    grid = Grid.of(space)
    index = grid.floor(np.asarray(start, float))
    value = merit(grid.rows(index))
    size = len(index)
    for _ in range(generations):
        order = np.argsort(-value, kind='stable')[:(size + 1) // 2]
        index, value = index[order], value[order]
        children = _children(grid, index, size - len(index), mutation, rng)
        index = np.concatenate([index, children])
        value = np.concatenate([value, merit(grid.rows(children))])
    rows, first = np.unique(grid.rows(index), axis=0, return_index=True)
    value = value[first]
    order = np.argsort(-value, kind='stable')
    order = order[np.isfinite(value[order])]
    return rows[order], value[order]


def _children(
    grid: Grid, parents: np.ndarray, count: int, mutation: float,
    rng: np.random.Generator,
) -> np.ndarray:
    """Indices ``(count, D)``."""
    first, second = parents[rng.integers(len(parents), size=(2, count))]
    fresh = rng.integers(0, grid.top + 1, size=first.shape)
    kind = np.arange(count)[:, None] * 8 // max(count, 1)
    mutant, crossed = kind < 4, (kind >= 4) & (kind < 7)
    share = np.where(mutant, mutation, np.where(crossed, 0.5, 1.0))
    return mixed(
        np.where(crossed, second, first), np.where(crossed, first, fresh), share, rng)


def diverse(
    predictor: Predictor, rows: np.ndarray, count: int, known: np.ndarray
) -> np.ndarray:
    """Pick rows far apart from each other and from labelled ones.

    The first row, the best one, is taken; then always the one farthest from all
    taken and known ones, by features (Gonzalez 1985).

    Args:
        predictor (Predictor): Gives the features.
        rows (np.ndarray): Candidates ``(N, D)``, best first.
        count (int): How many.
        known (np.ndarray): Labelled rows ``(M, D)``.

    Returns:
        np.ndarray: ``(min(count, N), D)``.
    """
    seen = predictor.features(np.concatenate([rows, known.reshape(-1, rows.shape[1])]))
    candidates, labelled = seen[:len(rows)], seen[len(rows):]
    gap = torch.full((len(rows),), torch.inf, dtype=torch.float64)
    if len(labelled):
        gap = torch.cdist(candidates, labelled).min(1).values
    taken: list[int] = []
    for _ in range(min(count, len(rows))):
        best = int(gap.argmax()) if taken else 0
        taken.append(best)
        gap = torch.minimum(gap, _distance(candidates, candidates[best]))
        gap[taken] = -1
    return rows[taken]


def _distance(many: Tensor, one: Tensor) -> Tensor:
    return ((many - one) ** 2).sum(1).sqrt()
