"""What a trade-off plot shows, as numbers: one panel per cost."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from .formats import cost_label, limit_label
from .tradeoff import Scored, Tradeoff


@dataclass(frozen=True)
class Budget:
    """A target on the cost axis.

    Args:
        name (str): Name of the target.
        label (str): What it allows, e.g. ``<= 50 %``.
        limit (float): Position on the axis.
        number (int, optional): Best evaluated policy within the budget.
        x, score (float, optional): Where that policy lies.
    """

    name: str
    label: str
    limit: float
    number: int | None = None
    x: float | None = None
    score: float | None = None


@dataclass(frozen=True)
class Panel:
    """Score against one cost.

    Args:
        cost (str): Name of the cost.
        label (str): Axis title.
        scale (float): Cost at 1 on the axis: the dense cost, or 1 if the dense
            cost is not known.
        relative (bool): Whether the axis is a share of the dense cost.
        numbers (tuple[int, ...]): Numbers of the policies.
        xs, scores (tuple[float, ...]): Where they lie.
        front (tuple[tuple[float, float], ...]): Points that no other one beats,
            by ascending cost.
        budgets (tuple[Budget, ...]): Targets on this cost.
        dense (tuple[float, float], optional): The dense model.
    """

    cost: str
    label: str
    scale: float
    relative: bool
    numbers: tuple[int, ...]
    xs: tuple[float, ...]
    scores: tuple[float, ...]
    front: tuple[tuple[float, float], ...]
    budgets: tuple[Budget, ...]
    dense: tuple[float, float] | None

    @property
    def is_cut(self) -> bool:
        """Whether the axis ends before the dense model: half of it would be empty."""
        xs = [*self.xs, *(b.limit for b in self.budgets)]
        return bool(self.dense and xs) and (
            self.dense[0] - max(xs) > max(xs) - min(xs) + CLOSE)


CLOSE = 0.1
"""Distance of the dense model, in its cost, that is shown however empty."""


def front_of(
    pairs: Sequence[tuple[float, float]],
) -> tuple[tuple[float, float], ...]:
    """Pairs (cost, score) that no other pair beats, by ascending cost."""
    front: list[tuple[float, float]] = []
    for cost, score in sorted(pairs, key=lambda p: (p[0], -p[1])):
        if not front or score > front[-1][1]:
            front.append((cost, score))
    return tuple(front)


def panel_costs(tradeoff: Tradeoff) -> tuple[str, ...]:
    """Costs that the search had targets on, in the order written."""
    return tuple(dict.fromkeys(t.cost for t in tradeoff.targets)) or ('macs',)


def make_panel(tradeoff: Tradeoff, cost: str) -> Panel:
    """Lay out score against ``cost``; points whose cost is unknown are left out."""
    dense = tradeoff.dense.get(cost)
    relative = bool(dense)
    scale = dense or 1.0
    points: list[Scored] = [p for p in tradeoff.points if cost in p.costs]
    xs = tuple(p.costs[cost] / scale for p in points)
    scores = tuple(p.score for p in points)
    by_number = {p.number: p for p in points}
    budgets = []
    for target, number in zip(tradeoff.targets, tradeoff.best):
        if target.cost != cost:
            continue
        won = by_number.get(number)
        budgets.append(Budget(
            target.name, limit_label(target, dense), target.limit / scale, number,
            won.costs[cost] / scale if won else None, won.score if won else None))
    label = f'{cost_label(cost)}, share of dense' if relative else cost_label(cost)
    known = relative and tradeoff.dense_score is not None
    return Panel(
        cost, label, scale, relative, tuple(p.number for p in points), xs, scores,
        front_of(tuple(zip(xs, scores))), tuple(budgets),
        (1.0, tradeoff.dense_score) if known else None)


def make_panels(
    tradeoff: Tradeoff, costs: Sequence[str] | None = None
) -> tuple[Panel, ...]:
    """One panel per cost; by default per cost that has a target."""
    return tuple(make_panel(tradeoff, c) for c in costs or panel_costs(tradeoff))
