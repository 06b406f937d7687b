"""Processes that end in order: when they are told to, and with who started them."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

PARENT = 'MMCOMPRESS_PARENT'
"""Environment variable of a helper: the process that it must not outlive."""
LAST_WORDS = 60
"""Seconds that a helper may take to end."""


class Terminated(KeyboardInterrupt):
    """The process was sent SIGTERM."""


@contextmanager
def ending_in_order() -> Iterator[None]:
    """Within the block SIGTERM is an exception, and a helper's lost parent a SIGTERM.

    So claims of a search are given back, and its helpers ended.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, _end)
    if parent := os.environ.pop(PARENT, None):
        threading.Thread(target=_watch, args=(int(parent),), daemon=True).start()
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _end(*_: object) -> None:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)  # once is enough
    raise Terminated


def _watch(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(0.5)
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(LAST_WORDS)  # It may be in a library, which hears nothing.
    os._exit(128 + signal.SIGTERM)
