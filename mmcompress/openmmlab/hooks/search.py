"""Hooks of a search: progress and logging.

A search calls ``before_search(runner, loop)``, ``after_evaluation(runner, loop,
evaluated)`` and ``after_search(runner, loop, outcome)`` on every hook that has them.
"""

from __future__ import annotations

from mmengine.hooks import Hook
from mmengine.runner import Runner

from ...api.listener import ProgressBar
from ...registry import HOOKS
from ...report import Outcome, print_table, table_text
from ...searchers import Evaluated


@HOOKS.register_module()
class SearchLoggerHook(Hook):
    """Writes every score to the log and to the visualizer's backends.

    Args:
        interval (int): Evaluations between two lines of the log. Defaults to 1.
    """

    def __init__(self, interval: int = 1) -> None:
        self.interval = interval

    def after_evaluation(self, runner: Runner, loop, evaluated: Evaluated) -> None:
        """Log one scored policy."""
        dense = loop.costs.dense()
        ratios = {f'{t.cost}_ratio': evaluated.costs[t.cost] / dense[t.cost]
                  for t in loop.targets}
        runner.visualizer.add_scalars(
            dict(search_score=evaluated.score, **ratios), step=evaluated.number)
        if (evaluated.number + 1) % self.interval == 0:
            shares = ', '.join(f'{k} {v:.3f}' for k, v in ratios.items())
            done, total = evaluated.number + 1, loop.searcher.evaluations
            what = f'Search [{done}/{total}]' if done <= total else 'Derived policy'
            runner.logger.info(
                f'{what} score {evaluated.score:.5f} (dense {loop.dense_score:.5f}), '
                f'{shares}, {evaluated.seconds:.1f} s')

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

    def after_search(self, runner: Runner, loop, outcome: Outcome) -> None:
        """Close the bar and print the table."""
        if self._bar.shown:
            self._bar.after_search(loop, outcome)
            print_table(outcome.tradeoff)
