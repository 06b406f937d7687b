"""The scatter plot of the HTML report, in pixels.

A plotting library embedded in the page would be megabytes; this is a few
kilobytes of SVG, follows the colours of the page and is complete without scripts.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil, floor, isfinite, log10

from .formats import cost_label, format_cost, format_score
from .panels import Budget, Panel

WIDTH, HEIGHT = 900, 430
LEFT, RIGHT, TOP, BOTTOM = 66, 22, 30, 52
MIDDLE = (TOP + HEIGHT - BOTTOM) / 2


@dataclass(frozen=True)
class Axis:
    """A linear map from values to pixels.

    Args:
        low, high (float): Values at the ends.
        start, end (float): Pixels at the ends.
    """

    low: float
    high: float
    start: float
    end: float

    def __call__(self, value: float) -> float:
        share = (value - self.low) / (self.high - self.low)
        return round(self.start + share * (self.end - self.start), 1)


@dataclass(frozen=True)
class Mark:
    """A point that stands out: where it lies, its score, and more on hovering."""

    x: float
    y: float
    score: str
    tip: str


@dataclass(frozen=True)
class Drawing:
    """A panel as it is drawn; positions are pixels.

    Args:
        panel (Panel): What is shown.
        x, y (Axis): Its axes.
        columns, rows (tuple[tuple[float, str], ...]): Grid lines and their labels.
        budgets (tuple[tuple[float, str], ...]): Where they lie, and what they allow.
        front (str): Path through the points that no other one beats; may be empty.
        dots (tuple[tuple[int, float, float], ...]): Every policy's number, x and y.
        best (tuple[Mark, ...]): The best of each target, once each.
        dense (Mark, optional): The dense model.
        is_cut (bool): Whether the dense model lies beyond the end of the cost axis.
    """

    panel: Panel
    x: Axis
    y: Axis
    columns: tuple[tuple[float, str], ...]
    rows: tuple[tuple[float, str], ...]
    budgets: tuple[tuple[float, str], ...]
    front: str
    dots: tuple[tuple[int, float, float], ...]
    best: tuple[Mark, ...]
    dense: Mark | None
    is_cut: bool = False


def ticks(low: float, high: float, count: int = 6) -> tuple[float, ...]:
    """Round numbers between ``low`` and ``high``, 1-2-5 apart."""
    span = high - low
    if not (isfinite(span) and span > 0):
        return (low,)
    wanted = span / count * (1 - 1e-9)
    power = 10.0 ** floor(log10(span / count))
    step = next(m * power for m in (1, 2, 5, 10) if m * power >= wanted)
    first, last = ceil(low / step - 1e-9), floor(high / step + 1e-9)
    return tuple(round(i * step, 12) for i in range(first, last + 1))


def _padded(values: Sequence[float], share: float) -> tuple[float, float]:
    low, high = min(values, default=0.0), max(values, default=1.0)
    pad = (high - low) * share or abs(high) * 0.1 or 1.0
    return low - pad, high + pad


def axes_of(panel: Panel) -> tuple[Axis, Axis]:
    """Axes that hold everything the panel shows."""
    dense = [panel.dense] if panel.dense else []
    xs = [*panel.xs, *(b.limit for b in panel.budgets)]
    if not panel.is_cut:
        xs += [d[0] for d in dense]
    ys = [*panel.scores, *(d[1] for d in dense)]
    x0, x1 = _padded(xs, 0.05)
    y0, y1 = _padded(ys, 0.08)
    if ys and min(ys) >= 0:
        y0 = max(y0, -0.02 * (y1 - y0))
    return (Axis(max(x0, 0.0), x1, LEFT, WIDTH - RIGHT),
            Axis(y0, y1, HEIGHT - BOTTOM, TOP))


def draw(panel: Panel, decimals: int) -> Drawing:
    """Lay a panel out; scores are written with so many decimals."""
    x, y = axes_of(panel)
    won = {b.number: b for b in reversed(panel.budgets) if b.x is not None}
    best = [b for b in panel.budgets if b is won.get(b.number)]
    dense = None
    if panel.dense:
        score = format_score(panel.dense[1], decimals)
        at = x.end - 8 if panel.is_cut else x(panel.dense[0])
        dense = Mark(
            at, y(panel.dense[1]), f'{score} at 100 % →' if panel.is_cut else score,
            f'Dense model\nscore {score}\n' + format_cost(panel.cost, panel.scale))
    return Drawing(
        panel, x, y,
        tuple((x(v), _tick_label(panel, v)) for v in ticks(x.low, x.high, 9)),
        tuple((y(v), f'{v:g}') for v in ticks(y.low, y.high)),
        tuple((x(b.limit), b.label + ('' if b.x is not None else ', not met'))
              for b in panel.budgets),
        _front(panel, x, y),
        tuple((n, x(a), y(b))
              for n, a, b in zip(panel.numbers, panel.xs, panel.scores)),
        tuple(_best(panel, b, x, y, decimals) for b in best), dense, panel.is_cut)


def _tick_label(panel: Panel, value: float) -> str:
    return (f'{100 * value:g} %' if panel.relative
            else format_cost(panel.cost, value * panel.scale))


def _front(panel: Panel, x: Axis, y: Axis) -> str:
    if not panel.front:
        return ''
    (first, score), *rest = panel.front
    return f'M{x(first)} {y(score)}' + ''.join(f'H{x(a)}V{y(b)}' for a, b in rest)


def _best(panel: Panel, budget: Budget, x: Axis, y: Axis, decimals: int) -> Mark:
    score = format_score(budget.score, decimals)
    return Mark(
        x(budget.x), y(budget.score), score,
        f'Best for {cost_label(panel.cost)} {budget.label}\n'
        f'policy {budget.number}\nscore {score}\n'
        + format_cost(panel.cost, budget.x * panel.scale))
