"""Wait for other workers: if one dies, somebody has to be left to do its work."""

from __future__ import annotations

import random
import time
from collections.abc import Callable

from .study import Claim, Study

PAUSE = 2.0
"""Seconds, about, between two looks at what other workers do."""


def next_claim(
    study: Study, evaluations: int, log: Callable[[str], None]
) -> Claim | None:
    """Take the next evaluation; wait while other workers make the last ones.

    Args:
        study (Study): The study.
        evaluations (int): Number of evaluations of the whole search.
        log (Callable): Receives a line if there is something to wait for.

    Returns:
        Claim | None: None once all evaluations have been made.
    """
    told = False
    while (claim := study.claim(evaluations)) is None and (
            busy := [n for n in study.running() if n < evaluations]):
        if not told:
            log('Waiting for evaluations that other workers make: '
                f'{", ".join(map(str, busy))}.')
        told = True
        _pause()
    return claim or study.claim(evaluations)  # of a worker that died just now


def wait(study: Study) -> None:
    """Wait until the evaluations that are made now have ended."""
    busy = set(study.running())
    _pause()
    while busy & set(study.running()):
        _pause()


def _pause() -> None:
    """Not as long as those who wait for the same."""
    time.sleep(PAUSE * (0.5 + random.random()))
