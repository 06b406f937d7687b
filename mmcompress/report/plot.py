"""The trade-off as a picture, drawn with matplotlib without global state."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from ..files import replacing
from .formats import format_score, score_decimals
from .panels import Budget, Panel, make_panels
from .tradeoff import Tradeoff

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

INK, FAINT, POINT, FRONT, BEST = '#1f2937', '#9ca3af', '#94a3b8', '#2563eb', '#ea580c'


def plot_tradeoff(tradeoff: Tradeoff, path: str | Path) -> Path:
    """Draw the trade-off; the suffix of ``path`` gives the format."""
    figure = draw_tradeoff(tradeoff)
    with replacing(path) as temporary:
        figure.savefig(temporary, dpi=150)
    return Path(path)


def draw_tradeoff(tradeoff: Tradeoff) -> Figure:
    """Return the figure: one panel per cost that has a target."""
    from matplotlib.figure import Figure

    panels = make_panels(tradeoff)
    # Figure, not pyplot: nothing is left behind in a long-running process.
    figure = Figure(figsize=(7.2 * len(panels), 4.8), layout='constrained')
    axes = figure.subplots(1, len(panels), squeeze=False)[0]
    decimals = score_decimals([*(p.score for p in tradeoff.points),
                               tradeoff.dense_score])
    for ax, panel in zip(axes, panels):
        draw_panel(ax, panel, decimals)
        style_axes(ax, panel.label, panel.relative)
        _no_empty_floor(ax, panel)
    axes[0].set_ylabel(tradeoff.score_name, color=INK)
    parts = [tradeoff.searcher, f'{tradeoff.evaluations} evaluations']
    figure.suptitle('  ·  '.join(p for p in parts if p), x=0.01, ha='left',
                    fontsize=11, color=INK)
    handles, labels = axes[0].get_legend_handles_labels()
    if handles:
        axes[0].legend(handles, labels, loc='lower right', fontsize=8, frameon=True,
                       framealpha=0.9, edgecolor='none')
    return figure


def style_axes(axes: Axes, label: str, relative: bool) -> None:
    """Give a panel its axis titles, light grid and percentages."""
    from matplotlib.ticker import PercentFormatter

    axes.set_xlabel(label, color=INK)
    if relative:
        axes.xaxis.set_major_formatter(PercentFormatter(1.0, symbol=' %'))
    axes.grid(color='#e5e7eb', linewidth=0.8)
    axes.set_axisbelow(True)
    axes.spines[['top', 'right']].set_visible(False)
    axes.spines[['left', 'bottom']].set_color(FAINT)
    axes.tick_params(colors='#4b5563', labelsize=8.5)
    axes.margins(x=0.1, y=0.08)


def _no_empty_floor(axes: Axes, panel: Panel) -> None:
    """Keep the margin from showing scores below 0 where none can be."""
    low, high = axes.get_ylim()
    if panel.scores and min(panel.scores) >= 0 > low:
        axes.set_ylim(-0.02 * high, high)


def draw_panel(axes: Axes, panel: Panel, decimals: int) -> None:
    """Draw points, front, budgets and the dense model on ``axes``."""
    axes.scatter(panel.xs, panel.scores, s=16, color=POINT, alpha=0.7, linewidths=0,
                 label='evaluated policy', zorder=2)
    if panel.front:
        axes.step(*zip(*panel.front), where='post', color=FRONT, linewidth=1.4,
                  alpha=0.9, label='front', zorder=3)
    met = [b for b in panel.budgets if b.x is not None]
    if met:
        axes.scatter([b.x for b in met], [b.score for b in met], s=58, color=BEST,
                     edgecolors='white', linewidths=1.2, zorder=5,
                     label='best within a target')
    _label_budgets(axes, panel.budgets, decimals)
    if panel.is_cut:
        axes.axhline(panel.dense[1], color=INK, linestyle=(0, (1, 3)), linewidth=1,
                     label='dense model, at 100 %')
        axes.annotate(format_score(panel.dense[1], decimals), (1.0, panel.dense[1]),
                      (-4, 4), xycoords=('axes fraction', 'data'),
                      textcoords='offset points', fontsize=8.5, color=INK, ha='right')
    elif panel.dense:
        axes.scatter(*panel.dense, marker='D', s=46, color=INK, edgecolors='white',
                     linewidths=1, zorder=5, label='dense model')
        axes.annotate(format_score(panel.dense[1], decimals), panel.dense,
                      (-8, 5), textcoords='offset points', fontsize=8.5, color=INK,
                      ha='right')


def _label_budgets(axes: Axes, budgets: Sequence[Budget], decimals: int) -> None:
    labelled = set()
    for budget in budgets:
        axes.axvline(budget.limit, color=BEST, linestyle=(0, (3, 3)), linewidth=0.9,
                     alpha=0.6, zorder=1)
        missed = '' if budget.x is not None else '\nnot met'
        axes.annotate(
            budget.label + missed, (budget.limit, 1.0), (0, 3),
            xycoords=('data', 'axes fraction'), textcoords='offset points',
            ha='center', va='bottom', fontsize=7.5, color='#9a3412')
        if budget.x is None or budget.number in labelled:
            continue
        labelled.add(budget.number)
        axes.annotate(
            format_score(budget.score, decimals), (budget.x, budget.score), (-8, 5),
            textcoords='offset points', ha='right', fontsize=8.5, color='#9a3412',
            fontweight='bold', zorder=6)
