"""What is done for an evaluation that raises, or that takes too long."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch

from ..errors import CompressionError
from ..evaluation import Score
from ..options import Positive, checking
from ..policy import Policy
from ..session import Session


def score_once_more(
    session: Session, policy: Policy, seconds: float | None,
    warn: Callable[[str], None],
) -> Score:
    """Score a policy, twice if it raises: the reason may have gone.

    Where a GPU's memory is too small, half as many images are scored at a time from
    then on.

    Args:
        session (Session): Scores.
        policy (Policy): The policy.
        seconds (float | None): See :func:`time_limit`.
        warn (Callable): Receives a sentence.

    Raises:
        Exception: What the second attempt raised.
        TimeoutError: The first one took too long.
    """
    try:
        with time_limit(seconds):
            return session.score(policy)
    except TimeoutError:
        raise
    except torch.cuda.OutOfMemoryError:
        torch.cuda.empty_cache()
        session.evaluator.halve_batches()
        warn('Out of memory: from here on half as many images are scored at a time.')
    except Exception as error:
        warn(f'A policy is scored once more after {said(error)}')
    with time_limit(seconds):
        return session.score(policy)


def said(error: BaseException) -> str:
    """An exception as the end of a sentence."""
    reason = str(error).strip().rstrip('.') or 'no message'
    return f'{type(error).__name__}: {reason}.'


@checking
@contextmanager
def time_limit(seconds: Positive | None) -> Iterator[None]:
    """Raise :class:`TimeoutError` in the block once it has taken too long.

    The alarm is heard between two steps of Python: a single call into a library is
    waited for.

    Args:
        seconds (float | None): The limit; None for none.

    Raises:
        TimeoutError: The block took longer.
        CompressionError: There are no alarms here.
    """
    if seconds is None:
        yield
        return
    if not hasattr(signal, 'SIGALRM') or \
            threading.current_thread() is not threading.main_thread():
        raise CompressionError(
            'time_limit works in the main thread of a process on Linux or macOS only; '
            'leave it out.')

    def stop(*_: object) -> None:
        raise TimeoutError(f'it took longer than the time_limit of {seconds:g} s')

    before = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
