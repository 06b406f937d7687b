"""Whether two recordings of the golden runs are equal."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

TOLERANCE = 1e-6
"""Largest difference of an array, as a share of its largest value (at least 1)."""
UNSTABLE = frozenset({
    'seconds', 'time', 'time outside evaluation', 'timestamp', 'date', 'path', 'config',
    'work_dir'})
"""Columns and keys that name times and places, which no two runs share."""
RECORDED = 'recorded.json'
"""What a recorded case says of itself; written last, so it marks a complete one."""
SHOWN = 5
"""Differences that are told of one file."""


def compare_cases(a: Path, b: Path, names: Sequence[str]) -> list[str]:
    """Differences between two recordings.

    Args:
        a, b (Path): Folders with a folder for each case.
        names (Sequence[str]): The cases to compare.

    Returns:
        list[str]: Sentences, none if all are equal.
    """
    found = []
    for name in names:
        missing = [f'{name}: not recorded in {folder}' for folder in (a, b)
                   if not (folder / name / RECORDED).is_file()]
        found += missing or _machines(a / name, b / name) or \
            compare_folders(a / name, b / name)
    return found


def _machines(a: Path, b: Path) -> list[str]:
    """Floats differ between machines, so nothing follows from comparing two."""
    left, right = (json.loads((x / RECORDED).read_text())['machine'] for x in (a, b))
    return [] if left == right else [
        f'{a.name}: recorded on different machines ({left}; {right}); record both here']


def compare_folders(a: Path, b: Path) -> list[str]:
    """Differences between the artefacts of one case in two recordings."""
    files = [{p.relative_to(x).as_posix() for p in x.rglob('*')
              if p.suffix in READERS and p.name != RECORDED} for x in (a, b)]
    found = [f'{a.name}/{name}: only in {x}' for x, mine, others in
             ((a, *files), (b, *files[::-1])) for name in sorted(mine - others)]
    for name in sorted(files[0] & files[1]):
        left, right = (READERS[Path(name).suffix](x / name) for x in (a, b))
        lines = list(differences(left, right))
        found += [f'{a.name}/{name}{line}' for line in lines[:SHOWN]]
        if len(lines) > SHOWN:
            found.append(f'{a.name}/{name}: {len(lines) - SHOWN} more differences')
    return found


def differences(a: Any, b: Any, place: str = '') -> Iterator[str]:
    """Where two nested values differ: floating-point arrays by more than a tolerance.

    All else must be equal to the bit, and the order of keys as well.
    """
    if isinstance(a, dict) and isinstance(b, dict):
        if list(a) != list(b):
            yield f'{place}: keys {_one_sided(a, b)}'
        for key in (k for k in a if k in b):
            yield from differences(a[key], b[key], f'{place} {key}')
    elif isinstance(a, list) and isinstance(b, list) and len(a) == len(b):
        for i, (x, y) in enumerate(zip(a, b)):
            yield from differences(x, y, f'{place}[{i}]')
    elif isinstance(a, np.ndarray) and isinstance(b, np.ndarray):
        if problem := _array_difference(a, b):
            yield f'{place}: {problem}'
    elif repr(a) != repr(b):  # Tells 1 from 1.0 and knows that NaN is NaN.
        yield f'{place}: {_short(a)} != {_short(b)}'


def _array_difference(a: np.ndarray, b: np.ndarray) -> str:
    if a.shape != b.shape or a.dtype != b.dtype:
        return f'{a.dtype} {a.shape} != {b.dtype} {b.shape}'
    if not np.issubdtype(a.dtype, np.floating):
        return '' if np.array_equal(a, b) else 'values differ'
    if not np.array_equal(np.isfinite(a), np.isfinite(b)):
        return 'not finite in other places'
    here = np.isfinite(a)
    if not np.array_equal(a[~here], b[~here], equal_nan=True):
        return 'infinities or NaN differ'
    a, b = a[here].astype(float), b[here].astype(float)
    largest = np.abs(a - b).max(initial=0)
    scale = np.abs(a).max(initial=1)
    return f'differs by {largest:.3g}, largest value {scale:.3g}' \
        if largest > TOLERANCE * scale else ''


def _one_sided(a: dict, b: dict) -> str:
    left, right = [k for k in a if k not in b], [k for k in b if k not in a]
    return f'only in the first {left[:3]}, only in the second {right[:3]}' \
        if left or right else 'in another order'


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) < 80 else f'{text[:77]}...'


def _stable(data: Any) -> Any:
    """Without what names times and places."""
    if isinstance(data, dict):
        return {k: _stable(v) for k, v in data.items() if k not in UNSTABLE}
    return [_stable(x) for x in data] if isinstance(data, list) else data


def _read_json(path: Path) -> Any:
    return _stable(json.loads(path.read_text()))


def _read_csv(path: Path) -> list:
    with open(path, newline='') as file:
        return _stable(list(csv.DictReader(file)))


def _read_arrays(path: Path) -> dict:
    with np.load(path) as data:
        return {name: data[name] for name in sorted(data.files)}


READERS = {'.json': _read_json, '.csv': _read_csv, '.npz': _read_arrays}
