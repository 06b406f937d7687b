"""The loop that searches the model of a Runner."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mmengine.model import is_model_wrapper
from mmengine.runner import Runner

from ...api.listener import Listener
from ...api.run import SearchRun
from ...errors import CompressionError
from ...options import Natural, Positive
from ...registry import LOOPS
from ...report import Outcome, table_text
from ...report.tradeoff import DENSE
from ...searchers import Evaluated
from ...study.storage import STORAGE, STUDY
from ...study.worker import STALE_AFTER
from ..gallery import write_gallery
from ..sessions import session_of
from ..test_set import FamilyScores, check_test_set


@LOOPS.register_module()
class PolicySearchLoop:
    """Searches a family of compressed networks and writes it to the work dir.

    Every scored policy is in the study before the next is proposed, so a search
    that was killed continues where it was when the command is run again, and
    several processes may run the same command at once to share the work.

    Hooks may ask the loop for everything that :class:`SearchRun` and
    :class:`~mmcompress.session.Session` have, e.g. ``loop.targets``.

    Args:
        runner (Runner): Holds the model, its configuration and the work dir.
        searcher (dict): Config of a searcher, e.g. ``dict(type='Evolution',
            evaluations=200)``.
        evaluator (dict): Config of the :class:`PolicyEvaluator`.
        targets (dict): Budgets: cost name to a value or several. Up to 1 means a
            fraction of the dense cost.
        storage (str): Where the study lives: ``sqlite:///FILE``,
            ``journal:///FILE`` or any database URL; relative files are in the work
            dir. Defaults to 'sqlite:///search.db'.
        study (str): Name of the study in the storage. Defaults to 'search'.
        save_checkpoints (bool): Write the slim checkpoint of every target's best
            policy beside its policy file. Defaults to True.
        seed (int | None): Seed of the searcher. Defaults to that of the runner, which
            :func:`search_runner` takes from the study if the config names none.
        latency (dict | None): Where ``latency_ms``, if it is a target, is measured:
            ``path`` (``latency.json`` in the work dir), ``backend``, ``threads``; see
            :func:`latency_of`.
        prices (dict | None): Config of the source of prices, for searchers that need
            them. Defaults to ``dict(type='GradientPrices')``.
        time_limit (float | None): Seconds that an evaluation may take; one that takes
            longer has failed. Defaults to no limit.
        stale_after (float): Seconds without a sign of life after which a worker on
            another machine, or one that was stopped, counts as dead; the same for all
            workers. Defaults to 300.
    """

    def __init__(
        self,
        runner: Runner,
        searcher: dict,
        evaluator: dict,
        targets: Mapping[str, Any],
        storage: str = STORAGE,
        study: str = STUDY,
        save_checkpoints: bool = True,
        seed: Natural | None = None,
        prices: dict | None = None,
        latency: dict | None = None,
        time_limit: Positive | None = None,
        stale_after: Positive = STALE_AFTER,
    ) -> None:
        self.runner, self.evaluator_cfg = runner, evaluator
        self.searcher_cfg = dict(searcher)
        self.searcher_cfg.setdefault('seed', runner.seed if seed is None else seed)
        self.save_checkpoints = save_checkpoints
        self._options = dict(
            targets=targets, storage=storage, study=study, prices=prices,
            latency=latency, time_limit=time_limit, stale_after=stale_after,
            save_checkpoints=save_checkpoints)
        self._search: SearchRun | None = None

    @property
    def work_dir(self) -> Path:
        """Where everything is written."""
        return Path(self.runner.work_dir)

    def __getattr__(self, name: str) -> Any:
        """What hooks ask: attributes of the search and of its session."""
        search = self.__dict__.get('_search')
        for owner in (search, getattr(search, 'session', None)):
            if owner is not None and hasattr(owner, name):
                return getattr(owner, name)
        raise AttributeError(f'{type(self).__name__} has no attribute {name!r}')

    def prepare(self) -> SearchRun:
        """Trace, verify, load images, sort channels, open the study; once."""
        if self._search is not None:
            return self._search
        runner, cfg = self.runner, self.runner.cfg
        model = runner.model
        session = session_of(
            model.module if is_model_wrapper(model) else model, cfg,
            self.evaluator_cfg, runner.logger.info)
        self._search = SearchRun(
            session, self.searcher_cfg, work_dir=self.work_dir,
            facts=dict(config=str(cfg.filename or '')), tests=self._known_tests,
            pictures=lambda policies: write_gallery(
                session, policies, self.work_dir),
            listener=Hooks(self), **self._options)
        return self._search

    def run(self) -> Outcome:
        """Search until the evaluations are used, then write the results."""
        return self.prepare().run()

    def answer(self, targets: Mapping[str, float | Sequence[float]]) -> None:
        """Write policies for further targets; see :meth:`SearchRun.answer`."""
        self.prepare().answer(targets)

    def write(self) -> Outcome:
        """Write policies, checkpoints, table, plots and report again."""
        return self.prepare().write()

    # -- the test set -----------------------------------------------------------
    def check_testable(self) -> None:
        """See that :meth:`test` can do its work, before hours of search.

        Raises:
            CompressionError: There are no checkpoints, or no test set.
        """
        cfg = self.runner.cfg
        check_test_set(cfg)
        if not self.save_checkpoints or not cfg.get('load_from'):
            raise CompressionError(
                'Testing needs checkpoints: set load_from in the config, and leave '
                'search_cfg.save_checkpoints on.')

    def test(self) -> Outcome:
        """Test what was written on the test set of the config, and report it.

        Returns:
            Outcome: With the metrics.
        """
        self.check_testable()
        search = self.prepare()
        FamilyScores(self.runner.cfg, search.study).measure(
            {DENSE: None, **search.family()})
        outcome = search.report()
        self.runner.logger.info('Tested:\n' + table_text(outcome.tradeoff))
        return outcome

    def _known_tests(
        self, family: Mapping[str, tuple[int, Path]]
    ) -> dict[str, dict[str, float]]:
        scores = FamilyScores(self.runner.cfg, self._search.study)
        return scores.known({DENSE: None, **family})


class Hooks(Listener):
    """Passes what happens on to the hooks and the logger of a loop's Runner."""

    def __init__(self, loop: PolicySearchLoop) -> None:
        self.loop, self.runner = loop, loop.runner

    def log(self, text: str) -> None:
        """See :meth:`Listener.log`."""
        self.runner.logger.info(text)

    def warn(self, text: str) -> None:
        """See :meth:`Listener.warn`."""
        self.runner.logger.warning(text)

    def before_search(self, run: SearchRun) -> None:
        """See :meth:`Listener.before_search`."""
        self.runner.call_hook('before_search', loop=self.loop)

    def after_evaluation(self, run: SearchRun, evaluated: Evaluated) -> None:
        """See :meth:`Listener.after_evaluation`."""
        self.runner.call_hook(
            'after_evaluation', loop=self.loop, evaluated=evaluated)

    def interrupted(self, run: SearchRun) -> None:
        """See :meth:`Listener.interrupted`."""
        self.runner.call_hook('search_interrupted', loop=self.loop)

    def after_search(self, run: SearchRun, outcome: Outcome) -> None:
        """See :meth:`Listener.after_search`."""
        self.runner.call_hook('after_search', loop=self.loop, outcome=outcome)
