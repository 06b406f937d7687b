"""The report of a search: one HTML file that opens offline."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from pathlib import Path

from ..files import write_text
from ..policy import Bits, ModelGraph, Policy
from . import _svg
from ._format import cost_label, format_cost, format_share, score_decimals
from ._page import CSS, SCRIPT
from .panels import make_panels, panel_costs
from .policy_chart import PolicyChart, UnitChoice, make_charts
from .summary import GraphSummary, summarise
from .tables import tradeoff_table
from .tradeoff import Tradeoff

# Nothing may be loaded from anywhere: the report holds all it needs.
POLICY = "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'"


def write_report(
    path: str | Path,
    tradeoff: Tradeoff,
    graph: ModelGraph | GraphSummary,
    policies: Mapping[str, Policy],
    facts: Mapping[str, str],
) -> Path:
    """Write the report.

    Args:
        path (str | Path): The HTML file.
        tradeoff (Tradeoff): What the search found.
        graph (ModelGraph | GraphSummary): The model.
        policies (Mapping[str, Policy]): Best policy by target name.
        facts (Mapping[str, str]): Lines for the head. ``model`` and ``config``
            make the title.
    """
    return write_text(path, render_report(tradeoff, graph, policies, facts))


def render_report(
    tradeoff: Tradeoff,
    graph: ModelGraph | GraphSummary,
    policies: Mapping[str, Policy],
    facts: Mapping[str, str],
) -> str:
    """Return the text that :func:`write_report` writes."""
    graph = summarise(graph)
    charts = make_charts(graph, policies)
    model = facts.get('model') or facts.get('config') or 'a network'
    title = f'Compression of {model}'
    sections = [
        _facts(tradeoff, graph, facts), _table(tradeoff), _scatter(tradeoff),
        _units(charts), _bits(charts), _limits(graph)]
    # "<" would let a name end the script element it is embedded in.
    data = json.dumps(_data(tradeoff), separators=(',', ':')).replace('<', '\\u003c')
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">'
        '<meta name="viewport" content="width=device-width,initial-scale=1">'
        '<meta name="color-scheme" content="light dark">'
        f'<title>{escape(title)}</title><style>{CSS}</style></head>\n<body><main>'
        f'<h1>{escape(title)}</h1><p class="dim">{escape(_lead(tradeoff))}</p>\n'
        + '\n'.join(s for s in sections if s)
        + f'\n</main><div id="tip" hidden></div>\n'
        f'<script type="application/json" id="data">{data}</script>\n'
        f'<script>{SCRIPT}</script></body></html>\n')


def _lead(tradeoff: Tradeoff) -> str:
    met = sum(number is not None for number in tradeoff.best)
    return (f'{len(tradeoff.points)} policies scored by {tradeoff.score_name}; '
            f'{met} of {len(tradeoff.targets)} budgets met.')


def _section(title: str, note: str, *parts: str) -> str:
    note = f'<p class="dim">{escape(note)}</p>' if note else ''
    return f'<section><h2>{escape(title)}</h2>{note}{"".join(parts)}</section>'


def _facts(
    tradeoff: Tradeoff, graph: GraphSummary, facts: Mapping[str, str]
) -> str:
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
    items = ''.join(
        f'<div><dt>{escape(str(k))}</dt><dd>{escape(str(shown[k]))}</dd></div>'
        for k in order if k in shown)
    return f'<section><dl>{items}</dl></section>'


def _head(cells: Iterable[tuple[str, bool]]) -> str:
    return '<thead><tr>' + ''.join(
        f'<th{" class=t" if text else ""}><button>{escape(name)}</button></th>'
        for name, text in cells) + '</tr></thead>'


def _table(tradeoff: Tradeoff) -> str:
    table = tradeoff_table(tradeoff)
    head = _head((n, i < table.left) for i, n in enumerate(table.header))
    body = ''
    for number, cells in enumerate(table.rows):
        row = tradeoff.rows[number]
        raw = {'MACs': row.macs, 'params': row.params, 'BOPs': row.bops,
               'size': row.size_bytes, 'latency': row.latency_ms, 'score': row.score,
               'of dense': row.macs_ratio, f'test {tradeoff.test_name}': row.test}
        body += '<tr>'
        for i, (name, cell) in enumerate(zip(table.header, cells)):
            value = raw.get(name, cell)
            value = '' if value is None or value == '-' else value
            css = ' class=t' if i < table.left else ''
            body += f'<td{css} data-v="{escape(str(value))}">{escape(cell)}</td>'
        body += '</tr>'
    missed = any(number is None for number in tradeoff.best)
    note = ('Scores are measured on the same images, before fine-tuning unless the '
            'facts above say otherwise.')
    note += ' The last column is measured on the test set.' * bool(tradeoff.test_name)
    note += ' A row without a score is a budget that no policy met.' * missed
    return _section(
        'Trade-off', note, '<div class="scroll"><table class="sortable">', head,
        f'<tbody>{body}</tbody></table></div>')


def _plotted(tradeoff: Tradeoff) -> tuple[str, ...]:
    """Costs to offer on the axis: those with a target, then those known."""
    offered = ('macs', 'params', 'bops', 'size_bytes', 'latency_ms')
    seen = {c for p in tradeoff.points for c in p.costs}
    wanted = panel_costs(tradeoff)
    return wanted + tuple(c for c in offered if c in seen and c not in wanted)


def _scatter(tradeoff: Tradeoff) -> str:
    panels = make_panels(tradeoff, _plotted(tradeoff))
    decimals = _decimals(tradeoff)
    back = front = buttons = ''
    for i, panel in enumerate(panels):
        group = f'<g data-cost="{escape(panel.cost)}"{" hidden" * (i > 0)}>'
        back += f'{group}{_svg.scenery(panel, tradeoff.score_name)}</g>'
        front += f'{group}{_svg.highlights(panel, decimals)}</g>'
        buttons += (f'<button data-show="{escape(panel.cost)}" '
                    f'aria-pressed="{"false" if i else "true"}">'
                    f'{escape(cost_label(panel.cost))}</button>')
    svg = (f'<svg viewBox="0 0 {_svg.WIDTH} {_svg.HEIGHT}" role="img" '
           f'aria-label="Score against cost">{back}'
           f'<g class="dots">{_svg.dots(panels[0])}</g>{front}</svg>')
    key = ('<div class="key"><span>evaluated policy</span>'
           '<span class="k2">front</span>'
           '<span class="k3">best within a target</span>'
           '<span class="k4">dense model</span></div>')
    nav = f'<nav aria-label="Cost axis">{buttons}</nav>' if len(panels) > 1 else ''
    return _section('Evaluated policies', '', nav, svg, key)


def _decimals(tradeoff: Tradeoff) -> int:
    return score_decimals([*(p.score for p in tradeoff.points), tradeoff.dense_score])


def _data(tradeoff: Tradeoff) -> dict:
    """What the script needs: every point, and the axis of every cost."""
    costs = _plotted(tradeoff)
    axes = {p.cost: _svg.axes_of(p)[0] for p in make_panels(tradeoff, costs)}
    return {
        'costs': costs, 'labels': [cost_label(c) for c in costs],
        'dense': [tradeoff.dense.get(c) for c in costs],
        'decimals': _decimals(tradeoff),
        'axes': {c: (a.low, a.high, a.start, a.end) for c, a in axes.items()},
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
            more = f' and {len(names) - 8} more' if len(names) > 8 else ''
            lines.append(f'{what}: {", ".join(names[:8])}{more}')
    return '\n'.join(lines)


def _keep_cell(choice: UnitChoice, title: str) -> str:
    return (f'<td class="keep" data-v="{choice.ratio:.4f}" '
            f'data-tip="{escape(_tip(choice, title))}"><div class="bar"><i>'
            f'<b style="width:{100 * choice.ratio:.1f}%"></b></i>'
            f'<span>{choice.kept}/{choice.unit.width}</span></div></td>')


def _units(charts: Sequence[PolicyChart]) -> str:
    if not charts or not charts[0].units:
        return ''
    head = _head([('#', False), ('unit', True), ('MACs touched', False),
                  *((c.title, True) for c in charts)])
    body = ''
    for i, choices in enumerate(zip(*(c.units for c in charts))):
        unit = choices[0].unit
        name = escape(unit.name)
        body += (
            f'<tr><td class="dim" data-v="{i}">{i + 1}</td>'
            f'<td class="t unit" data-v="{name}" title="{name}">{name}</td>'
            f'<td data-v="{unit.share:.6f}">{format_share(unit.share)}</td>'
            + ''.join(_keep_cell(c, chart.title) for c, chart in zip(choices, charts))
            + '</tr>')
    return _section(
        'Channels kept by each unit',
        'Units in execution order, one bar per target: kept of dense width. A layer '
        'counts for the unit that feeds it and for the one it produces, so the MACs '
        'touched add up to more than 100 %.',
        '<div class="scroll"><table class="sortable units">', head,
        f'<tbody>{body}</tbody></table></div>')


def _bits(charts: Sequence[PolicyChart]) -> str:
    quantised = [c for c in charts if c.bits]
    if not quantised:
        return ''
    head = _head([('layer', True), *((c.title, False) for c in quantised)])
    body = ''
    for name in quantised[0].bits:
        cells = ''.join(
            f'<td data-v="{c.bits[name].weight}">'
            f'{escape(_bits_text([c.bits[name]]) or "float")}</td>' for c in quantised)
        body += f'<tr><td class="t unit" data-v="{escape(name)}">{escape(name)}</td>'
        body += f'{cells}</tr>'
    return _section(
        'Bits of each layer', 'W: weight bits, A: activation bits.',
        '<div class="scroll"><table class="sortable bits">', head,
        f'<tbody>{body}</tbody></table></div>')


def _limits(graph: GraphSummary) -> str:
    """What the search could not touch or count; never left unsaid."""
    groups = [
        ('Units left out', [f'{k}: {v}' for k, v in graph.excluded.items()]),
        ('Operators whose MACs are not counted',
         [f'{k}, {v} calls' for k, v in graph.unsupported.items()]),
        ('Layers that the traced forward never called', list(graph.unvisited))]
    parts = [
        f'<details{" open" * (0 < len(items) <= 12)}><summary>{escape(name)}: '
        f'{len(items) or "none"}</summary>'
        + ('<ul>' + ''.join(f'<li>{escape(i)}</li>' for i in items) + '</ul>'
           if items else '') + '</details>'
        for name, items in groups]
    return _section('What the search did not cover', '', *parts)
