"""LeGR against its baselines at equal evaluations, and what it costs.

Policies are scored on training images, with batch norms recalibrated on other
training images, and tested on images that no search has seen. Every score is kept in
work_dirs/benchmarks/legr/; kill it and run the same command again: it continues.

    python benchmarks/legr.py resnet56
    python benchmarks/legr.py resnet56_jpeg --parts compare
    python benchmarks/legr.py yolox_nano --parts compare

The defaults fit one CPU core. On a GPU raise --evaluations, --images, --calibration
and --steps.
"""

from __future__ import annotations

import argparse
import copy
import hashlib
import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from statistics import mean, stdev

import numpy as np
import torch
from common import quiet_config, train_and_test
from mmengine.config import Config
from mmengine.registry import init_default_scope
from scipy.stats import spearmanr

import mmcompress  # noqa: F401  (must precede mmdet and mmpretrain)
from mmcompress.costs import parse_targets
from mmcompress.engine.cli import load_weights, search_runner
from mmcompress.engine.policy_config import compress_config
from mmcompress.engine.search_loop import PolicySearchLoop
from mmcompress.engine.search_results import write_checkpoint, write_policy
from mmcompress.evaluation import (
    Finetuning,
    PolicyEvaluator,
    dynamic_bn,
    finetune,
    recalibrate,
)
from mmcompress.evaluation.finetune import training_batches
from mmcompress.evaluation.images import Batch
from mmcompress.mutators.channel import permute
from mmcompress.policy import Policy
from mmcompress.search import (
    Evaluated,
    Evolution,
    LeGR,
    Random,
    Ranking,
    Searcher,
    best_per_target,
)
from mmcompress.search.uniform import largest_uniform, uniform_rows

ROOT = Path(__file__).resolve().parents[1]
OUT = Path('work_dirs/benchmarks/legr')
METHODS = ('LeGR', 'random rankings', 'random policies', 'LeGR, deviation 1')


@dataclass(frozen=True)
class Case:
    """A network and the sizes that suit one CPU core.

    Args:
        config (str): Config of the search.
        recipe (str): Config of the fine-tune.
        metric (str): What is reported, in per cent.
        by (str): What every search scores policies by, on training images.
        test_images (int): Images to test on.
        targets (tuple[float, ...]): Shares of the dense MACs.
        compared (tuple[float, ...]): Those that are compared over seeds.
        tuned (tuple[float, ...]): Those that are compared after fine-tuning.
        search_at (float): Budget at which rankings are scored.
        deviation (float): Of LeGR's draws.
        evaluations, images, calibration, batch (int): Sizes.
        steps (int): SGD steps of the fine-tune, on the recipe's images; 0 follows
            the recipe for two epochs.
    """

    config: str
    recipe: str
    metric: str
    by: str
    test_images: int
    targets: tuple[float, ...]
    compared: tuple[float, ...]
    tuned: tuple[float, ...]
    search_at: float
    deviation: float = 0.1
    evaluations: int = 100
    images: int = 256
    calibration: int = 128
    batch: int = 128
    steps: int = 20


RESNET56 = Case(
    'configs/legr/legr_resnet56_cifar10.py', 'configs/cifar/resnet56_cifar10.py',
    'accuracy/top1', 'loss', 1017, (.8, .7, .6, .5, .4, .3, .2), (.7, .5, .3),
    (.5, .3), 0.4)
CASES = {
    'resnet56': RESNET56,
    'resnet56_jpeg': replace(
        RESNET56, config='configs/legr/legr_resnet56_cifar10-jpeg.py',
        recipe='configs/cifar/resnet56_cifar10-jpeg.py', compared=(.5, .3),
        tuned=(.5,)),
    'yolox_nano': Case(
        'configs/legr/legr_yolox-nano_coco128.py',
        'configs/yolox/yolox_nano_coco128_finetune.py', 'coco/bbox_mAP',
        'coco/bbox_mAP', 128, (.95, .9, .85, .8), (.95, .9), (.95,), 0.95,
        evaluations=16, images=96, calibration=32, batch=8, steps=0),
}


