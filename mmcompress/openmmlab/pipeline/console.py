"""What a compression shows while it runs; everything else goes to its log file."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from pathlib import Path
from time import perf_counter
from typing import TextIO

from rich.console import Console as RichConsole
from rich.progress import (
    BarColumn,
    Progress,
    TaskProgressColumn,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from ...exporter.quantise.float_layers import Progress as Report

EVERY = 15.0
"""Seconds between two lines on a stage's progress where there is no terminal."""


class Console:
    """One line a stage, with the time left while it runs: a bar on a terminal.

    Args:
        log (Path): File for everything that the stages print, log and warn of.
        count (int): Number of stages.
    """

    def __init__(self, log: Path, count: int) -> None:
        self.log, self.count, self.number = log, count, 0
        log.parent.mkdir(parents=True, exist_ok=True)
        self.stream = _own_stdout()

    def say(self, text: str) -> None:
        """Print a line."""
        print(text, file=self.stream, flush=True)

    def _head(self, title: str) -> str:
        self.number += 1
        return f'[{self.number}/{self.count}] {title}'

    def skipped(self, title: str) -> None:
        """A stage was done before."""
        self.say(f'{self._head(title)}: done before')

    @contextmanager
    def stage(self, title: str) -> Iterator[Report]:
        """Within the block a stage runs and writes to the log file only.

        Args:
            title (str): What it does.

        Returns:
            Report: To be told how many of how many steps are done.
        """
        head, start = self._head(title), perf_counter()
        shown = self._bar(head) if self.stream.isatty() else self._lines(head)
        with shown as report, logged(self.log):
            print(f'\n==== {head}', flush=True)
            yield report
        self.say(f'{head}: {clock(perf_counter() - start)}')

    @contextmanager
    def _bar(self, head: str) -> Iterator[Report]:
        progress = Progress(
            TextColumn('{task.description}'), BarColumn(), TaskProgressColumn(),
            TimeElapsedColumn(), TimeRemainingColumn(),
            console=RichConsole(file=self.stream), transient=True)
        with progress:
            task = progress.add_task(head, total=None)
            yield lambda done, total: progress.update(
                task, completed=done, total=total)

    @contextmanager
    def _lines(self, head: str) -> Iterator[Report]:
        last, first = perf_counter(), None
        self.say(f'{head} ...')

        def report(done: int, total: int) -> None:
            nonlocal last, first
            now = perf_counter()
            # What comes before the first step says nothing about the others.
            first = first or (now, done)
            if now - last >= EVERY and first[1] < done < total:
                last = now
                left = (now - first[0]) * (total - done) / (done - first[1])
                self.say(f'    {done}/{total}, {clock(left)} left')

        yield report


def clock(seconds: float) -> str:
    """A time as people read it: ``8 s``, ``2:05 min``, ``1:02:05 h``."""
    whole = round(seconds)
    if whole < 60:
        return f'{whole} s'
    minutes, rest = divmod(whole, 60)
    if minutes < 60:
        return f'{minutes}:{rest:02} min'
    return f'{minutes // 60}:{minutes % 60:02}:{rest:02} h'


def _own_stdout() -> TextIO:
    """Standard output as it is now, also while :func:`logged` redirects it."""
    try:
        number = sys.stdout.fileno()
    except (AttributeError, OSError, ValueError):  # a notebook's
        return sys.stdout
    return os.fdopen(os.dup(number), 'w', encoding='utf-8')


@contextmanager
def logged(path: Path) -> Iterator[None]:
    """Within the block everything that is printed goes to a file, compiled code's too.

    The file stays open: loggers that were made in the block keep it.

    Args:
        path (Path): The file; it is appended to.
    """
    file = open(path, 'a', encoding='utf-8', buffering=1)  # noqa: SIM115
    outer = sys.stdout, sys.stderr
    for stream in outer:
        stream.flush()
    saved = [(number, os.dup(number)) for number in (1, 2)]
    for number, _ in saved:
        os.dup2(file.fileno(), number)
    try:
        with redirect_stdout(file), redirect_stderr(file):
            yield
    finally:
        for stream in outer:  # what older loggers wrote belongs to the file, too
            stream.flush()
        for number, copy in saved:
            os.dup2(copy, number)
            os.close(copy)
