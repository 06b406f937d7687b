"""What a policy keeps of every unit, as data and as a picture."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import PolicyError
from ..files import replacing
from ..policy import Bits, ModelGraph, Policy
from .summary import GraphSummary, UnitSummary, summarise

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


WIDEST, LONGEST = 34, 28
"""Columns of a map, and characters of a name, that a page has room for."""


@dataclass(frozen=True)
class UnitChoice:
    """What a policy decides about one unit.

    Args:
        unit (UnitSummary): The unit.
        kept (int): Width that the policy keeps.
        bits (tuple[Bits, ...]): Bits of the layers that produce the channels,
            in the order of ``unit.producers``.
    """

    unit: UnitSummary
    kept: int
    bits: tuple[Bits, ...] = ()

    @property
    def ratio(self) -> float:
        """Kept share of the dense width."""
        return self.kept / self.unit.width


@dataclass(frozen=True)
class PolicyChart:
    """A policy over the units and layers of its model, in execution order.

    Args:
        title (str): Name of the target or the policy.
        units (tuple[UnitChoice, ...]): One entry per unit.
        bits (Mapping[str, Bits]): Bits of every layer; empty if the policy leaves
            all of them in float.
    """

    title: str
    units: tuple[UnitChoice, ...]
    bits: Mapping[str, Bits]


def make_chart(
    graph: ModelGraph | GraphSummary, policy: Policy, title: str = ''
) -> PolicyChart:
    """Spread a policy over the units of its model.

    Raises:
        PolicyError: The policy names a unit or a layer that the model lacks.
    """
    graph = summarise(graph)
    layers = tuple(layer.name for layer in graph.layers)
    names = tuple(unit.name for unit in graph.units)
    for kind, given, known in (('unit', policy.widths, names),
                               ('layer', policy.bits, layers)):
        if unknown := sorted(set(given) - set(known)):
            raise PolicyError(
                f'Policy {title!r} names the {kind} {unknown[0]!r}, which this model '
                'does not have. Draw it with the model it was searched on.')
    choices = tuple(
        UnitChoice(unit, policy.widths.get(unit.name, unit.width),
                   tuple(policy.bits.get(n, Bits()) for n in unit.producers))
        for unit in graph.units)
    quantised = {n: policy.bits.get(n, Bits()) for n in layers} if policy.bits else {}
    return PolicyChart(title, choices, quantised)


def make_charts(
    graph: ModelGraph | GraphSummary, policies: Mapping[str, Policy]
) -> tuple[PolicyChart, ...]:
    """One chart per policy."""
    graph = summarise(graph)
    return tuple(make_chart(graph, p, name) for name, p in policies.items())


def plot_charts(charts: Sequence[PolicyChart], path: str | Path) -> Path:
    """Draw policies: bars for one, a map of targets x units for several.

    Args:
        charts (Sequence[PolicyChart]): Policies of one model.
        path (str | Path): Where to write; the suffix gives the format.
    """
    figure = draw_charts(charts)
    with replacing(path) as temporary:
        figure.savefig(temporary, dpi=130)
    return Path(path)


def draw_charts(charts: Sequence[PolicyChart]) -> Figure:
    """Return the figure that :func:`plot_charts` writes."""
    from matplotlib.figure import Figure

    if not charts:
        raise PolicyError('No policy to draw: no target was met.')
    if len(charts) == 1 and not charts[0].bits:
        units = len(charts[0].units)
        figure = Figure(figsize=(8, 1.4 + 0.19 * units), layout='constrained')
        _draw_bars(figure.add_subplot(), charts[0])
        return figure
    quantised = [c for c in charts if c.bits]
    maps = [(_draw_widths, charts, part) for part in _parts(len(charts[0].units))]
    if quantised:
        maps += [(partial(_draw_bits, kind=kind), quantised, part)
                 for kind in ('weight', 'activation')
                 for part in _parts(len(quantised[0].bits))]
    columns = max([12, *(part.stop - part.start for _, _, part in maps)])
    heights = [2.3 + 0.3 * len(rows) for _, rows, _ in maps]
    figure = Figure(
        figsize=(2.4 + 0.36 * columns, sum(heights)), layout='constrained')
    axes = figure.subplots(
        len(maps), 1, squeeze=False, height_ratios=heights)[:, 0]
    for ax, (paint, rows, part) in zip(axes, maps):
        paint(ax, rows, part=part)
    return figure


def _parts(columns: int) -> list[slice]:
    """Maps of about equal width, none wider than can be read."""
    count = max(1, -(-columns // WIDEST))
    ends = [round(i * columns / count) for i in range(count + 1)]
    return [slice(a, b) for a, b in pairwise(ends)]


def _draw_bars(axes: Axes, chart: PolicyChart) -> None:
    rows = range(len(chart.units))
    axes.barh(rows, [1.0] * len(rows), color='#e5e7eb', height=0.72)
    axes.barh(rows, [u.ratio for u in chart.units], color='#2563eb', height=0.72)
    axes.set_yticks(rows, [u.unit.name for u in chart.units], fontsize=7)
    for i, choice in enumerate(chart.units):
        axes.text(1.01, i, f'{choice.kept}/{choice.unit.width}', va='center',
                  fontsize=6.5, color='#4b5563')
    axes.set(xlim=(0, 1), ylim=(len(rows) - 0.4, -0.6))
    axes.set_xlabel('kept share of the channels')
    axes.set_title(f'{chart.title}: what each unit keeps', loc='left', fontsize=10)
    axes.spines[['top', 'right', 'left']].set_visible(False)
    axes.tick_params(axis='y', length=0)


def _draw_map(
    axes: Axes, values: Sequence[Sequence[float]], rows: Sequence[str],
    columns: Sequence[str], limits: tuple[float, float], label: str,
) -> None:
    image = axes.imshow(values, aspect='auto', cmap='YlGnBu', vmin=limits[0],
                        vmax=limits[1], interpolation='nearest')
    axes.set_yticks(range(len(rows)), rows, fontsize=9)
    short = [name if len(name) <= LONGEST else f'…{name[1 - LONGEST:]}'
             for name in columns]
    axes.set_xticks(range(len(columns)), short, fontsize=8, rotation=90)
    axes.set_xticks([i - 0.5 for i in range(1, len(columns))], minor=True)
    axes.set_yticks([i - 0.5 for i in range(1, len(rows))], minor=True)
    axes.grid(which='minor', color='white', linewidth=1)
    axes.tick_params(which='both', length=0)
    axes.spines[:].set_visible(False)
    bar = axes.figure.colorbar(image, ax=axes, pad=0.01, fraction=0.05, aspect=12)
    bar.outline.set_visible(False)
    bar.set_label(label, fontsize=8)
    bar.ax.tick_params(labelsize=7, length=0)


def _draw_widths(axes: Axes, charts: Sequence[PolicyChart], part: slice) -> None:
    values = [[u.ratio for u in chart.units[part]] for chart in charts]
    names = [u.unit.name for u in charts[0].units[part]]
    _draw_map(axes, values, [c.title for c in charts], names, (0, 1), 'kept share')
    for i, row in enumerate(values):
        for j, ratio in enumerate(row):
            axes.text(j, i, f'{100 * ratio:.0f}', ha='center', va='center',
                      fontsize=8, color='white' if ratio > 0.6 else '#1f2937')
    if not part.start:
        axes.set_title('Channels kept by every unit, in %, in execution order',
                       loc='left', fontsize=10)


def _draw_bits(
    axes: Axes, charts: Sequence[PolicyChart], kind: str, part: slice
) -> None:
    names = list(charts[0].bits)[part]
    # Float is drawn as 8 bits on the colour scale and as f in the cell, so that
    # 2 to 8 bits stay distinguishable.
    exact = [[getattr(c.bits[n], kind) for n in names] for c in charts]
    shown = [[min(b, 8) for b in row] for row in exact]
    _draw_map(axes, shown, [c.title for c in charts], names, (2, 8), 'bits')
    for i, row in enumerate(exact):
        for j, b in enumerate(row):
            axes.text(j, i, 'f' if b > 16 else str(b), ha='center', va='center',
                      fontsize=8, color='white' if b > 5 else '#1f2937')
    if not part.start:
        axes.set_title(f'{kind.capitalize()} bits of every layer (f: float)',
                       loc='left', fontsize=10)
