"""One search over a session: propose, score, record, until the budget is used."""

from __future__ import annotations

import json
import math
import sys
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from ..costs import Costs, CostTable, Target, joined, parse_targets
from ..costs.targets import MEASURED, names_of
from ..errors import CompressionError, StudyError
from ..files import write_bytes
from ..latency.measure import latency_of
from ..options import Positive, check_values
from ..plain import plain
from ..policy import Policy
from ..prices import PriceSource, Subject
from ..prices.table import PriceTable
from ..registry import PRICES, SEARCHERS, build, check_call, checked
from ..report import Outcome, make_outcome, write_all
from ..searchers import Evaluated, Listed, Searcher, best_per_target
from ..searchers.base import GIVEN
from ..session import Session
from ..study import Claim, Study, choose
from ..study.storage import STORAGE, STUDY, placed
from ..study.waiting import next_claim, wait
from ..study.worker import STALE_AFTER
from .attempts import said, score_once_more
from .begun import as_begun, check_weights, signature_of_begun, signed_as_begun
from .listener import Listener
from .results import evaluation_facts, facts_of, write_checkpoint, write_policy

Targets = Mapping[str, float | Sequence]

FURTHER = 'further targets'
"""Attribute of a study: the budgets that it was asked for after the search."""

IN_A_ROW = 5
"""Evaluations of a worker that may raise one after the other before it gives up."""


