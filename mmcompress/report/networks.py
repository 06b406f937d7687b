"""Networks made of what a search found: fine-tuned, exported, timed.

They join the table and the report of the search whose work dir they are in.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ..errors import DataError
from ..files import read_json, write_text
from ..options import check_values, fits
from .tradeoff import Tradeoff, TradeoffRow

NETWORKS, OUTCOME = 'networks.json', 'outcome.json'


@dataclass(frozen=True)
class Noted:
    """What may be known of a network; see :func:`note_network`."""

    target: str
    test: Mapping[str, float] | None = None
    bytes: float | None = None
    ms: float | None = None


def search_of(path: str | os.PathLike) -> Path | None:
    """The work dir of a search that a file is in, None if it is in none."""
    folders = Path(path).resolve().parents
    return next((f for f in folders if (f / OUTCOME).is_file()), None)


def load_networks(work_dir: Path) -> dict[str, dict[str, Any]]:
    """What is known of the networks of a search, by their path in its work dir."""
    path = work_dir / NETWORKS
    if not path.is_file():
        return {}
    try:
        found = read_json(path)
        if not fits(found, Mapping[str, Mapping[str, Any]]):
            raise ValueError('it does not hold networks by path')
        for name, facts in found.items():
            check_values(name, Noted, {'target': None, **facts})
    except (OSError, ValueError) as error:
        raise DataError(
            f'{path} is damaged ({error}); delete it, and test, export and time the '
            'networks again.') from error
    return found


def note_network(
    path: str | os.PathLike, target: str | None = None, new: bool = False, **facts: Any
) -> Path | None:
    """Write down what was measured of a network.

    Args:
        path (str | os.PathLike): Its checkpoint or file.
        target (str | None): Target of its policy. Defaults to the one noted before.
        new (bool): Forget what was noted before, of another file at this path.
        facts: ``test``, the metrics on the test set; ``bytes``; ``ms``.

    Returns:
        Path | None: The work dir of its search, None if it is in none, or of no target
        that is known.
    """
    folder = search_of(path)
    if folder is None:
        return None
    known = load_networks(folder)
    name = Path(path).resolve().relative_to(folder).as_posix()
    entry = {**({} if new else known.get(name, {})), **facts}
    if target:
        entry['target'] = target
    if 'target' not in entry:
        return None
    write_text(folder / NETWORKS, json.dumps({**known, name: entry}, indent=1))
    return folder


def with_networks(
    tradeoff: Tradeoff, networks: Mapping[str, Mapping[str, Any]]
) -> Tradeoff:
    """A trade-off with a row for every network behind that of its target.

    What is known of the network that the search itself has written goes into the row
    of its target.
    """
    tested = [n['test'] for n in networks.values() if n.get('test')]
    name = tradeoff.test_name or next(
        (m for test in tested for m in (tradeoff.score_name, *test) if m in test), '')
    rows = {row.target: row for row in tradeoff.rows}
    made = []
    for path, network in networks.items():
        target = network['target']
        row = rows.get(target, TradeoffRow(target))
        test = network.get('test', {}).get(name)
        if path == f'policies/{target}.pth':
            rows[target] = replace(row, test=row.test if test is None else test)
            continue
        made.append(replace(
            row, policy=path, score=None, test=test, latency_ms=network.get('ms'),
            size_bytes=network.get('bytes', row.size_bytes)))
    return replace(
        tradeoff, rows=tuple(rows[row.target] for row in tradeoff.rows),
        networks=tuple(made), test_name=name)
