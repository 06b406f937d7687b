"""The scatter plot of the HTML report, drawn by hand as SVG.

A plotting library embedded in the page would be megabytes; this is a few
kilobytes, follows the colours of the page and is complete without scripts.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from math import ceil, floor, isfinite, log10

from ._format import cost_label, format_cost, format_score
from .panels import Panel

WIDTH, HEIGHT = 900, 430
LEFT, RIGHT, TOP, BOTTOM = 66, 22, 30, 52


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
    xs = [*panel.xs, *(b.limit for b in panel.budgets), *(d[0] for d in dense)]
    ys = [*panel.scores, *(d[1] for d in dense)]
    x0, x1 = _padded(xs, 0.05)
    y0, y1 = _padded(ys, 0.08)
    if ys and min(ys) >= 0:
        y0 = max(y0, -0.02 * (y1 - y0))
    return (Axis(max(x0, 0.0), x1, LEFT, WIDTH - RIGHT),
            Axis(y0, y1, HEIGHT - BOTTOM, TOP))


def _text(x: float, y: float, text: str, css: str = '', more: str = '') -> str:
    return f'<text x="{x}" y="{y}" class="{css}" {more}>{escape(text)}</text>'


def _tick_label(panel: Panel, value: float) -> str:
    return (f'{100 * value:g} %' if panel.relative
            else format_cost(panel.cost, value * panel.scale))


def _grid(panel: Panel, x: Axis, y: Axis) -> list[str]:
    parts = []
    for value in ticks(x.low, x.high, 9):
        at = x(value)
        parts.append(f'<line class="grid" x1="{at}" x2="{at}" y1="{y.end}" '
                     f'y2="{y.start}"/>')
        parts.append(_text(at, y.start + 18, _tick_label(panel, value), 'tick mid'))
    for value in ticks(y.low, y.high):
        at = y(value)
        parts.append(f'<line class="grid" x1="{x.start}" x2="{x.end}" y1="{at}" '
                     f'y2="{at}"/>')
        parts.append(_text(x.start - 8, at + 4, f'{value:g}', 'tick end'))
    middle = (x.start + x.end) / 2
    parts.append(_text(middle, y.start + 42, panel.label, 'label mid'))
    return parts


def _budgets(panel: Panel, x: Axis, y: Axis) -> list[str]:
    parts = []
    for budget in panel.budgets:
        at = x(budget.limit)
        missed = '' if budget.x is not None else ', not met'
        parts.append(f'<line class="budget" x1="{at}" x2="{at}" y1="{y.end}" '
                     f'y2="{y.start}"/>')
        parts.append(_text(at, y.end - 8, budget.label + missed, 'budget-name mid'))
    return parts


def _front(panel: Panel, x: Axis, y: Axis) -> list[str]:
    if not panel.front:
        return []
    (first, score), *rest = panel.front
    path = [f'M{x(first)} {y(score)}']
    path += [f'H{x(a)}V{y(b)}' for a, b in rest]
    return [f'<path class="front" d="{"".join(path)}"/>']


def scenery(panel: Panel, score_name: str) -> str:
    """Everything behind the points: grid, axis titles, budgets and the front."""
    x, y = axes_of(panel)
    turn = f'transform="rotate(-90 16 {(TOP + HEIGHT - BOTTOM) / 2})"'
    return ''.join([
        *_grid(panel, x, y), *_budgets(panel, x, y), *_front(panel, x, y),
        _text(16, (TOP + HEIGHT - BOTTOM) / 2, score_name, 'label mid', turn)])


def highlights(panel: Panel, decimals: int) -> str:
    """Everything before the points: the best of each target and the dense model."""
    x, y = axes_of(panel)
    parts, seen = [], set()
    for budget in panel.budgets:
        if budget.x is None or budget.number in seen:
            continue
        seen.add(budget.number)
        a, b = x(budget.x), y(budget.score)
        score = format_score(budget.score, decimals)
        tip = (f'Best for {cost_label(panel.cost)} {budget.label}\n'
               f'policy {budget.number}\nscore {score}\n'
               + format_cost(panel.cost, budget.x * panel.scale))
        parts.append(f'<circle class="best" cx="{a}" cy="{b}" r="6.5" '
                     f'data-tip="{escape(tip)}"/>')
        parts.append(_text(a - 10, b - 7, score, 'best-name end'))
    if panel.dense:
        a, b = x(panel.dense[0]), y(panel.dense[1])
        score = format_score(panel.dense[1], decimals)
        tip = f'Dense model\nscore {score}\n' + format_cost(panel.cost, panel.scale)
        parts.append(f'<path class="dense" d="M{a} {b - 7}l7 7-7 7-7-7z" '
                     f'data-tip="{escape(tip)}"/>')
        parts.append(_text(a - 10, b - 7, score, 'dense-name end'))
    return ''.join(parts)


def dots(panel: Panel) -> str:
    """One circle per evaluated policy; ``data-n`` is its number."""
    x, y = axes_of(panel)
    return ''.join(
        f'<circle data-n="{n}" cx="{x(a)}" cy="{y(b)}" r="4"/>'
        for n, a, b in zip(panel.numbers, panel.xs, panel.scores))
