"""What became of the networks of a search: tuned, in 8 bits, as files, timed."""

from __future__ import annotations

import csv
import html
import io
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from ..errors import DataError
from ..files import read_json, write_text
from ..options import record
from .formats import UNKNOWN, format_cost, format_score, format_share, score_decimals
from .tables import TextTable
from .tradeoff import DENSE

RESULTS = 'results.json'
COSTS = ('macs', 'params', 'bops')
"""Costs that the CSV file has."""


@dataclass(frozen=True)
class Result:
    """A network at one stage of its way.

    Args:
        network (str): ``'dense'``, or the name of a target.
        stage (str): ``'as searched'``, ``'fine-tuned'``, ``'8 bits'``, ``'file'``, ...
        costs (Mapping[str, float]): Its costs by name.
        metric (float | None): What it achieves on the test set.
        size_bytes (float | None): Bytes of its weights, or of its files.
        milliseconds (float | None): Of its files, for one image.
        path (str): Checkpoint or file.
        others (Mapping[str, float]): Metrics of the same sort, see :func:`same_sort`.
    """

    network: str
    stage: str
    costs: Mapping[str, float] = field(default_factory=dict)
    metric: float | None = None
    size_bytes: float | None = None
    milliseconds: float | None = None
    path: str = ''
    others: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Results:
    """All networks at all stages; the first one is the dense model's.

    Args:
        rows (tuple[Result, ...]): In the order of the table.
        metric (str): What was measured on the test set.
        runtime (str): What was timed, e.g. ``'onnxruntime, 1 thread'``.
        notes (tuple[str, ...]): Lines below the table, e.g. layers left in float.
        work_dir (str): Where everything is.
    """

    rows: tuple[Result, ...]
    metric: str
    runtime: str = ''
    notes: tuple[str, ...] = ()
    work_dir: str = ''

    def __getitem__(self, key: tuple[str, str]) -> Result:
        """The row of a network and a stage: ``results['macs_0.5', 'file']``."""
        return {(row.network, row.stage): row for row in self.rows}[key]

    def __repr__(self) -> str:
        return '\n'.join([results_table(self).text(), *self.notes])

    def _repr_html_(self) -> str:
        return f'<pre>{html.escape(repr(self))}</pre>'


def same_sort(metric: str, metrics: Mapping[str, float]) -> dict[str, float]:
    """Metrics that say of something else what one says: the mAP of masks beside boxes.

    Args:
        metric (str): Such as ``'coco/bbox_mAP'``.
        metrics (Mapping[str, float]): What was measured; of it ``'coco/segm_mAP'`` is
            of the same sort, and ``'coco/bbox_mAP_50'`` is not.
    """
    def sort(name: str) -> tuple[str, str]:
        evaluator, _, rest = name.rpartition('/')
        return evaluator, rest.rpartition('_')[2]

    return {name: value for name, value in metrics.items()
            if name != metric and sort(name) == sort(metric)}


def _share(value: float | None, whole: float | None) -> float | None:
    return value / whole if value is not None and whole else None


def results_table(results: Results) -> TextTable:
    """Lay the results out: cost, metric, bytes and time of every row."""
    first = results.rows[0]
    timed = next((row.milliseconds for row in results.rows
                  if row.network == DENSE and row.milliseconds), None)
    decimals = score_decimals(row.metric for row in results.rows)
    with_bits = any(_bits_matter(row) for row in results.rows)
    others = _others(results)
    lines, before = [], ''
    for row in results.rows:
        change = None if row.metric is None or first.metric is None or row is first \
            else row.metric - first.metric
        bops = [format_share(_share(row.costs.get('bops'), first.costs.get('bops')))]
        lines.append((
            '' if row.network == before else row.network, row.stage,
            format_cost('macs', row.costs.get('macs')),
            format_share(_share(row.costs.get('macs'), first.costs.get('macs'))),
            *(bops if with_bits else []),
            format_score(row.metric, decimals),
            UNKNOWN if change is None else f'{change:+.{decimals}f}',
            *(format_score(row.others.get(name), decimals) for name in others),
            UNKNOWN if row.size_bytes is None else f'{row.size_bytes / 1e6:.2f}',
            UNKNOWN if row.milliseconds is None else f'{row.milliseconds:.2f}',
            UNKNOWN if row.milliseconds is None or not timed
            else f'{row.milliseconds / timed:.2f} x'))
        before = row.network
    return TextTable(
        f'{results.metric} on the test set' +
        (f'; time of one image: {results.runtime}' if results.runtime else ''),
        ('network', 'stage', 'MACs', 'of dense', *(['BOPs'] if with_bits else []),
         short(results.metric), 'vs dense', *map(short, others), 'MB', 'ms',
         'of dense'),
        tuple(lines), left=2)


def short(metric: str) -> str:
    """A metric without its evaluator: ``'bbox_mAP'`` of ``'coco/bbox_mAP'``."""
    return metric.rpartition('/')[2]


def _others(results: Results) -> list[str]:
    """Names of the other metrics of any row."""
    return list(dict.fromkeys(name for row in results.rows for name in row.others))


def _bits_matter(row: Result) -> bool:
    """Whether a network's BOPs say more than its MACs."""
    macs, bops = row.costs.get('macs'), row.costs.get('bops')
    return bool(macs and bops and bops < 1023 * macs)


def save_results(results: Results, folder: str | Path) -> None:
    """Write ``results.json``, ``results.csv`` and ``results.md``."""
    folder = Path(folder)
    write_text(folder / RESULTS, json.dumps(asdict(results), indent=1))
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator='\n')
    others = _others(results)
    writer.writerow(('network', 'stage', *COSTS, 'size_bytes', results.metric, *others,
                     'milliseconds'))
    for row in results.rows:
        writer.writerow(
            (row.network, row.stage, *(row.costs.get(name) for name in COSTS),
             row.size_bytes, row.metric, *map(row.others.get, others),
             row.milliseconds))
    write_text(folder / 'results.csv', buffer.getvalue())
    table = results_table(results)
    write_text(folder / 'results.md', '\n'.join(
        [f'{table.title}.', '', table.markdown(), '', *(f'- {note}' for note
                                                         in results.notes), '']))


def load_results(folder: str | Path) -> Results | None:
    """What :func:`save_results` wrote; None if there is nothing.

    Raises:
        DataError: The file is damaged.
    """
    path = Path(folder) / RESULTS
    if not path.is_file():
        return None
    try:
        data: dict[str, Any] = read_json(path)
        return record(Results, {
            **data, 'rows': [record(Result, row, 'a row') for row in data['rows']]})
    except (KeyError, TypeError, ValueError) as error:
        raise DataError(f'{path} is damaged ({error!r}); delete it, and run '
                        'tools/compress.py again.') from error
