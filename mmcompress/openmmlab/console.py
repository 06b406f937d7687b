"""What a command line prints: what a user can use. The log file holds the rest too."""

from __future__ import annotations

import logging
import re
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from typing import Any, TextIO

from mmengine.logging import MMLogger

FILE_ONLY = re.compile(
    r'\s*-+\s*System environment|Config:\n|Hooks will be executed|paramwise_options|'
    r'Distributed training is not used|Using env variable|Checkpoints will be saved|'
    r'"FileClient" will be|"HardDiskBackend" is|Loads checkpoint by local backend|'
    r'Auto-detected|The prefix is not set in metric class|bbox_mAP_copypaste|'
    r'Evaluating bbox\.\.\.|.*is not a meta file|\s*Average (Precision|Recall)')
"""Beginnings of messages of mmengine and its family that go to the log file alone."""

CHATTER = re.compile(
    r'Could not import OneDL|Loads checkpoint by|creating index\.\.\.|index created!|'
    r'(loading annotations into memory|Loading and preparing results|'
    r'Running per image evaluation|Accumulating evaluation results)\.\.\.$|'
    r'Converting ndarray to lists|DONE \(t=[\d.]+s\)\.?$|Done \(t=[\d.]+s\)$|'
    r'\(\d+, 7\)$|\d+/\d+$|Evaluate annotation type|\s*Average (Precision|Recall)')
"""Lines that libraries print on their own."""


@contextmanager
def calm() -> Iterator[None]:
    """Keep the console for results and progress, for the length of a block.

    Loggers that are made within it write the config, lists of hooks and the environment
    to their files alone. Warnings of other packages, which no user of this one can act
    on, and what they print on their own are dropped, and so are the tracebacks of
    loggers whose disk is full.
    """
    make = MMLogger.__init__

    def quietly(self: MMLogger, *args: Any, **options: Any) -> None:
        make(self, *args, **options)
        for handler in self.handlers:
            if not isinstance(handler, logging.FileHandler):
                handler.addFilter(_for_console)

    MMLogger.__init__, stream = quietly, WithoutChatter(sys.stdout)
    reported, logging.raiseExceptions = logging.raiseExceptions, False  # full disks
    try:
        with warnings.catch_warnings(), redirect_stdout(stream):
            warnings.filterwarnings('ignore', module=r'(?!mmcompress)')
            yield
    finally:
        stream.finish()
        MMLogger.__init__, logging.raiseExceptions = make, reported


def _for_console(record: logging.LogRecord) -> bool:
    return not (getattr(record, 'file_only', False)
                or FILE_ONLY.match(record.getMessage()))


class WithoutChatter:
    """A stream that leaves out the lines that match :data:`CHATTER`.

    Args:
        stream (TextIO): Where all others go.
    """

    def __init__(self, stream: TextIO) -> None:
        self.stream, self._begun = stream, ''

    def write(self, text: str) -> int:
        """Write whole lines; the beginning of one waits for its end."""
        *lines, self._begun = (self._begun + text).split('\n')
        kept = [line + '\n' for line in lines if not CHATTER.match(line)]
        self.stream.write(''.join(kept))
        return len(text)

    def finish(self) -> None:
        """Write the line that was begun."""
        self.stream.write(self._begun)
        self._begun = ''

    def __getattr__(self, name: str) -> Any:
        return getattr(self.stream, name)
