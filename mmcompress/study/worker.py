"""Who works on a study, and whether they still live."""

from __future__ import annotations

import logging
import os
import socket
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any

import psutil
from optuna.exceptions import UpdateFinishedTrialError

CLOCK_TOLERANCE = 2.0
"""Seconds by which two readings of one process's start may differ."""

STALE_AFTER = 300.0
"""Seconds without a sign of life after which a worker counts as dead by default."""


def this_worker() -> dict[str, Any]:
    """Describe this process so that another one can tell whether it lives."""
    return {
        'host': socket.gethostname(),
        'processes': _process_namespace(),
        'pid': os.getpid(),
        'created': psutil.Process().create_time(),
    }


def is_alive(
    worker: Mapping[str, Any], last_sign: float, stale_after: float
) -> bool:
    """Whether the worker that described itself so is still running.

    On the same host the process table knows. Elsewhere, in other containers, and of a
    process that was stopped, only the age of the last sign of life tells.

    Args:
        worker (Mapping[str, Any]): From :func:`this_worker`.
        last_sign (float): Unix time of its claim or last heartbeat.
        stale_after (float): Seconds of silence after which it counts as dead.
    """
    me = (socket.gethostname(), _process_namespace())
    recent = time.time() - last_sign < stale_after
    if (worker['host'], worker['processes']) != me:
        return recent
    try:
        process = psutil.Process(worker['pid'])
        status, created = process.status(), process.create_time()
    except psutil.NoSuchProcess:
        return False
    except psutil.AccessDenied:
        return True
    if status in (psutil.STATUS_STOPPED, psutil.STATUS_TRACING_STOP) and not recent:
        return False
    # A zombie has ended; its parent has not asked how.
    return status != psutil.STATUS_ZOMBIE and \
        abs(created - worker['created']) <= CLOCK_TOLERANCE


def _process_namespace() -> str:
    """Tell containers that share a host name apart: their process ids differ."""
    with suppress(OSError):
        return os.readlink('/proc/self/ns/pid')
    return ''


class Heartbeat:
    """A thread that gives a sign of life until it is stopped.

    Args:
        beat (Callable[[], None]): Gives the sign.
        interval (float): Seconds between signs.
    """

    def __init__(self, beat: Callable[[], None], interval: float) -> None:
        self._beat = beat
        self._interval = interval
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Stop; a sign on its way may still be given."""
        self._stopped.set()

    def _run(self) -> None:
        while not self._stopped.wait(self._interval):
            try:
                self._beat()
            except UpdateFinishedTrialError:
                return  # Finished meanwhile, or taken over by another worker.
            except Exception as error:  # A server or a disk may say anything.
                # The evaluation matters more than one sign of life.
                logging.getLogger('mmcompress').debug('No heartbeat: %s', error)
