"""The whole way from a config to one table."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from mmengine.config import Config
from mmengine.hooks import Hook
from mmengine.registry import init_default_scope

from ...exporter.quantise.float_layers import Progress
from ...exporter.timing import time_files
from ...plain import digest
from ...policy.files import PolicyFile
from ...report import (
    Result,
    Results,
    load_outcome,
    same_sort,
    save_results,
    write_all,
)
from ...report.tradeoff import DENSE
from ..checkpoints import loading
from ..cli import conceal_password
from ..config_files import read_config
from ..searching import search_loop
from ..settings import check_settings
from .console import Console
from .networks import Network
from .options import CompressOptions, check, complete
from .stages import (
    Exported,
    Searched,
    Stages,
    Timed,
    Tuned,
    file_digest,
)

FILE, FILE8 = 'file', '8-bit file'
EIGHT, TUNED8 = '8 bits', '8 bits fine-tuned'


def compress(
    cfg: Config, targets: Mapping[str, Any] | None = None, **given: Any
) -> Results:
    """Search, fine-tune, quantise, export, test and time; what is done is skipped.

    Args:
        cfg (Config): Config of the dense model with its checkpoint and a work dir.
        targets (Mapping | None): Budgets by cost. Defaults to those of the config.
        given: Fields of :class:`CompressOptions`; None leaves the config's.

    Returns:
        Results: One table, which is in the work dir, too.

    Raises:
        CompressionError: Something in the config does not fit.
    """
    cfg = copy.deepcopy(cfg)
    check_settings(cfg)
    options = CompressOptions.of(cfg, **given)
    complete(cfg, targets, options)
    conceal_password(cfg)
    check(cfg, options)
    return _Run(cfg, options).run()


def compress_file(
    config: str | Path | Config, targets: Mapping[str, Any] | None = None,
    work_dir: str | None = None, overrides: Mapping[str, Any] | None = None,
    **given: Any,
) -> Results:
    """See :func:`mmcompress.compress`."""
    cfg = copy.deepcopy(config) if isinstance(config, Config) else \
        read_config(config)
    cfg.merge_from_dict(dict(overrides or {}))
    name = Path(cfg.filename or 'compress').stem
    cfg.work_dir = work_dir or cfg.get('work_dir') or f'work_dirs/{name}'
    init_default_scope(cfg.get('default_scope', 'mmengine'))
    with loading():
        return compress(cfg, targets, **given)


class SearchSteps(Hook):
    """Tells of the progress of a search.

    Args:
        report (Progress): Is told.
    """

    def __init__(self, report: Progress) -> None:
        self.report = report

    def after_evaluation(self, runner, loop, evaluated) -> None:
        """A policy has been scored."""
        self.report(min(evaluated.number + 1, loop.searcher.evaluations),
                    loop.searcher.evaluations)


@dataclass
class _Run:
    """One compression; its rows are filled as it goes on.

    Args:
        cfg (Config): Complete.
        options (CompressOptions): What is asked for.
        metric (str): What the table shows of the test set.
    """

    cfg: Config
    options: CompressOptions
    metric: str = ''
    rows: list[Result] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.work_dir = Path(self.cfg.work_dir)
        self.console = Console(self.work_dir / 'compress.log', self._count())
        self.stages = Stages(self.console)
        self.weights = file_digest(self.cfg.load_from)
        self.origins: list[str] = []

    def _count(self) -> int:
        """Number of stages if every budget is met."""
        options = self.options
        targets = sum(len(v) if isinstance(v, (list, tuple)) else 1
                      for v in self.cfg.search_cfg.targets.values())
        trained = 2 * (options.epochs != 0) + 3 * bool(options.int8_epochs)
        return 2 + (1 + targets) * (6 if options.int8 else 3) + targets * trained

    def run(self) -> Results:
        searched = self._search()
        self.metric = searched.metric
        dense = Network(
            DENSE, self.cfg, self.options, self.stages, None,
            digest([self.weights, self.cfg.model]))
        self._follow(dense, searched.dense)
        for name, policy in searched.policies.items():
            network = Network(
                name, self.cfg, self.options, self.stages, policy, searched.key)
            costs = PolicyFile.load(policy).facts['costs']
            self._follow(network, costs)
        self._time()
        return self._report(searched)

    # -- stages --------------------------------------------------------------------
    def _search(self) -> Searched:
        settings = [self.weights, {key: self.cfg.get(key) for key in (
            'model', 'data_preprocessor', 'compression', 'search_cfg',
            'train_dataloader', 'test_dataloader', 'val_evaluator', 'randomness')}]

        def work(progress: Progress) -> Searched:
            loop = search_loop(copy.deepcopy(self.cfg))
            loop.runner.register_hook(SearchSteps(progress))
            outcome = loop.run()
            policies = {name: str(self.work_dir / 'policies' / f'{name}.json')
                        for name in outcome.policies}
            return Searched(
                policies=policies, dense=outcome.tradeoff.dense,
                metric=outcome.tradeoff.score_name, files=tuple(policies.values()))

        path = self.work_dir / 'networks' / 'searched.json'
        return self.stages.do('search', path, settings, Searched, work)

    def _follow(self, network: Network, costs: Mapping[str, float]) -> None:
        """All stages of one network, each a row."""
        def add(stage: str, path: str, metrics: Mapping[str, float],
                costs: Mapping[str, float], size: float | None) -> None:
            self.rows.append(Result(
                network.name, stage, dict(costs), metrics.get(self.metric), size,
                path=path, others=same_sort(self.metric, metrics)))

        checkpoint, origin = network.searched, network.identity
        is_dense = network.policy is None
        stage = 'as trained' if is_dense else 'as searched'
        found = network.test(stage, checkpoint, origin, network.policy)
        if is_dense and found and self.metric not in found:
            # The search went by a distance, which no test set knows.
            self.metric = next(iter(found))
        add(stage, checkpoint, found, costs, costs.get('size_bytes'))
        if not is_dense and self.options.epochs != 0:
            tuned = network.tune(self.metric)
            add('fine-tuned', tuned.checkpoint, network.test(
                'fine-tuned', tuned.checkpoint, tuned.key, network.policy), costs,
                costs.get('size_bytes'))
            if tuned.is_worse:
                self.notes.append(
                    f'{network.name}: fine-tuning made it worse on '
                    f'{self._judged(tuned)}, so what follows is made of the network as '
                    'searched. Try a lower compress_cfg.lr, more --epochs or '
                    '--distill.')
            else:
                checkpoint, origin = tuned.checkpoint, tuned.key
        # In some runtimes the file in float is the faster one.
        for int8 in [False, True] if self.options.int8 else [False]:
            made = network.export(checkpoint, origin, int8)
            if int8:
                made = self._follow_int8(network, made, add)
            now = made.costs or costs
            if len(made.onnx) > 1:
                self.notes.append(f'{network.name}: the time is that of '
                                  f'{Path(made.onnx[0]).name} alone.')
            stage = FILE8 if int8 else FILE
            add(stage, made.onnx[0], network.test(
                stage, made.onnx[0], made.key, backend=self.options.runtime), now,
                made.size)
            self.origins.append(made.key)

    def _follow_int8(
        self, network: Network, made: Exported, add: Callable
    ) -> Exported:
        """The stages of a network in 8 bits; the file that is worth more."""
        costs = made.costs
        add(EIGHT, made.weights,
            network.test(EIGHT, made.weights, made.key, made.policy), costs,
            costs.get('size_bytes'))
        self.notes.append(made.note)
        if network.policy is None or not self.options.int8_epochs:
            return made
        tuned = network.tune_int8(made, self.metric)
        add(TUNED8, tuned.checkpoint, network.test(
            TUNED8, tuned.checkpoint, tuned.key, made.policy), costs,
            costs.get('size_bytes'))
        if not tuned.is_worse:
            return network.export_tuned(made, tuned)
        self.notes.append(
            f'{network.name}: fine-tuning in 8 bits made it worse on '
            f'{self._judged(tuned)}, so its file has the weights before. Try a lower '
            'compress_cfg.int8_lr, or more compress_cfg.int8_epochs.')
        return made

    def _judged(self, tuned: Tuned) -> str:
        """On what a fine-tuned network was judged, and the two scores."""
        return (f'{tuned.images} ({self.metric} {tuned.before:.4g}, then '
                f'{tuned.after:.4g})')

    def _time(self) -> None:
        """Time every file beside the dense one."""
        options = self.options
        files = [row.path for row in self.rows if row.stage in (FILE, FILE8)]

        def work(progress: Progress) -> Timed:
            timings = time_files(
                files, options.runtime, options.threads, options.repeats,
                progress=progress)
            return Timed(milliseconds={str(t.path): t.median for t in timings})

        timed = self.stages.do(
            'time all files', self.work_dir / 'networks' / 'timed.json',
            [self.origins, files, options.runtime, options.threads, options.repeats],
            Timed, work)
        self.rows = [replace(row, milliseconds=timed.milliseconds.get(row.path))
                     for row in self.rows]
        times = {(row.network, row.stage): row.milliseconds for row in self.rows}
        self.notes += [
            f'{name}: its file in float is faster than that in 8 bits.'
            for (name, stage), ms in times.items()
            if stage == FILE8 and ms > times[name, FILE]]

    def _report(self, searched: Searched) -> Results:
        options, outcome = self.options, load_outcome(self.work_dir)
        threads = f'{options.threads} thread' + 's' * (options.threads > 1)
        results = Results(
            tuple(self.rows), self.metric, f'{options.runtime}, {threads}',
            (*self.notes,
             *(f'{name}: no policy was within it.' for name in outcome.missed),
             f'Stages: {self.stages.times()}.'), str(self.work_dir))
        save_results(results, self.work_dir)
        write_all(outcome, self.work_dir)
        return results