class SearchRun:
    """Searches a family of compressed networks and writes it to a work dir.

    Every scored policy is in the study before the next is proposed. A search that was
    killed therefore continues where it was, and several processes may run the same
    search at once to share its evaluations.

    Args:
        session (Session): The prepared model.
        searcher (Mapping): Config of a searcher, with its seed.
        targets (Mapping): Budgets; see :func:`mmcompress.costs.parse_targets`.
        work_dir (Path): Where everything is written.
        storage (str): Where the study lives: ``sqlite:///FILE``, ``journal:///FILE``
            or a database URL; relative files are in the work dir.
        study (str): Name of the study in the storage.
        prices (Mapping | None): Config of the source of prices, for searchers that
            need them. Defaults to the session's.
        latency (Mapping | None): Options of :func:`latency_of`, for targets on
            ``latency_ms``.
        time_limit (float | None): Seconds that an evaluation may take; one that takes
            longer has failed. Defaults to no limit.
        stale_after (float): See :class:`Study`.
        save_checkpoints (bool): Write the slim checkpoint of each target's best
            policy beside its policy file.
        facts (Mapping | None): Lines for the head of the report.
        tests (Callable | None): From the family to metrics on a test set, by name;
            see :meth:`family`.
        pictures (Callable | None): Is given the policies by target before a report of
            them is written, to add pictures to the work dir.
        listener (Listener | None): Told about the progress.

    Raises:
        CompressionError: An option is wrong, or the dense model has no score.
        StudyError: The study belongs to another search.
    """

    def __init__(
        self,
        session: Session,
        searcher: Mapping,
        targets: Targets,
        work_dir: Path,
        storage: str = STORAGE,
        study: str = STUDY,
        prices: Mapping | None = None,
        latency: Mapping | None = None,
        time_limit: Positive | None = None,
        stale_after: Positive = STALE_AFTER,
        save_checkpoints: bool = True,
        facts: Mapping[str, str] | None = None,
        tests: Callable[[Mapping], Mapping] | None = None,
        pictures: Callable[[Mapping[str, Policy]], None] | None = None,
        listener: Listener | None = None,
    ) -> None:
        self.work_dir = Path(work_dir)
        checked(SEARCHERS, searcher, GIVEN)
        checked(PRICES, {**session.price_source, **(prices or {})})
        check_call('latency', latency or {}, latency_of, ('model', 'graph', 'space'))
        where = placed(storage, self.work_dir)
        begun = signature_of_begun(where, study)
        self.session = session = as_begun(session, begun)
        self.searcher_cfg, self.prices_cfg = dict(searcher), dict(prices or {})
        self.targets_cfg, self.latency_cfg = targets, dict(latency or {})
        self.save_checkpoints, self.facts = save_checkpoints, dict(facts or {})
        self.tests, self.pictures = tests, pictures
        self.listener = listener or Listener()
        check_values('the search', SearchRun, dict(
            time_limit=time_limit, stale_after=stale_after))
        self.time_limit, self._in_a_row = time_limit, 0
        self.total_seconds = self.evaluation_seconds = 0.0
        self.costs = Costs(CostTable.from_graph(session.graph), session.space,
                           self._measured_costs())
        self.targets = parse_targets(targets, self.costs)
        self.costs = joined(self.costs, self.targets)
        self._compare_with_dense()
        # Built though nobody may need it: its settings are signed.
        self._price_source: PriceSource = build(
            PRICES, {**session.price_source, **self.prices_cfg})
        self.searcher: Searcher = build(
            SEARCHERS, self.searcher_cfg, space=session.space, costs=self.costs,
            targets=self.targets, **self._needed())
        self.study = Study(where, study, dict(
            signed_as_begun(session, begun), searcher=plain(self.searcher_cfg),
            targets=plain(targets), prices=plain(self.prices_cfg)), stale_after)
        try:
            check_weights(session, self.study, storage)
            self.dense_score = self._score_dense()
        except BaseException:
            self.study.discard()
            raise

    # -- before ---------------------------------------------------------------
    def _compare_with_dense(self) -> None:
        """Say what is known of the budgets before any work."""
        dense = self.costs.dense()
        if MEASURED in dense:
            self.listener.log(f'Dense model: {MEASURED} = {dense[MEASURED]:.3f} '
                              '(of its layers, measured on this machine)')
        for target in self.targets:
            if all(dense[cost] <= limit for cost, limit in target.limits.items()):
                self.listener.warn(
                    f'Target {target.name} allows what the dense model costs: '
                    + ', '.join(f'{cost} {dense[cost]:.6g} of {limit:.6g}'
                                for cost, limit in target.limits.items()) + '.')

    def _needed(self) -> dict:
        """The model data that the searcher lists in ``needs``."""
        kind = self.searcher_cfg['type']
        kind = SEARCHERS.get(kind) if isinstance(kind, str) else kind
        derive = dict(scores=lambda: self.session.scores, prices=self._prices)
        return {name: derive[name]() for name in getattr(kind, 'needs', ())}

    def _prices(self) -> PriceTable:
        session = self.session
        return self._price_source.compute(
            Subject(session.model, session.graph, session.space, session.mutator,
                    session.evaluator, self.listener.log), self.work_dir / 'prices')

    def _measured_costs(self) -> dict[str, Callable]:
        """Costs that are measured on this machine, if a target needs them."""
        if MEASURED not in names_of(self.targets_cfg):
            return {}
        options = dict(dict(path=self.work_dir / 'latency.json'), **self.latency_cfg)
        session = self.session
        return dict(latency_ms=latency_of(
            session.model, session.graph, session.space, **options))

    def _score_dense(self) -> float:
        known = self.study.get_attr('dense_score')
        if known is None:
            score = self.session.score(Policy())
            if not math.isfinite(score.value):
                raise CompressionError(
                    f'The dense model scores {self.session.score_name} = '
                    f'{score.value}; check the checkpoint and the dataset before '
                    'searching.')
            known = score.value
            self.study.set_attr('dense_score', known)
        self.listener.log(
            f'Dense model: {self.session.score_name} = {known:.4f} on '
            f'{self.session.evaluator.images} images')
        return known

    # -- the search -----------------------------------------------------------
    def run(self) -> Outcome:
        """Search until the evaluations are used, then write the results.

        Returns:
            Outcome: What was written to the work dir, as data.
        """
        self.listener.before_search(self)
        start = time.perf_counter()
        try:
            self._search()
        except BaseException:
            self.listener.interrupted(self)
            raise
        self.total_seconds += time.perf_counter() - start
        outcome = self.write()
        self.listener.after_search(self, outcome)
        return outcome

    def _search(self) -> None:
        """Score policies until the evaluations are used."""
        while (claim := next_claim(
                self.study, self.searcher.evaluations, self.listener.log)) is not None:
            try:
                policy = choose(self.searcher, self.study, claim)
            except BaseException:
                self.study.release(claim)
                self.study.discard()  # a mistake in the settings of the searcher
                raise
            if policy is None:
                self.study.release(claim)
                break
            self._score(claim, policy)
        # Who leaves earlier, as nothing is left to propose, knows no whole history.
        if not any(n < self.searcher.evaluations for n in self.study.running()):
            self._score_all(
                self.searcher.answers(self.study.history(), self.all_targets))

    def answer(self, targets: Targets) -> None:
        """Write policies for further targets from what the search has left.

        Nothing is searched. What a searcher derives for them is evaluated once and
        kept in the study; with other searchers the best evaluated policy within
        each budget is written. From then on the targets are in the report.

        Args:
            targets (Mapping): As of the run.

        Raises:
            StudyError: The search has not begun, or nothing meets a target.
        """
        parsed = parse_targets(targets, self.costs)
        known = self.study.get_attr(FURTHER) or []
        start = time.perf_counter()
        policies = self.searcher.answers(self.study.history(), parsed)
        milliseconds = 1000 * (time.perf_counter() - start)
        self._score_all(policies)
        for target, best in zip(parsed, self.winners(parsed)):
            if best is None:
                raise StudyError(
                    f'The search in {self.work_dir} has no policy for {target.name}. '
                    'Run it first, with the same command but --target.')
            name = self._write_policy(target.name, best)
            self.listener.log(
                f'{target.name}: {self.session.score_name} = {best.score:.4f}, '
                f'{target.cost} {target.of(best.costs):.6g} of at most '
                f'{target.limit:.6g}; wrote policies/{name}')
        if plain(targets) not in known:
            self.study.set_attr(FURTHER, [*known, plain(targets)])
        self.listener.log(
            f'Deriving {len(policies)} policies took {milliseconds:.1f} ms.')
        self.report()

    def _score_all(self, policies: Sequence[Policy]) -> None:
        """Evaluate policies that the search ended with, unless they have been."""
        for policy in dict.fromkeys(policies):
            while policy not in self._tried():
                claim = self.study.claim(sys.maxsize)
                listed = Listed(self.session.space, self.costs, [policy])
                chosen = choose(listed, self.study, claim)
                if chosen is None:  # Another worker is at it, and may die.
                    self.study.release(claim)
                    wait(self.study)
                else:
                    self._score(claim, chosen)

    def _tried(self) -> list[Policy | None]:
        return [e.policy for e in [*self.study.history(), *self.study.failures()]]

    def _score(self, claim: Claim, policy: Policy) -> None:
        try:
            self._measure(claim, policy)
        except BaseException:  # stopped by the user, or by the storage
            self.study.release(claim)
            self.study.discard()
            raise

    def _measure(self, claim: Claim, policy: Policy) -> None:
        try:
            score = score_once_more(
                self.session, policy, self.time_limit, self.listener.warn)
        except Exception as error:  # a model, a metric or a device may raise anything
            self._give_up(claim, error)
            return
        self._in_a_row = 0
        self.evaluation_seconds += score.seconds
        if math.isfinite(score.value):
            evaluated = Evaluated(
                claim.number, policy, score.value, self.costs.of(policy),
                score.metrics, score.seconds)
            self.study.finish(claim, evaluated)
            self.listener.after_evaluation(self, evaluated)
        else:
            self._fail(claim, f'{self.session.score_name} is {score.value}')

    def _give_up(self, claim, error: Exception) -> None:
        """Record that a policy cannot be evaluated; stop if none can."""
        self.listener.log(''.join(traceback.format_exception(error)))
        self._fail(claim, said(error))
        self._in_a_row += 1
        if self._in_a_row == IN_A_ROW:
            raise CompressionError(
                f'{IN_A_ROW} evaluations in a row failed, the last one by '
                f'{said(error)} Mend this, then run the same command again; their '
                'policies stay recorded as failed.') from error

    def _fail(self, claim, reason: str) -> None:
        self.study.fail(claim, reason)
        self.listener.warn(
            f'Evaluation {claim.number} failed and is not ranked: '
            f'{reason.rstrip(".")}.')

    # -- after ----------------------------------------------------------------
    def write(self) -> Outcome:
        """Write policies, checkpoints, table, plots and report."""
        targets = self.all_targets
        for target, best in zip(targets, self.winners(targets)):
            if best is not None:
                self._write_policy(target.name, best)
        for name, data in self.searcher.artefacts(self.study.history()).items():
            content = data if isinstance(data, bytes) else \
                json.dumps(data, indent=1).encode()
            write_bytes(self.work_dir / name, content)
        if self.pictures:
            self.pictures({target.name: best.policy for target, best in zip(
                targets, self.winners(targets)) if best is not None})
        return self.report()

    def report(self) -> Outcome:
        """Write table, plots and report."""
        targets = self.all_targets
        winners = self.winners(targets)
        outcome = make_outcome(
            history=self.study.history(), targets=targets,
            dense=self.costs.dense(), dense_score=self.dense_score,
            score_name=self.session.score_name,
            policy_files={target.name: f'{target.name}.json' for target, best
                          in zip(targets, winners) if best is not None},
            graph=self.session.graph, facts=self._facts(),
            searcher=self.searcher_cfg['type'], failures=len(self.study.failures()),
            winners=winners,
            tests=self.tests(self.family()) if self.tests else {})
        write_all(outcome, self.work_dir)
        return outcome

    def family(self) -> dict[str, tuple[int, Path]]:
        """Number of the evaluation and policy file of every target that is met."""
        targets = self.all_targets
        return {target.name: (best.number, self._policy_path(target.name))
                for target, best in zip(targets, self.winners(targets))
                if best is not None}

    @property
    def all_targets(self) -> tuple[Target, ...]:
        """The targets of the search, then those that it was asked for afterwards."""
        further = (target for spec in self.study.get_attr(FURTHER) or []
                   for target in parse_targets(spec, self.costs))
        return tuple({t.name: t for t in (*self.targets, *further)}.values())

    def winners(self, targets: Sequence[Target]) -> tuple[Evaluated | None, ...]:
        """What is written for each target, None where nothing meets it."""
        history = self.study.history()
        answers = self.searcher.answers(history, targets)
        if not answers:
            return best_per_target(history, targets)
        scored = {e.policy: e for e in history}
        return tuple(scored.get(policy) for policy in answers)

    def _policy_path(self, name: str) -> Path:
        """Where the policy of a target is written."""
        return self.work_dir / 'policies' / f'{name}.json'

    def _write_policy(self, name: str, best: Evaluated) -> str:
        path = self._policy_path(name)
        write_policy(path, best.policy, self.session, dict(
            dense_score=self.dense_score, metric=self.session.score_name,
            searcher=self.searcher_cfg['type'], **facts_of(best)))
        if self.save_checkpoints:
            write_checkpoint(path.with_suffix('.pth'), best.policy, self.session)
        return path.name

    def _facts(self) -> dict[str, str]:
        facts = {
            'model': type(self.session.model).__name__, **self.facts,
            'seed': str(self.searcher_cfg['seed']),
            'weights': self.session.weights[:12],
            **evaluation_facts(self.session.evaluator),
        }
        if self.total_seconds:
            overhead = 1 - self.evaluation_seconds / self.total_seconds
            facts['time outside evaluation'] = f'{overhead:.1%}'
        return facts
