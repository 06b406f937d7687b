"""Keeping away what other packages print, warn of and log."""

from __future__ import annotations

import contextlib
import io
import logging
import os
import sys
import warnings
from collections.abc import Iterator


@contextlib.contextmanager
def quiet(*loggers: logging.Logger) -> Iterator[None]:
    """Within the block nothing is printed or warned of, and only errors are logged.

    Lines that compiled code writes to the process's standard output are kept away too.

    Args:
        loggers (logging.Logger): Whose messages below errors are dropped.
    """
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    sys.stdout.flush()
    saved, sink = os.dup(1), os.open(os.devnull, os.O_WRONLY)
    os.dup2(sink, 1)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter('ignore')
            yield
    finally:
        os.dup2(saved, 1)
        os.close(sink)
        os.close(saved)
        for logger, level in zip(loggers, levels):
            logger.setLevel(level)
