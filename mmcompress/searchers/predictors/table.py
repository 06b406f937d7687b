"""Labels from a table: one row a policy, whatever network it belongs to."""

from __future__ import annotations

import csv
import os
import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ...errors import PredictorError
from ...policy import FLOAT, SearchSpace

KINDS = {'prune': 'prune', 'bits': 'bits', 'wbits': 'wbits', 'w_bits': 'wbits',
         'weight_bits': 'wbits', 'abits': 'abits', 'a_bits': 'abits',
         'activation_bits': 'abits'}


@dataclass(frozen=True, eq=False)
class LabelTable:
    """Labelled policies and the space they span.

    Args:
        space (SearchSpace): Unit ``i`` and layer ``i`` for every number in the
            column names; a width is kept share times ``width``.
        rows (np.ndarray): Policies ``(N, len(space))``.
        scores (np.ndarray): ``(N,)``.
    """

    space: SearchSpace
    rows: np.ndarray
    scores: np.ndarray

    def __len__(self) -> int:
        return len(self.scores)


def read_label_table(
    path: str | os.PathLike, score: str | None = None, width: int = 100
) -> LabelTable:
    """Read a CSV of (policy, score) pairs.

    Columns: ``prune_i``, the removed share of unit i; ``bits_i``, the bits of
    weights and activations of layer i, or ``weight_bits_i`` (``wbits_i``) and
    ``activation_bits_i`` (``abits_i``) apart; one score. Layers and units may be
    any numbers; what a table lacks is dense or float. The choices of a column are
    the values that occur in the table and the dense width.

    Args:
        path (str | os.PathLike): The file.
        score (str, optional): Column of the scores. By default the one column that
            is not part of a policy.
        width (int): Dense width that shares are expressed in. Defaults to 100.

    Raises:
        PredictorError: Missing file, or columns or values that make no policy.
    """
    header, values = _read(path)
    columns: dict[str, dict[int, np.ndarray]] = {k: {} for k in KINDS.values()}
    others = {}
    for name, column in zip(header, values.T):
        match = re.fullmatch(r'(\w+?)_(\d+)', name)
        if match and match[1] in KINDS and name != score:
            columns[KINDS[match[1]]][int(match[2])] = column
        else:
            others[name] = column
    scores = _scores(path, others, score)
    bits = [{**columns['bits'], **columns[side]} for side in ('wbits', 'abits')]
    units, layers = sorted(columns['prune']), sorted({*bits[0], *bits[1]})
    if not units and not layers:
        raise PredictorError(
            f'{path} has no column prune_i or bits_i; name the columns so.')
    full = np.full(len(scores), float(FLOAT))
    kept = [(1 - columns['prune'][i]) * width for i in units]
    rows = np.column_stack(
        [*kept, *(side.get(i, full) for side in bits for i in layers)])
    whole = np.rint(rows)
    if np.abs(rows - whole).max() > 1e-6 or whole.min() < 1:
        raise PredictorError(
            f'{path} has shares that are not multiples of 1 / {width}, or nothing '
            'kept, or bits that are not positive integers. Give another width.')
    choices = [tuple(sorted({*column.astype(int).tolist(), *extra})) for column, extra
               in zip(whole.T, [(width,)] * len(units) + [()] * 2 * len(layers))]
    space = SearchSpace(
        tuple(map(str, units)), tuple(map(str, layers)), tuple(choices))
    return LabelTable(space, whole.astype(np.int64), scores)


def _read(path: str | os.PathLike) -> tuple[list[str], np.ndarray]:
    try:
        with Path(path).open(newline='') as file:
            header, *lines = [line for line in csv.reader(file) if line]
        values = np.array(lines, dtype=float)
    except (OSError, ValueError) as error:
        raise PredictorError(
            f'{path} cannot be read as a table of numbers with a header: {error}.'
        ) from error
    if values.ndim != 2 or values.shape[1] != len(header):
        raise PredictorError(f'{path} has no rows, or rows of unequal length.')
    if not np.isfinite(values).all():
        raise PredictorError(f'{path} holds values that are not finite.')
    return [name.strip() for name in header], values


def _scores(
    path: str | os.PathLike, others: dict[str, np.ndarray], score: str | None
) -> np.ndarray:
    if score is None and len(others) == 1:
        return next(iter(others.values()))
    if score not in others:
        raise PredictorError(
            f'{path} has the columns {sorted(others)} beside the policies; say which '
            'one is the score.')
    return others[score]
