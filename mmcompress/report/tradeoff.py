"""The trade-off a search found: one row per target, and every evaluated point."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from math import isfinite
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING

from ..costs import Target
from ..errors import DataError
from ..files import write_text

if TYPE_CHECKING:
    from ..searchers import Evaluated

DENSE = 'dense'
"""Name of the row of the uncompressed model."""


@dataclass(frozen=True)
class TradeoffRow:
    """One line of ``tradeoff.csv``; None where a value is not known.

    Args:
        target (str): Name of the target, or ``'dense'``.
        policy (str, optional): File name of the best policy within the budget.
        macs, params, bops, size_bytes, latency_ms (float, optional): Its costs.
        macs_ratio (float, optional): Its MACs over the dense model's.
        score, dense_score (float, optional): Measured scores, on the same images.
        test (float, optional): What the network scores on the test set.
    """

    target: str
    policy: str | None = None
    macs: float | None = None
    macs_ratio: float | None = None
    params: float | None = None
    bops: float | None = None
    size_bytes: float | None = None
    latency_ms: float | None = None
    score: float | None = None
    dense_score: float | None = None
    test: float | None = None


TESTED = 'test'
"""The column that only tested networks have."""

COLUMNS = tuple(f.name for f in fields(TradeoffRow) if f.name != TESTED)


@dataclass(frozen=True)
class Scored:
    """One evaluated policy, without the policy itself."""

    number: int
    costs: Mapping[str, float]
    score: float


@dataclass(frozen=True)
class Tradeoff:
    """What a search found.

    Args:
        rows (tuple[TradeoffRow, ...]): The dense model, then one per target.
        points (tuple[Scored, ...]): Every scored policy by number.
        targets (tuple[Target, ...]): The budgets.
        best (tuple[int | None, ...]): Number of the best point of every target.
        dense (Mapping[str, float]): Costs of the dense model.
        dense_score (float, optional): Its score.
        score_name (str): What was measured, e.g. ``'coco/bbox_mAP'``.
        searcher (str): Name of the searcher.
        evaluations (int): Evaluations spent, failed ones included.
        failures (int): Evaluations that gave no score.
        test_name (str): What was measured on the test set, if anything.
        networks (tuple[TradeoffRow, ...]): Networks made of the policies: fine-tuned,
            exported; see :mod:`.networks`.
    """

    rows: tuple[TradeoffRow, ...]
    points: tuple[Scored, ...]
    targets: tuple[Target, ...]
    best: tuple[int | None, ...]
    dense: Mapping[str, float] = field(default_factory=dict)
    dense_score: float | None = None
    score_name: str = 'score'
    searcher: str = ''
    evaluations: int = 0
    failures: int = 0
    test_name: str = ''
    networks: tuple[TradeoffRow, ...] = ()

    @property
    def all_rows(self) -> tuple[TradeoffRow, ...]:
        """The rows, behind each the networks that were made of it, then the others."""
        made = {row.target: [row] for row in self.rows}
        for network in self.networks:
            made.setdefault(network.target, []).append(network)
        return tuple(row for rows in made.values() for row in rows)

    def row(self, target: str) -> TradeoffRow:
        """Return the row called ``target``."""
        return {r.target: r for r in self.rows}[target]


def _known(costs: Mapping[str, float]) -> dict[str, float]:
    """Drop costs without a value: a plot or a JSON file cannot hold them."""
    return {k: float(v) for k, v in costs.items() if v is not None and isfinite(v)}


def best_within(history: Sequence[Evaluated], target: Target) -> Evaluated | None:
    """Best policy within a budget.

    The highest score wins; equal scores go to the cheaper policy, then to the
    earlier one. Scores that are not finite never win.
    """
    meeting = [e for e in history if isfinite(e.score)
               and target.cost in e.costs and target.met_by(e.costs)]
    return min(meeting, default=None,
               key=lambda e: (-e.score, e.costs[target.cost], e.number))


def _row(
    name: str, policy: str | None, costs: Mapping[str, float] | None,
    dense: Mapping[str, float], score: float | None, dense_score: float | None,
) -> TradeoffRow:
    if costs is None:
        return TradeoffRow(name, dense_score=dense_score)
    known = ('macs', 'params', 'bops', 'size_bytes', 'latency_ms')
    macs, of = costs.get('macs'), dense.get('macs')
    return TradeoffRow(
        name, policy, macs_ratio=macs / of if macs is not None and of else None,
        score=score, dense_score=dense_score, **{k: costs.get(k) for k in known})


def make_tradeoff(
    history: Sequence[Evaluated],
    targets: Sequence[Target],
    dense: Mapping[str, float],
    dense_score: float | None,
    score_name: str,
    policy_files: Mapping[str, str],
    searcher: str = '',
    failures: int = 0,
    evaluations: int | None = None,
    winners: Sequence[Evaluated | None] | None = None,
    tests: Mapping[str, Mapping[str, float]] = MappingProxyType({}),
) -> Tradeoff:
    """Find the best policy of every target.

    Args:
        history (Sequence[Evaluated]): Everything that was scored.
        targets (Sequence[Target]): The budgets, in the order of the rows.
        dense (Mapping[str, float]): Costs of the dense model.
        dense_score (float, optional): Score of the dense model.
        score_name (str): What was measured.
        policy_files (Mapping[str, str]): File name of the policy by target name.
        searcher (str): Name of the searcher.
        failures (int): Evaluations that are not in ``history``.
        evaluations (int, optional): Evaluations spent. Defaults to the length of
            ``history`` plus ``failures``.
        winners (Sequence, optional): What the searcher chose for each target, where
            that is not the best within the budget.
        tests (Mapping, optional): By row, all metrics of the test set; the one that the
            search scores by is shown, or the first.

    Returns:
        Tradeoff: Its rows are the dense model and one per target; a target that
        no policy meets has no score.
    """
    scored = sorted((e for e in history if isfinite(e.score)), key=lambda e: e.number)
    dense = _known(dense)
    if dense_score is not None and not isfinite(dense_score):
        dense_score = None
    if winners is None:
        winners = [best_within(scored, target) for target in targets]
    rows = [_row(DENSE, None, dense, dense, dense_score, dense_score)]
    for target, won in zip(targets, winners):
        rows.append(_row(
            target.name, policy_files.get(target.name) if won else None,
            _known(won.costs) if won else None, dense, won.score if won else None,
            dense_score))
    measured = next(iter(tests.values()), {})
    test_name = score_name if score_name in measured else next(iter(measured), '')
    rows = [replace(row, test=tests.get(row.target, {}).get(test_name)) for row in rows]
    total = len(history) + failures
    return Tradeoff(
        rows=tuple(rows),
        points=tuple(Scored(e.number, _known(e.costs), float(e.score)) for e in scored),
        targets=tuple(targets),
        best=tuple(won.number if won else None for won in winners),
        dense=dense, dense_score=dense_score, score_name=score_name,
        searcher=searcher, evaluations=total if evaluations is None else evaluations,
        failures=failures + len(history) - len(scored), test_name=test_name)


def _cell(value: str | float | None) -> str:
    if value is None or isinstance(value, str):
        return value or ''
    value = float(value)
    # Costs are counts: 1234567 reads better than 1234567.0 and is the same number.
    return str(int(value)) if value.is_integer() else repr(value)


def write_csv(tradeoff: Tradeoff, path: str | Path) -> Path:
    """Write the rows at full precision, empty where a value is not known.

    The column ``test`` is there if something was tested.
    """
    columns = (*COLUMNS, TESTED) if tradeoff.test_name else COLUMNS
    buffer = io.StringIO()
    writer = csv.DictWriter(
        buffer, columns, lineterminator='\n', extrasaction='ignore')
    writer.writeheader()
    for row in tradeoff.all_rows:
        writer.writerow({k: _cell(v) for k, v in asdict(row).items()})
    return write_text(path, buffer.getvalue())


def read_csv(path: str | Path) -> tuple[TradeoffRow, ...]:
    """Inverse of :func:`write_csv`.

    Raises:
        DataError: The file does not have the columns of a trade-off table.
    """
    with open(path, encoding='utf-8', newline='') as file:
        reader = csv.DictReader(file)
        columns = tuple(reader.fieldnames or ())
        if columns not in (COLUMNS, (*COLUMNS, TESTED)):
            raise DataError(
                f'{path} is not a trade-off table: its columns are '
                f'{reader.fieldnames}, expected {", ".join(COLUMNS)}. Write it '
                'again with tools/report.py.')
        rows = []
        for line in reader:
            numbers = {k: float(line[k]) if line[k] else None for k in columns[2:]}
            rows.append(TradeoffRow(line['target'], line['policy'] or None, **numbers))
    return tuple(rows)
