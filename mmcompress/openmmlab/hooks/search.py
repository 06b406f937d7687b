"""Hooks of a search: progress and logging.

A search calls ``before_search(runner, loop)``, ``after_evaluation(runner, loop,
evaluated)`` and ``after_search(runner, loop, outcome)`` on every hook that has them, or
``search_interrupted(runner, loop)`` where it ends by an exception.
"""

from __future__ import annotations

import sys
import time
from datetime import timedelta

from mmengine.hooks import Hook
from mmengine.runner import Runner

from ...api.listener import ProgressBar
from ...options import Count, checking
from ...registry import HOOKS
from ...report import Outcome, print_table, table_text
from ...searchers import Evaluated


@HOOKS.register_module()
class SearchLoggerHook(Hook):
    """Writes every score to the log and to the visualizer's backends.

    Args:
        interval (int): Evaluations between two lines of the log. Defaults to 1.
    """

    @checking
    def __init__(self, interval: Count = 1) -> None:
        self.interval = interval
        self._begun: tuple[float, int] | None = None

    def before_search(self, runner: Runner, loop) -> None:
        """Start the clock."""
        self._begun = None

    def after_evaluation(self, runner: Runner, loop, evaluated: Evaluated) -> None:
        """Log one scored policy."""
        dense = loop.costs.dense()
        ratios = {f'{t.cost}_ratio': evaluated.costs[t.cost] / dense[t.cost]
                  for t in loop.targets}
        runner.visualizer.add_scalars(
            dict(search_score=evaluated.score, **ratios), step=evaluated.number)
        done, total = evaluated.number + 1, loop.searcher.evaluations
        now = time.monotonic()
        if self._begun is None:
            self._begun = now - evaluated.seconds, evaluated.number
        if done % self.interval == 0:
            shares = ', '.join(f'{k} {v:.3f}' for k, v in ratios.items())
            what = f'Search [{done}/{total}]' if done <= total else 'Derived policy'
            left = ''
            if done < total and done > self._begun[1]:
                pace = (now - self._begun[0]) / (done - self._begun[1])
                left = f', {timedelta(seconds=round(pace * (total - done)))} left'
            # Where there is a bar, it says so.
            runner.logger.info(
                f'{what} score {evaluated.score:.5f} ({loop.session.score_name}, dense '
                f'{loop.dense_score:.5f}), {shares}, {evaluated.seconds:.1f} s{left}',
                extra=dict(file_only=sys.stderr.isatty()))

    def after_search(self, runner: Runner, loop, outcome: Outcome) -> None:
        """Log the trade-off table."""
        runner.logger.info(
            'Trade-off:\n' + table_text(outcome.tradeoff) +
            f'\nwritten to {loop.work_dir}')


@HOOKS.register_module()
class SearchProgressHook(Hook):
    """Shows a bar with the best score of every target and the time left.

    Nothing is shown where the output is not a terminal; the log has it all.
    """

    def __init__(self) -> None:
        self._bar = ProgressBar()

    def before_search(self, runner: Runner, loop) -> None:
        """Open the bar at what a resumed search has already done."""
        self._bar.before_search(loop)

    def after_evaluation(self, runner: Runner, loop, evaluated: Evaluated) -> None:
        """Advance the bar."""
        self._bar.after_evaluation(loop, evaluated)

    def search_interrupted(self, runner: Runner, loop) -> None:
        """Close the bar."""
        self._bar.close()

    def after_search(self, runner: Runner, loop, outcome: Outcome) -> None:
        """Close the bar and print the table."""
        if self._bar.shown:
            self._bar.after_search(loop, outcome)
            print_table(outcome.tradeoff)
