"""Checks that are made beyond the first ones, each with an answer of its own."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from .files import check_export, check_fake_quant
from .repair import check_repair
from .subject import NotApplicable, Subject
from .training import check_distill, check_training

PASSED, RUNNING, SKIPPED = 'passed', 'running', 'n/a: '
LONGEST = 300
"""Characters of a reason."""

FURTHER: dict[str, Callable[[Subject], str]] = {
    'training': check_training, 'repair': check_repair, 'export': check_export,
    'distill': check_distill, 'fake_quant': check_fake_quant}
"""By name, in the order in which they are made. Each returns what it measured, or
raises. The last one changes the classes of layers."""


@dataclass(frozen=True)
class Answer:
    """What one check found.

    Args:
        name (str): Of :data:`FURTHER`.
        status (str): ``'passed'``, ``'n/a: '`` and why, or the reason of failure;
            ``'running'`` before.
        seconds (float): Its time.
        measured (str): What was measured, in words.
    """

    name: str
    status: str = RUNNING
    seconds: float = 0.0
    measured: str = ''


class OutOfTime(BaseException):
    """A check has taken too long. Nothing that it calls may take it for an error."""


def answers(
    subject: Subject, wanted: Sequence[str], limit: float | None = None
) -> Iterator[Answer]:
    """Make some checks, one after the other; none hides another.

    Args:
        subject (Subject): The network.
        wanted (Sequence[str]): Names in :data:`FURTHER`.
        limit (float | None): Seconds for each. Defaults to no limit.

    Yields:
        Answer: Before each check one that says that it runs, then its own.
    """
    for name in FURTHER:
        if name not in wanted:
            continue
        yield Answer(name)
        start, measured = time.perf_counter(), ''
        try:
            with within(limit):
                measured = FURTHER[name](subject)
            status = PASSED
        except OutOfTime:
            status = f'time: over {limit:g} s'
        except NotApplicable as why:
            status = SKIPPED + short(why)
        except Exception as problem:  # any model may fail in any way of its own
            status = f'{type(problem).__name__}: {short(problem)}'
        yield Answer(name, status, round(time.perf_counter() - start, 1), measured)


def short(problem: Exception) -> str:
    """The message of a problem, on one line."""
    return ' '.join(str(problem).split())[:LONGEST]


@contextmanager
def within(seconds: float | None) -> Iterator[None]:
    """A block of the main thread that raises :class:`OutOfTime` after so long."""
    def stop(*_: object) -> None:
        raise OutOfTime

    before = signal.signal(signal.SIGALRM, stop) if seconds else None
    try:
        if seconds:
            signal.setitimer(signal.ITIMER_REAL, seconds)
        yield
    finally:
        if seconds:
            signal.setitimer(signal.ITIMER_REAL, 0)
            signal.signal(signal.SIGALRM, before)
