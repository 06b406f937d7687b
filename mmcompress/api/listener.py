"""Who is told about the progress of a search."""

from __future__ import annotations

import logging
import sys
from typing import TYPE_CHECKING

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from ..report import Outcome
from ..searchers import Evaluated, best_per_target

if TYPE_CHECKING:
    from .run import SearchRun

LOGGER = logging.getLogger('mmcompress')


class Listener:
    """Is told about every step of a search; does nothing but log.

    Override what you want to know. All methods are called in the process that
    searches, between two evaluations.
    """

    def log(self, text: str) -> None:
        """Receive a line about the search."""
        LOGGER.info(text)

    def warn(self, text: str) -> None:
        """Receive a line about something that went wrong and was survived."""
        LOGGER.warning(text)

    def before_search(self, run: SearchRun) -> None:
        """The search begins or continues."""

    def after_evaluation(self, run: SearchRun, evaluated: Evaluated) -> None:
        """A policy has been scored; it is in the study."""

    def after_search(self, run: SearchRun, outcome: Outcome) -> None:
        """The results have been written."""

    def interrupted(self, run: SearchRun) -> None:
        """The search ends by an exception."""


class ProgressBar(Listener):
    """Shows a bar with the best score of every target and the time left.

    Nothing is shown where the output is not a terminal; the log has it all.
    """

    def __init__(self) -> None:
        self.progress: Progress | None = None

    @property
    def shown(self) -> bool:
        """Whether there is a bar at the moment."""
        return self.progress is not None

    def before_search(self, run: SearchRun) -> None:
        """Open the bar at what a resumed search has already done."""
        if not sys.stderr.isatty():
            return
        self.progress = Progress(
            TextColumn('search'), BarColumn(), MofNCompleteColumn(),
            TextColumn('{task.fields[best]}'), TimeElapsedColumn(),
            TimeRemainingColumn(), console=Console(stderr=True))
        self._task = self.progress.add_task(
            'search', total=run.searcher.evaluations, best='',
            completed=len(run.study.history()))
        self.progress.start()

    def after_evaluation(self, run: SearchRun, evaluated: Evaluated) -> None:
        """Advance the bar; other workers' evaluations count too."""
        if self.progress is not None:
            history = run.study.history()
            best = best_per_target(history, run.targets)
            text = run.session.score_name + ''.join(
                f'  {t.name} {b.score:.3f}' if b else f'  {t.name} -'
                for t, b in zip(run.targets, best))
            self.progress.update(self._task, completed=len(history), best=text)

    def after_search(self, run: SearchRun, outcome: Outcome) -> None:
        """Close the bar."""
        self.close()

    def interrupted(self, run: SearchRun) -> None:
        """Close the bar, or it would be drawn once more."""
        self.close()

    def close(self) -> None:
        """Leave the bar as it is, and the terminal to others."""
        if self.progress is not None:
            self.progress.stop()
            self.progress = None
