"""Tell whether a stored study belongs to this search, and if not, why."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator
from typing import Any

from ..errors import StudyError

SHOWN = 5
MISSING = object()


def check_signature(
    what: str, stored: Any, current: Any, free: Collection[str] = ()
) -> None:
    """Raise if two signatures differ.

    Args:
        what (str): Names the study in the message.
        stored (Any): JSON data found in the study.
        current (Any): JSON data of this run.
        free (Collection[str]): Dotted names of settings that may differ.

    Raises:
        StudyError: Names the settings that differ and says what to do.
    """
    differences = [text for path, text in _differences('', stored, current)
                   if path not in free]
    if not differences:
        return
    more = len(differences) - SHOWN
    listed = '; '.join(differences[:SHOWN]) + (f'; and {more} more' if more > 0 else '')
    raise StudyError(
        f'{what} belongs to another search. It differs in: {listed}. Restore these '
        'settings to continue it, or choose another work dir, study name or storage '
        'to start afresh.')


def _differences(
    path: str, stored: Any, current: Any
) -> Iterator[tuple[str, str]]:
    if isinstance(stored, dict) and isinstance(current, dict):
        for key in sorted({*stored, *current}):
            yield from _differences(
                f'{path}.{key}'.lstrip('.'),
                stored.get(key, MISSING), current.get(key, MISSING))
    elif stored != current:
        yield path, f'{path} (study: {_short(stored)}, now: {_short(current)})'


def _short(value: Any) -> str:
    if value is MISSING:
        return 'not set'
    text = json.dumps(value)
    return text if len(text) <= 60 else f'{text[:57]}...'
