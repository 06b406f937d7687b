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

import json
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from statistics import mean

import harness
import numpy as np
import torch
from harness import (
    OUT,
    ROOT,
    add_sizes,
    parser,
    quiet_config,
    rebuilt,
    show,
    spread,
    uniform_widths,
)
from mmengine.config import Config
from scipy.stats import spearmanr

from mmcompress.api.results import write_checkpoint, write_policy
from mmcompress.openmmlab.evaluators import DatasetEvaluator
from mmcompress.policy import Policy
from mmcompress.searchers import (
    Evolution,
    LeGR,
    Random,
    Ranking,
    Searcher,
    best_per_target,
)
from mmcompress.surgery.permute import permute

FOLDER = OUT / 'legr'
METHODS = ('LeGR', 'random rankings', 'random policies', 'LeGR, deviation 1')


@dataclass(frozen=True, kw_only=True)
class Case(harness.Case):
    """A network that rankings are learned for; targets are shares of the MACs.

    Args:
        by (str): What every search scores policies by, on training images.
        compared, tuned (tuple[float, ...]): Targets that are compared over seeds,
            before and after fine-tuning; 0 ``steps`` of it follow the recipe.
        search_at (float): Budget at which rankings are scored.
        deviation (float): Of LeGR's draws.
        population (int): Of LeGR; 0 for a sixth of the evaluations, at least 4.
        score_steps (int): SGD steps before any policy is scored, on the recipe's
            images without those it is scored on.
    """

    by: str
    compared: tuple[float, ...]
    tuned: tuple[float, ...]
    search_at: float
    deviation: float = 0.1
    population: int = 0
    score_steps: int = 0

    def options(self, random_only: bool = False) -> dict:
        """The paper's 64 of 400 and 16 of 64, scaled down, and the settings."""
        population = self.evaluations if random_only else \
            self.population or max(4, self.evaluations // 6)
        return dict(
            population=population, tournament=max(2, population // 4),
            deviation=self.deviation, search_at=dict(macs=self.search_at))


RESNET56 = Case(
    config='configs/legr/legr_resnet56_cifar10.py', by='loss', test=1017,
    recipe='configs/cifar/resnet56_cifar10.py', forward=128, evaluations=100,
    steps=20, targets=(.8, .7, .6, .5, .4, .3, .2), compared=(.7, .5, .3),
    tuned=(.5, .3), search_at=0.4)
CASES = {
    'resnet56': RESNET56,
    'resnet56_jpeg': replace(
        RESNET56, config='configs/legr/legr_resnet56_cifar10-jpeg.py',
        recipe='configs/cifar/resnet56_cifar10-jpeg.py', compared=(.5, .3),
        tuned=(.5,)),
    'yolox_nano': Case(
        config='configs/legr/legr_yolox-nano_coco128.py', by='coco/bbox_mAP',
        recipe='configs/yolox/yolox_nano_coco128_finetune.py', metric='coco/bbox_mAP',
        images=96, calibration=32, test=128, forward=8, batch=8, evaluations=16,
        rate=0.001, targets=(.95, .9, .85, .8), compared=(.95, .9), tuned=(.95,),
        search_at=0.95),
}


class Bench(harness.Bench):
    """Searches, scores and tests of one case."""

    def __init__(self, name: str, case: Case, seeds: int, methods: Sequence[str]
                 ) -> None:
        # What is compared decides no number.
        settings = replace(case, compared=(), tuned=(), evaluations=0)
        super().__init__(settings, FOLDER / name)
        self.case, self.seeds, self.methods = case, seeds, methods
        if case.score_steps:
            self.cfg.search_cfg.evaluator.finetune = dict(
                steps=case.score_steps, lr=case.rate, batch_size=case.batch)
            recipe = Config.fromfile(ROOT / case.recipe)
            self.cfg.train_dataloader = recipe.train_dataloader
            if 'data_preprocessor' in recipe.model:
                self.cfg.model.data_preprocessor = recipe.model.data_preprocessor
        self.score_by(case.by)

    @cached_property
    def macs(self) -> tuple:
        """The targets of the case."""
        return self.targets('macs', self.case.targets)

    def score_by(self, metric: str) -> None:
        """Score by the metric of the case or by the loss, which is negated."""
        evaluator = self.session.evaluator
        evaluator.metric = metric
        evaluator.rule = 'less' if metric == 'loss' else 'greater'

    def score(self, policy: Policy, by: str | None = None) -> dict:
        """Score on the images of the search, and the time it took."""
        self.score_by(by or self.case.by)
        try:
            return self.scored(policy)
        finally:
            self.score_by(self.case.by)

    def on_search_images(self, policy: Policy) -> float:
        """Metric on the images of the search."""
        return self.case.scale * self.score(policy, self.case.metric)['score']

    def on_test_images(self, policy: Policy) -> float:
        """Metric on the test images, norms recalibrated on training images."""
        return self.case.scale * self.tested(policy)

    def tuned(self, policy: Policy) -> float:
        """Metric on the test images after the same short fine-tune for all."""
        def by_steps() -> float:
            return self.metric_of(self.finetuned(policy))

        def by_recipe() -> float:
            path = self.folder / 'tuned.json'
            write_policy(path, policy, self.session, {})
            write_checkpoint(path.with_suffix('.pth'), policy, self.session)
            # A name of its own: mmengine keeps loggers and counters by it.
            cfg = quiet_config(self.case.recipe, self.folder / f'{time.time_ns()}')
            return rebuilt(cfg, self.case.metric, path, epochs=self.case.epochs)
        return self.case.scale * self.results.get(
            f'tuned {self.key(policy)}', by_steps if self.case.steps else by_recipe)

    def make(self, kind: type[Searcher], values: Sequence[float] | None = None,
             seed: int = 0, **options) -> Searcher:
        """A searcher over this model; LeGR with the options of the case."""
        if 'scores' in kind.needs:
            options = dict(options or self.case.options(),
                           scores=self.session.scores)
        targets = self.macs if values is None else self.targets('macs', values)
        return kind(self.session.space, self.costs, targets, seed=seed,
                    evaluations=self.case.evaluations, **options)


def over_seeds(bench: Bench) -> dict[str, list[dict[float, Policy]]]:
    """By method and seed, the policy of every target."""
    case = bench.case
    targets = bench.macs
    uniform = {t.value: uniform_widths(bench.session.space, bench.costs, t)
               for t in targets}
    legr = bench.make(LeGR)
    base = {t.value: legr.policy_of(legr.identity, [t]) for t in targets}
    found = {'uniform': [uniform], 'identity ranking': [base]}
    for seed in range(bench.seeds):
        kinds = {
            'LeGR': case.options(),
            'random rankings': case.options(random_only=True),
            'LeGR, deviation 1': dict(case.options(), deviation=1)}
        for name in [name for name in kinds if name in bench.methods]:
            searcher = bench.make(LeGR, seed=seed, **kinds[name])
            history, *_ = bench.run(searcher)
            found.setdefault(name, []).append(dict(zip(
                case.targets, searcher.answers(history, targets))))
        if 'random policies' not in bench.methods:
            continue
        history, *_ = bench.run(bench.make(Random, seed=seed))
        best = best_per_target(history, targets)
        found.setdefault('random policies', []).append(
            {t.value: e.policy for t, e in zip(targets, best)})
    return found


def compare(bench: Bench) -> None:
    """Print quality over seeds, before and after fine-tuning."""
    case, found = bench.case, over_seeds(bench)
    dense = Policy()
    tuned = f', {bench.tuned(dense):.1f} tuned' if case.tuned else ''
    print(f'\ndense: {bench.on_search_images(dense):.1f} on search images, '
          f'{bench.on_test_images(dense):.1f} tested{tuned}', flush=True)
    head = [f'search {v:g}' for v in case.compared]
    head += [f'test {v:g}' for v in case.compared]
    head += [f'tuned {v:g}' for v in case.tuned]
    rows = [[name, *(spread([measure(run[value]) for run in runs])
        for measure, values in (
            (bench.on_search_images, case.compared),
            (bench.on_test_images, case.compared), (bench.tuned, case.tuned))
        for value in values)] for name, runs in found.items()]
    show('Mean and standard deviation over seeds', ['method', *head], rows)


def one_against_many(bench: Bench) -> None:
    """Print one LeGR search for all targets against one Evolution for each."""
    targets, searcher, rows = bench.macs, bench.make(LeGR), []
    history, *_ = bench.run(searcher)
    answers = searcher.answers(history, targets)
    for target, policy in zip(targets, answers):
        separate, *_ = bench.run(bench.make(Evolution, [target.value]))
        best = best_per_target(separate, [target])[0].policy
        rows.append([f'{target.value:g}', *(
            f'{bench.on_search_images(p):.1f} / {bench.on_test_images(p):.1f}'
            for p in (policy, best))])
    show('One search for all targets, and one for each', [
        'target', 'LeGR search / test', 'Evolution search / test'], rows)


def clock(bench: Bench, rounds: int = 3) -> None:
    """Print the time of N targets by one LeGR search and by N Evolutions.

    Candidates of all targets are timed in turn, so that load on the machine meets
    all of them alike; a search is so many times its candidate. LeGR's are those of
    the budget that rankings are scored at, and it scores its policies once.
    """
    case, searcher = bench.case, bench.make(LeGR)
    policies = [searcher.policy_of(searcher.identity, [t]) for t in bench.macs]
    seconds = np.median([
        [bench.session.score(p).seconds for p in policies]
        for _ in range(rounds)], axis=0)
    at = seconds[case.targets.index(case.search_at)]
    rows = []
    for n in range(1, len(policies) + 1):
        ours = case.evaluations * at + seconds[:n].sum()
        theirs = case.evaluations * seconds[:n].sum()
        rows.append([f'{n} ({case.targets[n - 1]:g})', f'{seconds[n - 1]:.2f}',
                     f'{ours:.0f}', f'{theirs:.0f}', f'{theirs / ours:.2f}'])
    show('Time of several targets', [
        'targets', 'seconds a candidate', 'one LeGR search and its policies, s',
        'one Evolution each, s', 'ratio'], rows)


def tau(bench: Bench, candidates: int = 6, steps: int = 50) -> None:
    """Print how well scoring without training ranks random rankings.

    At the paper's deviation, where candidates differ most.
    """
    case, session, rows = bench.case, bench.session, []
    trainer = DatasetEvaluator(
        case.metric, case.images, case.calibration, session.evaluator.mode,
        batch_size=case.batch,
        finetune=dict(steps=steps, batch_size=case.batch // 2))
    trainer.prepare(session.model, bench.cfg)

    def trained(policy: Policy) -> dict:
        def measure() -> dict:
            score = trainer.evaluate(policy, session.mutator)
            return dict(score=score.value, seconds=score.seconds)
        return bench.results.get(f'tau {steps} {bench.key(policy)}', measure)

    for value in (case.search_at, min(case.targets)):
        searcher = bench.make(
            LeGR, population=candidates, search_at=dict(macs=value))
        policies = [searcher.propose((), n) for n in range(candidates)]
        after = [trained(p) for p in policies]
        truth = [found['score'] for found in after]
        loss, metric = ([bench.score(p, by) for p in policies]
                        for by in ('loss', case.metric))
        agree = [spearmanr([found['score'] for found in plain], truth).statistic
                 for plain in (loss, metric)]
        ranges = [f'{case.scale * min(v):.1f} to {case.scale * max(v):.1f}'
                  for v in ([found['score'] for found in metric], truth)]
        times = [mean([found['seconds'] for found in some]) for some in (after, metric)]
        rows.append([f'{value:g}', f'{agree[0]:.2f} / {agree[1]:.2f}', *ranges,
                     f'{times[0] / times[1]:.0f} x'])
    show('Scoring without training', [
        'MACs', 'Spearman of loss / of metric', 'without training',
        f'after {steps} steps', 'time a candidate'], rows)


def order(bench: Bench) -> None:
    """Print what re-ordering tied channels by the learned scores would change."""
    case, session, searcher = bench.case, bench.session, bench.make(LeGR)
    history, *_ = bench.run(searcher)
    genotype, _ = searcher.best(history)
    scores = searcher.ladder.scores(genotype.alpha, genotype.kappa)
    ends = np.cumsum([u.width for u in session.graph.units])[:-1]
    learned = {u.name: np.argsort(-part, kind='stable') for u, part in
               zip(session.graph.units, np.split(scores, ends))}
    inverse = {name: np.argsort(new) for name, new in learned.items()}
    for value in case.compared:
        policy = searcher.policy_of(genotype, bench.targets('macs', [value]))
        same = [len(set(learned[n][:w]) & set(range(w))) for n, w in
                policy.widths.items()]
        share = sum(same) / sum(policy.widths.values())

        def measure(policy: Policy = policy) -> dict:
            bench.score_by(case.metric)
            permute(session.model, session.graph, learned)
            try:
                return dict(score=session.score(policy).value)
            finally:
                permute(session.model, session.graph, inverse)
                bench.score_by(case.by)
        other = bench.results.get(f'reordered {value} {bench.key(policy)}', measure)
        print(f'{value:g} MACs: {share:.1%} of the kept channels are the same in both '
              f'orders; score {bench.on_search_images(policy):.1f} in the order of '
              f'the base scores, {case.scale * other["score"]:.1f} in the learned one')


def speed(bench: Bench) -> None:
    """Print the time of deriving a policy, and the share of it in a candidate's."""
    case, searcher = bench.case, bench.make(LeGR)
    history, scoring = bench.run(searcher)
    path = FOLDER / 'ranking.json'
    path.write_text(json.dumps(searcher.artefacts(history)['ranking.json']))
    loaded = bench.make(LeGR, ranking=str(path))
    targets = bench.targets('macs', np.linspace(min(case.targets), .99, 50))
    seconds = []
    for target in targets:
        start = time.perf_counter()
        Ranking.load(path)
        loaded.answers((), [target])
        seconds.append(time.perf_counter() - start)
    start = time.perf_counter()
    fresh = bench.make(LeGR)
    for number in range(len(history)):
        fresh.propose(history[:number], number)
    proposing = time.perf_counter() - start
    acting = []
    for entry in history[:10]:
        start = time.perf_counter()
        with torch.no_grad(), bench.session.mutator.acting(entry.policy):
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
    options = parser(__doc__)
    options.add_argument('case', choices=CASES)
    options.add_argument('--parts', nargs='+', choices=PARTS, default=list(PARTS))
    options.add_argument('--seeds', type=int, default=3)
    options.add_argument('--methods', nargs='+', choices=METHODS, default=METHODS)
    add_sizes(options, ('evaluations', 'images', 'calibration', 'steps', 'population',
                        'score_steps'))
    add_sizes(options, ('search_at', 'deviation'), float)
    add_sizes(options, ('compared', 'tuned'), float, nargs='*',
              help='budgets that are compared before and after fine-tuning')
    args = options.parse_args()
    torch.manual_seed(0)
    bench = Bench(args.case, CASES[args.case].changed(args), args.seeds, args.methods)
    for part in args.parts:
        PARTS[part](bench)


if __name__ == '__main__':
    harness.start(main)