class Bench:
    """A prepared model, and what was measured on it so far."""

    def __init__(
        self, name: str, case: Case, seeds: int, methods: Sequence[str] = METHODS
    ) -> None:
        self.case, self.seeds, self.methods = case, seeds, methods
        cfg = Config.fromfile(ROOT / case.config)
        cfg.work_dir = str(OUT / name)
        # The loop only prepares; its study is not used.
        (OUT / name / 'search.db').unlink(missing_ok=True)
        evaluator = cfg.search_cfg.evaluator
        evaluator.update(
            metric=case.metric, images=case.images, batch_size=case.batch,
            calibration_images=case.calibration)
        cfg.search_cfg.targets = dict(macs=list(case.targets))
        init_default_scope(cfg.default_scope)
        runner = search_runner(cfg)
        load_weights(runner.model, cfg.load_from)
        options = {k: v for k, v in cfg.search_cfg.items() if k != 'type'}
        self.loop = PolicySearchLoop(runner, **options)
        self.loop.prepare()
        self.space, self.costs = self.loop.space, self.loop.costs
        self.cfg, self.scale = cfg, 100 if 'mAP' in case.metric else 1
        self.path = OUT / name / f'measured_{case.images}_{case.calibration}.jsonl'
        lines = self.path.read_text().splitlines() if self.path.is_file() else []
        self.known = dict(json.loads(line) for line in lines)
        self.test = PolicyEvaluator(
            case.metric, case.test_images, 0, 'off', cfg.test_dataloader.dataset,
            batch_size=case.batch)
        self.test.prepare(self.loop.model, cfg)

    def get(self, key: str, measure: Callable[[], dict | list | float]):
        """A value that is measured once and kept."""
        if key not in self.known:
            self.known[key] = measure()
            with self.path.open('a') as file:
                file.write(json.dumps([key, self.known[key]]) + '\n')
        return self.known[key]

    def key(self, policy: Policy) -> str:
        """Name of a policy: its widths."""
        row = self.space.encode(policy)[0][:len(self.space.units)]
        return ' '.join(map(str, row.tolist()))

    def score(self, policy: Policy, by: str | None = None) -> dict:
        """Score on the images of the search, and the time it took.

        Args:
            policy (Policy): The policy.
            by (str | None): The case's metric, or ``'loss'``, negated. Defaults to
                what the searches score by.
        """
        by = by or self.case.by
        return self.get(
            f'{by} {self.key(policy)}', lambda: self.evaluated(policy, by))

    def evaluated(self, policy: Policy, by: str) -> dict:
        """:meth:`score`, measured now."""
        evaluator = self.loop.evaluator
        evaluator.metric = by
        evaluator.rule = 'less' if by == 'loss' else 'greater'
        score = evaluator.evaluate(policy, self.loop.mutator)
        return dict(score=score.value, seconds=score.seconds)

    def on_search_images(self, policy: Policy) -> float:
        """Metric on the images of the search."""
        return self.scale * self.score(policy, self.case.metric)['score']

    def tested(self, policy: Policy) -> float:
        """Metric on the test images, norms recalibrated on training images."""
        def measure() -> float:
            calibration = self.loop.evaluator.calibration
            with torch.no_grad(), self.loop.mutator.acting(policy), \
                    dynamic_bn(self.loop.model, 'recalibrate', calibration):
                return self.test.measure(self.loop.model)[self.case.metric]
        return self.scale * self.get(f'test {self.key(policy)}', measure)

    def tuned(self, policy: Policy) -> float:
        """Metric on the test images after the same short fine-tune for all."""
        steps = self.case.steps
        tune = self._by_steps if steps else self._by_recipe
        return self.scale * self.get(
            f'tuned {steps} {self.key(policy)}', lambda: tune(policy))

    def _by_steps(self, policy: Policy) -> float:
        options = Finetuning(steps=self.case.steps, batch_size=self.case.batch)
        slim = self.loop.mutator.materialise(policy)
        finetune(slim, self.training, options, 0)
        recalibrate(slim, self.loop.evaluator.calibration)
        return self.test.measure(slim)[self.case.metric]

    def _by_recipe(self, policy: Policy) -> float:
        loop = self.loop
        path = self.path.with_name('tuned.json')
        found = Evaluated(0, policy, 0.0, self.costs.of(policy))
        write_policy(path, found, loop.graph, loop.mutator, {})
        write_checkpoint(path.with_suffix('.pth'), found, loop.mutator, loop.evaluator)
        # A name of its own: mmengine keeps loggers and counters by it.
        name = hashlib.sha256(self.key(policy).encode()).hexdigest()[:12]
        cfg = quiet_config(self.case.recipe, path.with_name(name))
        compress_config(cfg, str(path))
        return train_and_test(cfg, epochs=2)[self.case.metric]

    @cached_property
    def training(self) -> list[Batch]:
        """Augmented batches for the fine-tune."""
        case, cfg = self.case, Config.fromfile(ROOT / self.case.recipe)
        options = Finetuning(steps=case.steps, batch_size=case.batch)
        preprocessor = copy.deepcopy(self.loop.model.data_preprocessor)
        preprocessor.batch_augments = None  # The recipe decides.
        return training_batches(cfg, preprocessor, options, [], 0)

    def targets(self, values: Sequence[float]):
        """Targets on the MACs."""
        return parse_targets({'macs': list(values)}, self.costs)

    def make(self, kind: type[Searcher], values: Sequence[float], seed: int,
             **options) -> Searcher:
        """A searcher over this model."""
        if 'scores' in kind.needs:
            options['scores'] = self.loop.mutator.scores
        return kind(self.space, self.costs, self.targets(values), seed=seed,
                    evaluations=self.case.evaluations, **options)

    def run(
        self, searcher: Searcher
    ) -> tuple[list[Evaluated], float, float]:
        """Search; returns the history, seconds of scoring and of everything else."""
        history, scoring, other = [], 0.0, 0.0
        for number in range(searcher.evaluations):
            start = time.perf_counter()
            policy = searcher.propose(history, number)
            other += time.perf_counter() - start
            if policy is None:
                break
            found = self.score(policy)
            scoring += found['seconds']
            history.append(Evaluated(
                number, policy, found['score'], self.costs.of(policy)))
            print(f'{type(searcher).__name__} seed {searcher.seed} '
                  f'[{number + 1}/{searcher.evaluations}] {found["score"]:.4f}',
                  flush=True)
        return history, scoring, other


