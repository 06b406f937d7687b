"""What the HTML report says, before it is HTML."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ..policy import Bits, ModelGraph, Policy
from .drawing import Drawing, draw
from .formats import cost_label, format_cost, format_share, score_decimals
from .panels import make_panels, panel_costs
from .policy_chart import PolicyChart, UnitChoice, make_charts
from .results import Results, results_table
from .summary import GraphSummary, UnitSummary, summarise
from .tables import TextTable, tradeoff_table
from .tradeoff import Tradeoff

FEW = 12
"""Left-out things that are listed at first sight; longer lists are folded."""
NAMED = 8
"""Layers that a tip names."""


@dataclass(frozen=True)
class Cell:
    """A cell of a table: its text, what it is sorted by, and whether it is text."""

    text: str
    value: Any
    is_text: bool = False


@dataclass(frozen=True)
class Gallery:
    """Images with the boxes of several networks.

    Args:
        names (Sequence[str]): Of the networks.
        images (Sequence[Sequence[str]]): Of each image, a JPEG in base64 by network.
        threshold (float): Lowest score of a box that is shown.
    """

    names: Sequence[str]
    images: Sequence[Sequence[str]]
    threshold: float


@dataclass(frozen=True)
class Page:
    """Everything the report shows.

    Args:
        title, lead (str): Its head.
        facts (tuple[tuple[str, str], ...]): Names and values below the head.
        tradeoff (Tradeoff): What the search found.
        header (tuple[tuple[str, bool], ...]): Columns of the trade-off: name, and
            whether they hold text.
        rows (tuple[tuple[Cell, ...], ...]): Its cells.
        drawings (tuple[Drawing, ...]): The scatter plot on every cost.
        data (Mapping): What the script needs: every point, and every cost's axis.
        charts (tuple[PolicyChart, ...]): The best policies.
        units (tuple): Each unit, and what each policy keeps of it with a tip.
        bits (tuple): Each layer, and the bits that each quantised policy gives it.
        limits (tuple): Headings and items of what the search did not cover.
        commands (tuple): What to do next: what a command is for, and the command.
        further (str): The command that answers a budget which is put behind it.
        gallery (Gallery, optional): Images with what the networks find in them.
        results (TextTable | None): What became of the networks.
        notes (tuple[str, ...]): Lines below it.
    """

    title: str
    lead: str
    facts: tuple[tuple[str, str], ...]
    tradeoff: Tradeoff
    header: tuple[tuple[str, bool], ...]
    rows: tuple[tuple[Cell, ...], ...]
    drawings: tuple[Drawing, ...]
    data: Mapping[str, Any]
    charts: tuple[PolicyChart, ...]
    units: tuple[tuple[UnitSummary, tuple[tuple[UnitChoice, str], ...]], ...]
    bits: tuple[tuple[str, tuple[Cell, ...]], ...]
    limits: tuple[tuple[str, tuple[str, ...]], ...]
    commands: tuple[tuple[str, str], ...] = ()
    further: str = ''
    gallery: Gallery | None = None
    results: TextTable | None = None
    notes: tuple[str, ...] = ()

    @property
    def unit_header(self) -> tuple[tuple[str, bool], ...]:
        """Columns of the units: name, and whether they hold text."""
        return (('#', False), ('unit', True), ('MACs touched', False),
                *((c.title, True) for c in self.charts))

    @property
    def bit_header(self) -> tuple[tuple[str, bool], ...]:
        """Columns of the layers: name, and whether they hold text."""
        return ('layer', True), *((c.title, False) for c in self.charts if c.bits)


def make_page(
    tradeoff: Tradeoff, graph: ModelGraph | GraphSummary,
    policies: Mapping[str, Policy], facts: Mapping[str, str],
    work_dir: str = 'WORK_DIR', gallery: Gallery | None = None,
    results: Results | None = None,
) -> Page:
    """Collect what the report shows; see :func:`.write_report`."""
    graph = summarise(graph)
    charts = make_charts(graph, policies)
    model = facts.get('model') or facts.get('config') or 'a network'
    met = sum(number is not None for number in tradeoff.best)
    decimals = score_decimals(
        [*(p.score for p in tradeoff.points), tradeoff.dense_score])
    drawings = tuple(
        draw(p, decimals) for p in make_panels(tradeoff, _plotted(tradeoff)))
    table = tradeoff_table(tradeoff)
    return Page(
        f'Compression of {model}',
        f'{len(tradeoff.points)} policies scored by {tradeoff.score_name}; '
        f'{met} of {len(tradeoff.targets)} budgets met.',
        _facts(tradeoff, graph, facts), tradeoff,
        tuple((name, i < table.left) for i, name in enumerate(table.header)),
        _rows(tradeoff), drawings, _data(tradeoff, drawings, decimals), charts,
        _units(charts), _bits(charts), _limits(graph),
        _commands(tradeoff, facts.get('config', ''), work_dir),
        f'mmcompress search {facts["config"]} --target'
        if facts.get('config') else '', gallery,
        results and results_table(results), results.notes if results else ())


def _commands(
    tradeoff: Tradeoff, config: str, work_dir: str
) -> tuple[tuple[str, str], ...]:
    """What to type next, for the smallest network that was found."""
    found = [row for row in tradeoff.rows if row.policy]
    if not found:
        return ()
    name = min(found, key=lambda row: row.macs or 0).target
    if not config:
        return (('Load the smallest network, and export it:',
                 'import mmcompress as mmc\n'
                 f"member = mmc.load({work_dir!r}, model=net)[{name!r}]\n"
                 f"member.export('{name}.onnx')"),)
    policy = f'{work_dir}/policies/{name}'
    return (
        ('Fine-tune the smallest network (--distill: with the dense one as a teacher):',
         f'mmcompress train {config} --policy {policy}.json'),
        ('Export it as it is:',
         f'mmcompress export {config} {policy}.pth --policy {policy}.json'))


def _facts(
    tradeoff: Tradeoff, graph: GraphSummary, facts: Mapping[str, str]
) -> tuple[tuple[str, str], ...]:
    failed = f' ({tradeoff.failures} failed)' if tradeoff.failures else ''
    known = {
        'searcher': tradeoff.searcher,
        'evaluations': f'{tradeoff.evaluations}{failed}',
        'dense model': f'{format_cost("macs", graph.macs)}MACs, '
                       f'{format_cost("params", graph.params)} parameters',
        'input': ' x '.join(map(str, graph.input_shape)),
        'channel units': f'{len(graph.units)}, {len(graph.excluded)} left out',
        'MACs governed by units': format_share(graph.governed),
    }
    # What the caller says wins over what is derived here.
    shown = {**{k: v for k, v in known.items() if v}, **facts}
    order = [k for k in facts if k not in known] + list(known)
    return tuple((str(k), str(shown[k])) for k in order if k in shown)


def _rows(tradeoff: Tradeoff) -> tuple[tuple[Cell, ...], ...]:
    """Cells of the trade-off, sorted by exact values where they are numbers."""
    table = tradeoff_table(tradeoff)
    rows = []
    for row, cells in zip(tradeoff.all_rows, table.rows):
        exact = {'MACs': row.macs, 'params': row.params, 'BOPs': row.bops,
                 'size': row.size_bytes, 'latency': row.latency_ms, 'score': row.score,
                 'of dense': row.macs_ratio, f'test {tradeoff.test_name}': row.test}
        values = (exact.get(n, text) for n, text in zip(table.header, cells))
        rows.append(tuple(
            Cell(text, '' if value is None or value == '-' else value, i < table.left)
            for i, (text, value) in enumerate(zip(cells, values))))
    return tuple(rows)


def _plotted(tradeoff: Tradeoff) -> tuple[str, ...]:
    """Costs to offer on the axis: those with a target, then those known."""
    offered = ('macs', 'params', 'bops', 'size_bytes', 'latency_ms')
    seen = {c for p in tradeoff.points for c in p.costs}
    wanted = panel_costs(tradeoff)
    return wanted + tuple(c for c in offered if c in seen and c not in wanted)


def _data(
    tradeoff: Tradeoff, drawings: Sequence[Drawing], decimals: int
) -> dict[str, Any]:
    costs = [d.panel.cost for d in drawings]
    return {
        'costs': costs, 'labels': [cost_label(c) for c in costs],
        'dense': [tradeoff.dense.get(c) for c in costs],
        'decimals': decimals,
        'axes': {d.panel.cost: (d.x.low, d.x.high, d.x.start, d.x.end)
                 for d in drawings},
        'points': [(p.number, p.score, *(p.costs.get(c) for c in costs))
                   for p in tradeoff.points]}


def _bits_text(bits: Sequence[Bits]) -> str:
    """Say the bits of the layers of a unit, e.g. ``W4 A8`` or ``W4-6 A8``."""
    def span(values: Iterable[int]) -> str:
        low, high = min(values := sorted(values)), values[-1]
        return f'{low}' if low == high else f'{low}-{high}'

    if not bits or all(b.is_float for b in bits):
        return ''
    return f'W{span(b.weight for b in bits)} A{span(b.activation for b in bits)}'


def _tip(choice: UnitChoice, title: str) -> str:
    unit = choice.unit
    real = (f' ({choice.kept * unit.granularity} of {unit.width * unit.granularity} '
            'channels)' if unit.granularity > 1 else '')
    lines = [title, unit.name, f'keeps {choice.kept} of {unit.width}{real}, '
             f'{format_share(choice.ratio)}']
    if text := _bits_text(choice.bits):
        lines.append(f'bits: {text}')
    for what, names in (('produced by', unit.producers), ('also in', unit.others),
                        ('consumed by', unit.consumers)):
        if names:
            more = f' and {len(names) - NAMED} more' if len(names) > NAMED else ''
            lines.append(f'{what}: {", ".join(names[:NAMED])}{more}')
    return '\n'.join(lines)


def _units(
    charts: Sequence[PolicyChart],
) -> tuple[tuple[UnitSummary, tuple[tuple[UnitChoice, str], ...]], ...]:
    return tuple(
        (choices[0].unit,
         tuple((c, _tip(c, chart.title)) for c, chart in zip(choices, charts)))
        for choices in zip(*(c.units for c in charts)))


def _bits(charts: Sequence[PolicyChart]) -> tuple[tuple[str, tuple[Cell, ...]], ...]:
    quantised = [c.bits for c in charts if c.bits]
    return tuple(
        (name, tuple(Cell(_bits_text([bits[name]]) or 'float', bits[name].weight)
                     for bits in quantised))
        for name in (quantised[0] if quantised else ()))


def _limits(graph: GraphSummary) -> tuple[tuple[str, tuple[str, ...]], ...]:
    """What the search could not touch or count; never left unsaid."""
    return (
        ('Units left out', tuple(f'{k}: {v}' for k, v in graph.excluded.items())),
        ('Operators whose MACs are not counted',
         tuple(f'{k}, {v} calls' for k, v in graph.unsupported.items())),
        ('Layers that the traced forward never called', graph.unvisited))
