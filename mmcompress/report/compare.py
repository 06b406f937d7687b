"""Several searches side by side: searcher x target."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from ..errors import DataError
from ..files import replacing
from .files import Outcome
from .formats import LABELS, UNKNOWN, cost_label, format_score, score_decimals
from .panels import Panel, make_panel, panel_costs
from .plot import FAINT, INK, style_axes
from .tables import TextTable

COLOURS = ('#2563eb', '#ea580c', '#059669', '#9333ea', '#db2777', '#0891b2',
           '#ca8a04', '#475569')


@dataclass(frozen=True)
class Compared:
    """One search of a comparison.

    Args:
        name (str): What tells it apart, e.g. its work directory.
        searcher (str): Name of its searcher.
        evaluations (int): Evaluations it spent.
        dense_score (float, optional): Score of its dense model.
        scores (Mapping[str, float | None]): Score by target name.
        panel (Panel): Its points on the cost that is plotted.
    """

    name: str
    searcher: str
    evaluations: int
    dense_score: float | None
    scores: Mapping[str, float | None]
    panel: Panel


@dataclass(frozen=True)
class Comparison:
    """Searches with the same score on the same model.

    Args:
        score_name (str): What was measured.
        targets (tuple[str, ...]): Names of all targets.
        searches (tuple[Compared, ...]): In the order given.
        notes (tuple[str, ...]): What makes the comparison less than fair.
    """

    score_name: str
    targets: tuple[str, ...]
    searches: tuple[Compared, ...]
    notes: tuple[str, ...] = ()


def make_comparison(outcomes: Mapping[str, Outcome]) -> Comparison:
    """Put searches side by side.

    Args:
        outcomes (Mapping[str, Outcome]): Outcomes by the name to show.

    Raises:
        DataError: The searches measured different scores or different models, or no
            cost is known of all of them.
    """
    first_name, first = next(iter(outcomes.items()))
    for name, outcome in outcomes.items():
        for what, a, b in (
            ('score', first.tradeoff.score_name, outcome.tradeoff.score_name),
            ('model', first.graph.fingerprint, outcome.graph.fingerprint),
        ):
            if a != b:
                raise DataError(
                    f'{name} and {first_name} cannot be compared: their {what}s '
                    f'differ ({b!r} and {a!r}). Compare searches of one model by one '
                    'score.')
    cost = _shared_cost(outcomes)
    searches = tuple(
        Compared(name, o.tradeoff.searcher, o.tradeoff.evaluations,
                 o.tradeoff.dense_score,
                 {r.target: r.score for r in o.tradeoff.rows[1:]},
                 make_panel(o.tradeoff, cost))
        for name, o in outcomes.items())
    notes = []
    if len({s.evaluations for s in searches}) > 1:
        notes.append('The searches spent different numbers of evaluations.')
    if len({s.dense_score for s in searches}) > 1:
        notes.append('The dense scores differ' + _because(
            [o.facts for o in outcomes.values()]))
    if len({panel_costs(o.tradeoff) for o in outcomes.values()}) > 1:
        notes.append('The searches have budgets on different costs; all are drawn '
                     f'against {cost_label(cost)}.')
    if len({s.panel.scale for s in searches}) > 1:
        notes.append(f'The dense {cost} differ: equal targets are not equal budgets.')
    targets = dict.fromkeys(t for s in searches for t in s.scores)
    return Comparison(
        first.tradeoff.score_name, tuple(targets), searches, tuple(notes))


def _shared_cost(outcomes: Mapping[str, Outcome]) -> str:
    """The cost to draw against: known of all, a budget of as many as can be."""
    tradeoffs = [o.tradeoff for o in outcomes.values()]
    wanted = [c for t in tradeoffs for c in panel_costs(t)]
    known = [set.intersection(set(t.dense), *(set(p.costs) for p in t.points))
             for t in tradeoffs]
    shared = [c for c in dict.fromkeys((*wanted, *LABELS))
              if all(c in costs for costs in known)]
    if not shared:
        raise DataError(
            f'{", ".join(outcomes)} cannot be compared: there is no cost that is known '
            'of every policy of all of them.')
    return max(shared, key=wanted.count)


DEPENDS_ON = ('images', 'weights', 'data', 'torch')
"""Facts of a search that its dense score depends on."""


def _because(facts: Sequence[Mapping[str, str]]) -> str:
    """End of a sentence: which facts differ."""
    found = []
    for name in DEPENDS_ON:
        values = dict.fromkeys(f.get(name, 'not recorded') for f in facts)
        if len(values) > 1:
            found.append(f'{name} ({"; ".join(values)})')
    return f', and so do: {", ".join(found)}.' if found else \
        ', though images, weights and torch are the same.'


def comparison_table(comparison: Comparison) -> TextTable:
    """Lay out a comparison: one line per search, one column per target."""
    decimals = score_decimals(
        v for s in comparison.searches for v in (*s.scores.values(), s.dense_score))
    rows = tuple(
        (s.name, s.searcher or UNKNOWN, str(s.evaluations),
         format_score(s.dense_score, decimals),
         *(format_score(s.scores.get(t), decimals) for t in comparison.targets))
        for s in comparison.searches)
    return TextTable(
        f'Best {comparison.score_name} within each target',
        ('search', 'searcher', 'evaluations', 'dense', *comparison.targets), rows,
        left=2)


def plot_comparison(comparison: Comparison, path: str | Path) -> Path:
    """Draw the fronts of all searches in one panel."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7.6, 5), layout='constrained')
    axes = figure.add_subplot()
    for search, colour in zip(comparison.searches, COLOURS * len(comparison.searches)):
        panel = search.panel
        axes.scatter(panel.xs, panel.scores, s=9, color=colour, alpha=0.25,
                     linewidths=0, zorder=2)
        label = f'{search.searcher or search.name} ({search.evaluations})'
        if sum(s.searcher == search.searcher for s in comparison.searches) > 1:
            label = f'{search.name}: {label}'
        if panel.front:
            axes.step(*zip(*panel.front), where='post', color=colour, linewidth=1.7,
                      marker='o', markersize=3.5, label=label, zorder=3)
    panel = comparison.searches[0].panel
    for limit in {b.limit for s in comparison.searches for b in s.panel.budgets}:
        axes.axvline(limit, color=FAINT, linestyle=(0, (3, 3)), linewidth=0.9, zorder=1)
    if all(s.panel.is_cut for s in comparison.searches):
        axes.axhline(panel.dense[1], color=INK, linestyle=(0, (1, 3)), linewidth=1,
                     label='dense model, at 100 %')
    elif panel.dense:
        axes.scatter(*panel.dense, marker='D', s=46, color=INK, edgecolors='white',
                     zorder=5, label='dense model')
    style_axes(axes, panel.label, panel.relative)
    axes.set_ylabel(comparison.score_name, color=INK)
    axes.legend(loc='lower right', fontsize=8, framealpha=0.9, edgecolor='none',
                title='searcher (evaluations)', title_fontsize=8)
    with replacing(path) as temporary:
        figure.savefig(temporary, dpi=150)
    return Path(path)
