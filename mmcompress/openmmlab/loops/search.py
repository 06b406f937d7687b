"""The loop that searches: propose, score, record, until the budget is used."""

from __future__ import annotations

import json
import math
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from mmengine.model import is_model_wrapper
from mmengine.runner import Runner

from ...costs import Costs, CostTable, Target, parse_targets
from ...errors import CompressionError, StudyError
from ...evaluation import PolicyEvaluator
from ...files import write_bytes
from ...graph import trace, verify
from ...latency.measure import latency_of
from ...mutators import JointMutator
from ...policy import Policy, SearchSpace
from ...prices import Subject
from ...prices.table import PriceTable
from ...registry import EVALUATORS, LOOPS, PRICES, SEARCHERS, build
from ...report import Outcome, make_outcome, table_text, write_all
from ...report.tradeoff import DENSE
from ...search import Evaluated, Listed, Searcher, Study, best_per_target, choose
from ...surgery.weights import weights_digest
from ..input_shape import input_shape_of
from ..search_results import (
    describe,
    evaluation_facts,
    plain,
    write_checkpoint,
    write_policy,
)
from ..test_set import FamilyScores, check_test_set


@LOOPS.register_module()
class PolicySearchLoop:
    """Searches a family of compressed networks and writes it to the work dir.

    Every scored policy is in the study before the next is proposed, so a search
    that was killed continues where it was when the command is run again, and
    several processes may run the same command at once to share the work.

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
        seed (int | None): Seed of the searcher. Defaults to that of the runner.
        latency (dict | None): Where ``latency_ms``, if it is a target, is measured:
            ``path`` (``latency.json`` in the work dir), ``backend``, ``threads``; see
            :func:`latency_of`.
        prices (dict | None): Config of the source of prices, for searchers that need
            them. Defaults to ``dict(type='GradientPrices')``.
    """

    def __init__(
        self,
        runner: Runner,
        searcher: dict,
        evaluator: dict,
        targets: Mapping[str, float | Sequence[float]],
        storage: str = 'sqlite:///search.db',
        study: str = 'search',
        save_checkpoints: bool = True,
        seed: int | None = None,
        prices: dict | None = None,
        latency: dict | None = None,
    ) -> None:
        self.runner = runner
        self.prices_cfg = dict(prices or {})
        self.searcher_cfg = dict(searcher)
        self.searcher_cfg.setdefault('seed', runner.seed if seed is None else seed)
        self.evaluator: PolicyEvaluator = build(
            EVALUATORS, {'type': 'PolicyEvaluator', **evaluator})
        self.targets_cfg, self.latency_cfg = targets, latency or {}
        self.storage, self.study_name = storage, study
        self.save_checkpoints = save_checkpoints
        self.total_seconds = self.evaluation_seconds = 0.0
        self._prepared = False

    @property
    def work_dir(self) -> Path:
        """Where everything is written."""
        return Path(self.runner.work_dir)

    # -- the search ----------------------------------------------------------
    def run(self) -> Outcome:
        """Search until the evaluations are used, then write the results.

        Returns:
            Outcome: What was written to the work dir, as data.
        """
        self.prepare()
        self.runner.call_hook('before_search', loop=self)
        start = time.perf_counter()
        while (claim := self.study.claim(self.searcher.evaluations)) is not None:
            policy = choose(self.searcher, self.study, claim)
            if policy is None:
                self.study.release(claim)
                break
            self._score(claim, policy)
        # Who finishes last knows the whole history; the others leave.
        if not any(n < self.searcher.evaluations for n in self.study.running()):
            self._score_all(
                self.searcher.answers(self.study.history(), self.targets))
        self.total_seconds += time.perf_counter() - start
        outcome = self.write()
        self.runner.call_hook('after_search', loop=self, outcome=outcome)
        return outcome

    def answer(self, targets: Mapping[str, float | Sequence[float]]) -> None:
        """Write policies for further targets from what the search has left.

        Nothing is searched. What a searcher derives for them is evaluated once and
        kept in the study; with other searchers the best evaluated policy within
        each budget is written.

        Args:
            targets (dict): As of the loop.

        Raises:
            StudyError: The search has not begun, or nothing meets a target.
        """
        self.prepare()
        parsed = parse_targets(targets, self.costs)
        start = time.perf_counter()
        policies = self.searcher.answers(self.study.history(), parsed)
        milliseconds = 1000 * (time.perf_counter() - start)
        self._score_all(policies)
        for target, best in zip(parsed, self._winners(parsed)):
            if best is None:
                raise StudyError(
                    f'The search in {self.work_dir} has no policy for {target.name}. '
                    'Run it first, with the same command but --target.')
            name = self._write_policy(target.name, best)
            self.runner.logger.info(
                f'{target.name}: {self.evaluator.metric} = {best.score:.4f}, '
                f'{target.cost} {best.costs[target.cost]:.6g} of at most '
                f'{target.limit:.6g}; wrote policies/{name}')
        self.runner.logger.info(
            f'Deriving {len(policies)} policies took {milliseconds:.1f} ms.')

    def _score_all(self, policies: Sequence[Policy]) -> None:
        """Evaluate policies that the search ended with, unless they have been."""
        for policy in dict.fromkeys(policies):
            while policy not in self._tried():
                claim = self.study.claim(sys.maxsize)
                listed = Listed(self.space, self.costs, [policy])
                chosen = choose(listed, self.study, claim)
                if chosen is None:  # Another worker is at it.
                    self.study.release(claim)
                    break
                self._score(claim, chosen)

    def _tried(self) -> list[Policy | None]:
        return [e.policy for e in [*self.study.history(), *self.study.failures()]]

    def _score(self, claim, policy: Policy) -> None:
        score = self.evaluator.evaluate(policy, self.mutator)
        self.evaluation_seconds += score.seconds
        if math.isfinite(score.value):
            evaluated = Evaluated(
                claim.number, policy, score.value, self.costs.of(policy),
                score.metrics, score.seconds)
            self.study.finish(claim, evaluated)
            self.runner.call_hook('after_evaluation', loop=self, evaluated=evaluated)
        else:
            reason = f'{self.evaluator.metric} is {score.value}'
            self.study.fail(claim, reason)
            self.runner.logger.warning(
                f'Evaluation {claim.number} failed and is not ranked: {reason}.')

    # -- before --------------------------------------------------------------
    def prepare(self) -> None:
        """Trace, verify, load images, sort channels, open the study; once."""
        if self._prepared:
            return  # Sorting sorted channels would lose their original numbers.
        cfg, log = self.runner.cfg, self.runner.logger
        compression = cfg.get('compression') or {}
        model = self.runner.model
        self.model = model.module if is_model_wrapper(model) else model
        shape = input_shape_of(cfg)
        self.graph = verify(self.model, trace(self.model, shape))
        log.info(describe(self.graph))
        self.evaluator.prepare(self.model, cfg)
        self.mutator = JointMutator.from_config(compression)
        weights = weights_digest(self.model)
        self.mutator.prepare(self.model, self.graph, self.evaluator)
        self.space = SearchSpace.from_graph(self.graph, **self.mutator.space_options)
        self.costs = Costs(
            CostTable.from_graph(self.graph), self.space, self._measured_costs())
        self.targets = parse_targets(self.targets_cfg, self.costs)
        self.searcher: Searcher = build(
            SEARCHERS, self.searcher_cfg, space=self.space, costs=self.costs,
            targets=self.targets, **self._needed())
        self.study = Study(
            self._storage_url(), self.study_name, self._signature(compression))
        self._check_weights(weights)
        try:
            self.dense_score = self._score_dense()
        except CompressionError:
            self.study.discard()
            raise
        self._prepared = True

    def _check_weights(self, digest: str) -> None:
        """A checkpoint may have been trained again under the same name."""
        known = self.study.get_attr('weights')
        if known is None:
            self.study.set_attr('weights', digest)
        elif known != digest:
            raise StudyError(
                f'Study {self.study_name!r} in {self.storage} was made with other '
                'weights. Restore the checkpoint to continue it, or choose another '
                'work dir, study name or storage to start afresh.')

    def _needed(self) -> dict:
        """What the searcher takes besides space, costs and targets."""
        kind = self.searcher_cfg['type']
        kind = SEARCHERS.get(kind) if isinstance(kind, str) else kind
        derive = dict(scores=lambda: self.mutator.scores, prices=self._prices)
        return {name: derive[name]() for name in getattr(kind, 'needs', ())}

    def _prices(self) -> PriceTable:
        source = build(PRICES, {'type': 'GradientPrices', **self.prices_cfg})
        return source.compute(
            Subject(self.model, self.graph, self.space, self.mutator, self.evaluator,
                    self.runner.logger.info),
            self.work_dir / 'prices')

    def _measured_costs(self) -> dict[str, Callable]:
        """Costs that are measured on this machine, if a target needs them."""
        if 'latency_ms' not in self.targets_cfg:
            return {}
        options = dict(dict(path=self.work_dir / 'latency.json'), **self.latency_cfg)
        return dict(latency_ms=latency_of(
            self.model, self.graph, self.space, **options))

    def _storage_url(self) -> str:
        """The storage with a relative file placed in the work dir."""
        scheme, separator, path = self.storage.partition(':///')
        if separator and scheme in ('sqlite', 'journal') and \
                not path.startswith('/'):
            return f'{scheme}:///{(self.work_dir / path).absolute()}'
        return self.storage

    def _signature(self, compression: Mapping) -> dict:
        """What two runs must agree on to share one study."""
        checkpoint = self.runner._load_from
        return dict(
            fingerprint=self.graph.fingerprint,
            units=[u.name for u in self.graph.units],
            compression=plain(compression), searcher=plain(self.searcher_cfg),
            evaluator=self.evaluator.signature, targets=plain(self.targets_cfg),
            prices=plain(self.prices_cfg),
            checkpoint=str(checkpoint) if checkpoint else None,
            input_shape=list(self.graph.input_shape))

    def _score_dense(self) -> float:
        known = self.study.get_attr('dense_score')
        if known is None:
            score = self.evaluator.evaluate(Policy(), self.mutator)
            if not math.isfinite(score.value):
                raise CompressionError(
                    f'The dense model scores {self.evaluator.metric} = {score.value}; '
                    'check the checkpoint and the dataset before searching.')
            known = score.value
            self.study.set_attr('dense_score', known)
        self.runner.logger.info(
            f'Dense model: {self.evaluator.metric} = {known:.4f} on '
            f'{self.evaluator.images} images')
        return known

    # -- after ---------------------------------------------------------------
    def write(self) -> Outcome:
        """Write policies, checkpoints, table, plots and report."""
        winners = self._winners(self.targets)
        for target, best in zip(self.targets, winners):
            if best is not None:
                self._write_policy(target.name, best)
        for name, data in self.searcher.artefacts(self.study.history()).items():
            content = data if isinstance(data, bytes) else \
                json.dumps(data, indent=1).encode()
            write_bytes(self.work_dir / name, content)
        return self._report(winners)

    def _report(self, winners: Sequence[Evaluated | None]) -> Outcome:
        """Write table, plots and report."""
        family = self._family(winners)
        outcome = make_outcome(
            history=self.study.history(), targets=self.targets,
            dense=self.costs.dense(), dense_score=self.dense_score,
            score_name=self.evaluator.metric,
            policy_files={name: member[1].name
                          for name, member in family.items() if member},
            graph=self.graph, facts=self._facts(),
            searcher=self.searcher_cfg['type'], failures=len(self.study.failures()),
            winners=winners,
            tests=FamilyScores(self.runner.cfg, self.study).known(family))
        write_all(outcome, self.work_dir)
        return outcome

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
        winners = self._winners(self.targets)
        FamilyScores(self.runner.cfg, self.study).measure(self._family(winners))
        outcome = self._report(winners)
        self.runner.logger.info('Tested:\n' + table_text(outcome.tradeoff))
        return outcome

    def _family(
        self, winners: Sequence[Evaluated | None]
    ) -> dict[str, tuple[int, Path] | None]:
        """See :class:`FamilyScores`."""
        return {DENSE: None} | {
            target.name: (best.number, self._policy_path(target.name))
            for target, best in zip(self.targets, winners) if best is not None}

    def _policy_path(self, name: str) -> Path:
        """Where the policy of a target is written."""
        return self.work_dir / 'policies' / f'{name}.json'

    def _winners(self, targets: Sequence[Target]) -> tuple[Evaluated | None, ...]:
        """What is written for each target."""
        history = self.study.history()
        answers = self.searcher.answers(history, targets)
        if not answers:
            return best_per_target(history, targets)
        scored = {e.policy: e for e in history}
        return tuple(scored.get(policy) for policy in answers)

    def _write_policy(self, name: str, best: Evaluated) -> str:
        path = self._policy_path(name)
        write_policy(path, best, self.graph, self.mutator, dict(
            dense_score=self.dense_score, metric=self.evaluator.metric,
            searcher=self.searcher_cfg['type']))
        if self.save_checkpoints:
            write_checkpoint(
                path.with_suffix('.pth'), best, self.mutator, self.evaluator)
        return path.name

    def _facts(self) -> dict[str, str]:
        facts = {
            'model': type(self.model).__name__,
            'config': str(self.runner.cfg.filename or ''),
            'seed': str(self.searcher_cfg['seed']),
            **evaluation_facts(self.evaluator),
        }
        if self.total_seconds:
            overhead = 1 - self.evaluation_seconds / self.total_seconds
            facts['time outside evaluation'] = f'{overhead:.1%}'
        return facts
