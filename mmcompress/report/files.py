"""The outcome of a search: one object that every file of a report comes from."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from math import isfinite
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from ..costs import Target
from ..errors import DataError
from ..files import read_json, write_text
from ..options import check_values, record
from ..policy import ModelGraph, Policy
from .html import write_report
from .networks import OUTCOME, load_networks, note_network, with_networks
from .plot import plot_tradeoff
from .policy_chart import make_charts, plot_charts
from .summary import GraphSummary, LayerSummary, UnitSummary, summarise
from .tradeoff import (
    Scored,
    Tradeoff,
    TradeoffRow,
    best_within,
    make_tradeoff,
    write_csv,
)

if TYPE_CHECKING:
    from ..searchers import Evaluated

VERSION = 1


@dataclass(frozen=True)
class Outcome:
    """Everything that the files of a finished or running search are drawn from.

    Args:
        tradeoff (Tradeoff): Rows and evaluated points.
        graph (GraphSummary): The model.
        policies (Mapping[str, Policy]): Best policy by target name.
        facts (Mapping[str, str]): Lines for the head of the report, e.g. model,
            config, date, seed.
    """

    tradeoff: Tradeoff
    graph: GraphSummary
    policies: Mapping[str, Policy]
    facts: Mapping[str, str]

    @property
    def missed(self) -> list[str]:
        """Targets that no evaluated policy meets."""
        return [target.name for target in self.tradeoff.targets
                if target.name not in self.policies]


def make_outcome(
    history: Sequence[Evaluated],
    targets: Sequence[Target],
    dense: Mapping[str, float],
    dense_score: float | None,
    score_name: str,
    policy_files: Mapping[str, str],
    graph: ModelGraph | GraphSummary,
    facts: Mapping[str, str],
    searcher: str = '',
    failures: int = 0,
    evaluations: int | None = None,
    winners: Sequence[Evaluated | None] | None = None,
    tests: Mapping[str, Mapping[str, float]] = MappingProxyType({}),
) -> Outcome:
    """Collect the outcome of a search; see :func:`make_tradeoff`.

    Args:
        graph (ModelGraph | GraphSummary): The searched model.
        facts (Mapping[str, str]): Lines for the head of the report.
    """
    tradeoff = make_tradeoff(
        history, targets, dense, dense_score, score_name, policy_files, searcher,
        failures, evaluations, winners, tests)
    if winners is None:
        winners = [best_within(history, t) for t in targets]
    return Outcome(
        tradeoff, summarise(graph),
        {t.name: won.policy for t, won in zip(targets, winners) if won},
        {str(k): str(v) for k, v in facts.items()})


def _finite(value: Any) -> Any:
    """Replace numbers that JSON cannot hold by None."""
    if isinstance(value, Mapping):
        return {k: _finite(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(v) for v in value]
    return None if isinstance(value, float) and not isfinite(value) else value


def save_outcome(path: str | Path, outcome: Outcome) -> Path:
    """Write an outcome as JSON."""
    data = {
        'version': VERSION,
        'facts': dict(outcome.facts),
        'tradeoff': asdict(outcome.tradeoff),
        'graph': asdict(outcome.graph),
        'policies': {k: p.to_dict() for k, p in outcome.policies.items()}}
    del data['tradeoff']['networks']  # They have a file of their own.
    for target in data['tradeoff']['targets']:
        del target['parts']  # The costs of every point hold the target's own.
    return write_text(path, json.dumps(_finite(data), allow_nan=False))


def load_outcome(path: str | Path) -> Outcome:
    """Inverse of :func:`save_outcome`.

    Args:
        path (str | Path): The file, or the work directory that holds it.

    Raises:
        DataError: There is no such file, or it is not an outcome.
    """
    path = Path(path)
    path = path / OUTCOME if path.is_dir() else path
    if not path.is_file():
        raise DataError(f'No search outcome at {path}. Run tools/search.py first, or '
                        'give the work directory of a search.')
    try:
        data = read_json(path)
        if data['version'] != VERSION:
            raise DataError(f'{path} has version {data["version"]}, this mmcompress '
                            f'reads {VERSION}. Use the release that wrote it.')
        found = Outcome(
            with_networks(_tradeoff(data['tradeoff']), load_networks(path.parent)),
            _graph(data['graph']),
            {k: Policy.from_dict(p) for k, p in data['policies'].items()},
            data['facts'])
        check_values('the outcome', Outcome, vars(found))
        return found
    except DataError:
        raise
    except (AttributeError, KeyError, TypeError, ValueError, OverflowError) as error:
        raise DataError(f'{path} is not a search outcome ({error!r}). Delete it and '
                        're-run tools/search.py, which resumes.') from error


def _tradeoff(data: dict) -> Tradeoff:
    return record(Tradeoff, {
        **data,
        'rows': [record(TradeoffRow, r, 'a row') for r in data['rows']],
        'points': [record(Scored, p, 'a point') for p in data['points']],
        'targets': [record(Target, t, 'a target') for t in data['targets']]})


def _graph(data: dict) -> GraphSummary:
    return record(GraphSummary, {
        **data, 'units': [record(UnitSummary, u, 'a unit') for u in data['units']],
        'layers': [record(LayerSummary, x, 'a layer') for x in data['layers']]})


def join_network(path: str | os.PathLike, target: str | None = None, **facts: Any
                 ) -> Path | None:
    """Add a network to the table and the report of its search; see
    :func:`.note_network`."""
    folder = note_network(path, target, **facts)
    if folder is not None:
        write_all(load_outcome(folder), folder)
    return folder


def write_all(outcome: Outcome, work_dir: str | Path) -> dict[str, Path]:
    """Write every file of a report.

    Returns:
        dict[str, Path]: Path by name: ``outcome.json``, ``tradeoff.csv``,
        ``tradeoff.png``, ``report.html``, and ``policies.png`` if a target is met.
    """
    work_dir = Path(work_dir)
    outcome = replace(outcome, tradeoff=with_networks(
        outcome.tradeoff, load_networks(work_dir)))
    paths = [
        # First, so that a kill while drawing leaves what tools/report.py needs.
        save_outcome(work_dir / OUTCOME, outcome),
        write_csv(outcome.tradeoff, work_dir / 'tradeoff.csv'),
        plot_tradeoff(outcome.tradeoff, work_dir / 'tradeoff.png'),
        write_report(work_dir / 'report.html', outcome.tradeoff, outcome.graph,
                     outcome.policies, outcome.facts)]
    if outcome.policies and outcome.graph.units:
        charts = make_charts(outcome.graph, outcome.policies)
        paths.append(plot_charts(charts, work_dir / 'policies.png'))
    return {path.name: path for path in paths}