def legr_options(case: Case, random_only: bool = False) -> dict:
    """The paper's 64 of 400 and 16 of 64, scaled down, and the case's settings."""
    population = case.evaluations if random_only else max(4, case.evaluations // 6)
    return dict(
        population=population, tournament=max(2, population // 4),
        deviation=case.deviation, search_at=dict(macs=case.search_at))


def over_seeds(bench: Bench) -> dict[str, list[dict[float, Policy]]]:
    """By method and seed, the policy of every target."""
    case = bench.case
    _, rows = uniform_rows(bench.space)
    targets = bench.targets(case.targets)
    uniform = {t.value: bench.space.decode(
        rows[largest_uniform(bench.space, bench.costs, t)])[0] for t in targets}
    legr = bench.make(LeGR, case.targets, 0, **legr_options(case))
    base = {t.value: legr.policy_of(legr.identity, [t]) for t in targets}
    found = {'uniform': [uniform], 'identity ranking': [base]}
    for seed in range(bench.seeds):
        kinds = {
            'LeGR': legr_options(case),
            'random rankings': legr_options(case, random_only=True),
            'LeGR, deviation 1': dict(legr_options(case), deviation=1)}
        for name in [name for name in kinds if name in bench.methods]:
            searcher = bench.make(LeGR, case.targets, seed, **kinds[name])
            history, *_ = bench.run(searcher)
            found.setdefault(name, []).append(dict(zip(
                case.targets, searcher.answers(history, targets))))
        if 'random policies' not in bench.methods:
            continue
        history, *_ = bench.run(bench.make(Random, case.targets, seed))
        best = best_per_target(history, targets)
        found.setdefault('random policies', []).append(
            {t.value: e.policy for t, e in zip(targets, best)})
    return found


def spread(values: Sequence[float]) -> str:
    """Mean and, over several seeds, standard deviation."""
    text = f'{mean(values):.1f}'
    return text + (f' ± {stdev(values):.1f}' if len(values) > 1 else '')


def compare(bench: Bench) -> None:
    """Print quality over seeds, before and after fine-tuning."""
    case, found = bench.case, over_seeds(bench)
    dense = Policy()
    tuned = f', {bench.tuned(dense):.1f} tuned' if case.tuned else ''
    print(f'\ndense: {bench.on_search_images(dense):.1f} on search images, '
          f'{bench.tested(dense):.1f} tested{tuned}', flush=True)
    head = [f'search {v:g}' for v in case.compared]
    head += [f'test {v:g}' for v in case.compared]
    head += [f'tuned {v:g}' for v in case.tuned]
    print(f'\n| method | {" | ".join(head)} |\n|---|{"---|" * len(head)}')
    for name, runs in found.items():
        cells = [spread([measure(run[value]) for run in runs])
                 for measure, values in (
                     (bench.on_search_images, case.compared),
                     (bench.tested, case.compared), (bench.tuned, case.tuned))
                 for value in values]
        print(f'| {name} | {" | ".join(cells)} |', flush=True)


def one_against_many(bench: Bench) -> None:
    """Print one LeGR search for all targets against one Evolution for each."""
    case = bench.case
    targets = bench.targets(case.targets)
    searcher = bench.make(LeGR, case.targets, 0, **legr_options(case))
    history, *_ = bench.run(searcher)
    answers = searcher.answers(history, targets)
    print('\n| target | LeGR search / test | Evolution search / test |\n|---|---|---|')
    for target, policy in zip(targets, answers):
        separate, *_ = bench.run(bench.make(Evolution, [target.value], 0))
        best = best_per_target(separate, [target])[0].policy
        cells = [f'{bench.on_search_images(p):.1f} / {bench.tested(p):.1f}'
                 for p in (policy, best)]
        print(f'| {target.value:g} | {" | ".join(cells)} |', flush=True)


def clock(bench: Bench, rounds: int = 3) -> None:
    """Print the time of N targets by one LeGR search and by N Evolutions.

    Candidates of all targets are timed in turn, so that load on the machine meets
    all of them alike; a search is so many times its candidate. LeGR's are those of
    the budget that rankings are scored at, and it scores its policies once.
    """
    case = bench.case
    searcher = bench.make(LeGR, case.targets, 0, **legr_options(case))
    targets = bench.targets(case.targets)
    policies = [searcher.policy_of(searcher.identity, [t]) for t in targets]
    seconds = np.median([
        [bench.evaluated(p, case.by)['seconds'] for p in policies]
        for _ in range(rounds)], axis=0)
    at = seconds[case.targets.index(case.search_at)]
    print('\n| targets | seconds a candidate | one LeGR search and its policies, s | '
          'one Evolution each, s | ratio |\n|---|---|---|---|---|')
    for n in range(1, len(policies) + 1):
        ours = case.evaluations * at + seconds[:n].sum()
        theirs = case.evaluations * seconds[:n].sum()
        print(f'| {n} ({case.targets[n - 1]:g}) | {seconds[n - 1]:.2f} | {ours:.0f} | '
              f'{theirs:.0f} | {theirs / ours:.2f} |')


def tau(bench: Bench, candidates: int = 6, steps: int = 50) -> None:
    """Print how well scoring without training ranks random rankings.

    At the paper's deviation, where candidates differ most.
    """
    case, evaluator = bench.case, bench.loop.evaluator
    trainer = PolicyEvaluator(
        case.metric, case.images, case.calibration, evaluator.mode,
        batch_size=case.batch,
        finetune=dict(steps=steps, batch_size=case.batch // 2))
    trainer.prepare(bench.loop.model, bench.cfg)

    def trained(policy: Policy) -> dict:
        def measure() -> dict:
            score = trainer.evaluate(policy, bench.loop.mutator)
            return dict(score=score.value, seconds=score.seconds)
        return bench.get(f'tau {steps} {bench.key(policy)}', measure)

    print('\n| MACs | Spearman of loss / of metric | without training | after '
          f'{steps} steps | time a candidate |\n|---|---|---|---|---|')
    for value in (case.search_at, min(case.targets)):
        searcher = bench.make(
            LeGR, case.targets, 0, population=candidates,
            search_at=dict(macs=value))
        policies = [searcher.propose((), n) for n in range(candidates)]
        after = [trained(p) for p in policies]
        truth = [found['score'] for found in after]
        loss, metric = ([bench.score(p, by) for p in policies]
                        for by in ('loss', case.metric))
        agree = [spearmanr([found['score'] for found in plain], truth).statistic
                 for plain in (loss, metric)]
        ranges = [f'{bench.scale * min(v):.1f} to {bench.scale * max(v):.1f}'
                  for v in ([found['score'] for found in metric], truth)]
        times = [mean([found['seconds'] for found in some]) for some in (after, metric)]
        print(f'| {value:g} | {agree[0]:.2f} / {agree[1]:.2f} | {" | ".join(ranges)} | '
              f'{times[0] / times[1]:.0f} x |', flush=True)


def order(bench: Bench) -> None:
    """Print what re-ordering tied channels by the learned scores would change."""
    case = bench.case
    searcher = bench.make(LeGR, case.targets, 0, **legr_options(case))
    history, *_ = bench.run(searcher)
    genotype, _ = searcher.best(history)
    scores = searcher.ladder.scores(genotype.alpha, genotype.kappa)
    ends = np.cumsum([u.width for u in bench.loop.graph.units])[:-1]
    learned = {u.name: np.argsort(-part, kind='stable') for u, part in
               zip(bench.loop.graph.units, np.split(scores, ends))}
    inverse = {name: np.argsort(new) for name, new in learned.items()}
    for value in case.compared:
        policy = searcher.policy_of(genotype, bench.targets([value]))
        same = [len(set(learned[n][:w]) & set(range(w))) for n, w in
                policy.widths.items()]
        share = sum(same) / sum(policy.widths.values())

        def measure(policy: Policy = policy) -> dict:
            permute(bench.loop.model, bench.loop.graph, learned)
            try:
                return bench.evaluated(policy, case.metric)
            finally:
                permute(bench.loop.model, bench.loop.graph, inverse)
        other = bench.get(f'reordered {value} {bench.key(policy)}', measure)
        print(f'{value:g} MACs: {share:.1%} of the kept channels are the same in both '
              f'orders; score {bench.on_search_images(policy):.1f} in the order of '
              f'the base scores, {bench.scale * other["score"]:.1f} in the learned one')


def speed(bench: Bench) -> None:
    """Print the time of deriving a policy, and the share of it in a candidate's."""
    case = bench.case
    searcher = bench.make(LeGR, case.targets, 0, **legr_options(case))
    history, scoring, _ = bench.run(searcher)
    path = OUT / 'ranking.json'
    path.write_text(json.dumps(searcher.artefacts(history)['ranking.json']))
    loaded = bench.make(LeGR, case.targets, 0, ranking=str(path))
    targets = bench.targets(np.linspace(min(case.targets), .99, 50).tolist())
    seconds = []
    for target in targets:
        start = time.perf_counter()
        Ranking.load(path)
        loaded.answers((), [target])
        seconds.append(time.perf_counter() - start)
    start = time.perf_counter()
    fresh = bench.make(LeGR, case.targets, 0, **legr_options(case))
    for number in range(len(history)):
        fresh.propose(history[:number], number)
    proposing = time.perf_counter() - start
    acting = []
    for entry in history[:10]:
        start = time.perf_counter()
        with torch.no_grad(), bench.loop.mutator.acting(entry.policy):
            pass
        acting.append(time.perf_counter() - start)
    outside = proposing + len(history) * mean(acting)
    print(f'\npolicy of a new target from a ranking file: median '
          f'{1e3 * np.median(seconds):.1f} ms, maximum {1e3 * max(seconds):.1f} ms; '
          f'{len(history) / (scoring + proposing):.2f} candidates a second; proposing '
          f'takes {proposing / (scoring + proposing):.2%} of a candidate\'s time, with '
          f'slicing and lifting {outside / (scoring + proposing):.2%}')


PARTS = dict(compare=compare, many=one_against_many, clock=clock, tau=tau, order=order,
             speed=speed)


def main() -> None:
    """Run the parts asked for."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('case', choices=CASES)
    parser.add_argument('--parts', nargs='+', choices=PARTS, default=list(PARTS))
    parser.add_argument('--seeds', type=int, default=3)
    parser.add_argument('--methods', nargs='+', choices=METHODS, default=METHODS)
    for name in ('evaluations', 'images', 'calibration', 'steps'):
        parser.add_argument(f'--{name}', type=int)
    parser.add_argument('--tuned', type=float, nargs='*',
                        help='budgets that are compared after fine-tuning')
    args = parser.parse_args()
    given = {k: v for k, v in vars(args).items()
             if k in Case.__dataclass_fields__ and v is not None}
    case = replace(CASES[args.case], **given)
    torch.manual_seed(0)
    bench = Bench(args.case, case, args.seeds, args.methods)
    for part in args.parts:
        PARTS[part](bench)


if __name__ == '__main__':
    main()
