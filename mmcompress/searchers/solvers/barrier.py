"""Policies for many budgets at once, by gradient ascent through a predictor."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from ...costs import Costs, Target
from ..grid import Grid
from ..predictors import Predictor
from .rounding import Budgets, decode

CHECK = 8
HELPFUL = 0.75


@dataclass(frozen=True, eq=False)
class Answers:
    """Policies that meet their budgets, best predicted first.

    Args:
        rows (np.ndarray): ``(T, S, D)``, S policies for each of T targets, each from
            another start. Different starts may have led to the same policy.
        mean, std (np.ndarray): Predicted scores and their deviations, ``(T, S)``.
    """

    rows: np.ndarray
    mean: np.ndarray
    std: np.ndarray


def solve(
    predictor: Predictor,
    costs: Costs,
    targets: Sequence[Target],
    starts: int = 10,
    steps: int = 40,
    decoded: int = 3,
    seed: int = 0,
    step: float = 0.05,
    barrier: tuple[float, float] = (0.3, 0.003),
) -> Answers:
    """Find the policies of the highest predicted score within each budget.

    Every budget is minimised from every start in one batch: ``-f(x) - mu log(1 -
    C(x) / B)`` with a falling ``mu`` (SeerNet, arXiv 2304.06393; there ``-log f``,
    which has the same optima but needs positive scores). ``f`` counts in units of
    its spread over the starts. The result is rounded to choices, repaired until it
    is feasible, and the slack is filled by predicted gain per cost.

    Args:
        predictor (Predictor): Fitted; gives f.
        costs (Costs): Costs over the predictor's space; C.
        targets (Sequence[Target]): Budgets, attainable; costs may differ.
        starts (int): Starts per budget; the first is uniform, the others random.
            Defaults to 10.
        steps (int): Gradient steps. Defaults to 40.
        decoded (int): Best starts of each budget that are rounded. Defaults to 3.
        seed (int): Seed of the starts, which all budgets share. Defaults to 0.
        step (float): First step, as a share of the range of a column. Defaults to
            0.05.
        barrier (tuple[float, float]): First and last ``mu``.

    Returns:
        Answers: S = ``decoded`` policies per target.
    """
    grid = Grid.of(costs.space)
    budgets = Budgets(costs, [t for t in targets for _ in range(starts)])
    generator = np.random.default_rng(seed)
    place = _starts(grid, starts, generator)
    unit = _spread(predictor, grid, place)
    place = _inside(grid, budgets, place.repeat(len(targets), 1))
    place, value = _ascend(
        predictor, grid, budgets, place, steps, step, barrier, unit)
    kept = min(decoded, starts)
    which = value.view(-1, starts).topk(kept, dim=1, largest=False).indices
    which = (which + starts * torch.arange(len(targets))[:, None]).flatten()
    budgets = Budgets(costs, [t for t in targets for _ in range(kept)])
    rows = grid.rows(decode(predictor, grid, budgets, place[which]))
    with torch.no_grad():
        mean, std = predictor.predict(rows)
    mean, std = mean.view(-1, kept), std.view(-1, kept)
    order = mean.argsort(dim=1, descending=True, stable=True)
    rows = rows.reshape(len(targets), kept, -1)
    return Answers(
        np.take_along_axis(rows, order[..., None].numpy(), 1),
        mean.gather(1, order).numpy(), std.gather(1, order).numpy())


def _starts(grid: Grid, count: int, rng: np.random.Generator) -> Tensor:
    """Places ``(count, D)`` between 0 and 1 that differ in level and evenness."""
    level = rng.uniform(0.3, 1.0, (count, 1))
    spread = rng.uniform(0.1, 1.0, (count, 1))
    place = level + spread * rng.uniform(-1, 1, (count, len(grid.top)))
    place[0] = 1.0
    return torch.from_numpy(np.clip(place, 0, 1))


def _inside(grid: Grid, budgets: Budgets, place: Tensor) -> Tensor:
    """Scale places towards the lowest choices until nine tenths are spent."""
    low, high = torch.zeros(len(place), 1), torch.ones(len(place), 1)
    low, high = low.double(), high.double()
    for _ in range(10):
        middle = (low + high) / 2
        fits = budgets.share(grid.values_at(place * middle))[:, None] <= 0.9
        low, high = torch.where(fits, middle, low), torch.where(fits, high, middle)
    return place * low


def _ascend(
    predictor: Predictor,
    grid: Grid,
    budgets: Budgets,
    place: Tensor,
    steps: int,
    step: float,
    barrier: tuple[float, float],
    unit: Tensor,
) -> tuple[Tensor, Tensor]:
    """Momentum with steps that halve where they stop helping; see :func:`solve`.

    Returns places ``(N, D)`` and their objective ``(N,)``.

    Each coordinate is divided by the running size of its gradient (Kingma & Ba
    2015): next to the barrier the expensive columns' gradients dwarf the others.
    Every ``CHECK`` steps a row of which fewer than ``HELPFUL`` improved halves its
    step and goes back to its best place (Croce & Hein 2020).
    """
    length = torch.full((len(place), 1), step, dtype=place.dtype)
    first, second = torch.zeros_like(place), torch.zeros_like(place)
    best, best_value = place, torch.full((len(place),), torch.inf, dtype=place.dtype)
    last_value, helped = best_value, torch.zeros_like(best_value)
    for i in range(steps):
        done = i / max(steps - 1, 1)
        mu = barrier[0] * (barrier[1] / barrier[0]) ** done
        value, gradient = _objective(predictor, grid, budgets, place, mu, unit)
        helped = helped + (value < last_value)
        last_value = value
        better = value < best_value
        best = torch.where(better[:, None], place, best)
        best_value = torch.where(better, value, best_value)
        if (i + 1) % CHECK == 0:
            stuck = (helped < HELPFUL * CHECK)[:, None]
            length = torch.where(stuck, length / 2, length)
            place = torch.where(stuck, best, place)
            helped = torch.zeros_like(helped)
            # The objective changes with mu, so that old values say little.
            best_value = torch.where(stuck[:, 0], best_value, torch.inf)
        first = 0.9 * first + 0.1 * gradient
        second = 0.95 * second + 0.05 * gradient ** 2
        scale = (second / (1 - 0.95 ** (i + 1))).sqrt() + 1e-12
        direction = first / (1 - 0.9 ** (i + 1)) / scale
        place = (place - length * direction).clamp(0, 1)
    value, _ = _objective(predictor, grid, budgets, place, barrier[1], unit)
    return place, value


def _objective(
    predictor: Predictor,
    grid: Grid,
    budgets: Budgets,
    place: Tensor,
    mu: float,
    unit: Tensor,
) -> tuple[Tensor, Tensor]:
    """Value ``(N,)`` and gradient ``(N, D)``."""
    place = place.detach().requires_grad_()
    rows = grid.values_at(place)
    score = predictor.mean(predictor.features(rows)) / unit
    value = -score + mu * _log_barrier(1 - budgets.share(rows), mu)
    gradient, = torch.autograd.grad(value.sum(), place)
    return value.detach(), gradient


def _log_barrier(slack: Tensor, mu: float) -> Tensor:
    """``-log(slack)``, continued by its parabola below a small slack.

    The continuation (Feller & Ebenbauer 2017) is finite everywhere, so a step that
    leaves the budget is pulled back by the next ones instead of failing.
    """
    edge = max(0.1 * mu, 1e-3)
    inside = slack.clamp_min(edge)
    depth = (edge - slack).clamp_min(0) / edge
    return -inside.log() + depth + depth ** 2 / 2


def _spread(predictor: Predictor, grid: Grid, place: Tensor) -> Tensor:
    with torch.no_grad():
        score = predictor.mean(predictor.features(grid.values_at(place)))
    spread = score.std(correction=0)
    return spread if spread > 0 else torch.ones_like(spread)
