"""The two-stage framework measured: predictors, prices, solvers, searches.

Results are kept in work_dirs/benchmarks/two_stage/; kill it and run the same command
again: it continues.

    python benchmarks/two_stage.py modes resnet20 --mode quant
    python benchmarks/two_stage.py predictors resnet20
    python benchmarks/two_stage.py additivity resnet20
    python benchmarks/two_stage.py samples resnet20
    python benchmarks/two_stage.py solvers resnet20
    python benchmarks/two_stage.py search resnet20 --mode prune  # quant, joint

The defaults fit one CPU core.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import torch
from common import OUT, ROOT, Results
from mmengine.config import Config
from mmengine.registry import init_default_scope
from scipy.stats import kendalltau, pearsonr
from torch import nn

from mmcompress.costs import Target, parse_targets
from mmcompress.evaluation import Finetuning, dynamic_bn, finetune
from mmcompress.kinds import kind_of
from mmcompress.openmmlab.cli import load_weights, search_runner
from mmcompress.openmmlab.evaluators import DatasetEvaluator as PolicyEvaluator
from mmcompress.openmmlab.loops.search import PolicySearchLoop
from mmcompress.openmmlab.training_images import training_batches
from mmcompress.policy import FLOAT, Policy
from mmcompress.prices import Layout, Subject, mean_square
from mmcompress.prices.gradient import GradientPrices
from mmcompress.prices.measured import MeasuredPrices
from mmcompress.prices.table import PriceTable
from mmcompress.searchers import (
    Evaluated,
    Evolution,
    Random,
    Searcher,
    TwoStage,
    Uniform,
    best_per_target,
)
from mmcompress.searchers.solvers import exact, sweep

FOLDER = OUT / 'two_stage'
# 'recalibrate plain': on images without the augmentation of training, where the
# config recalibrates with it.
MODES = ('off', 'recalibrate', 'batch', 'recalibrate plain')


@dataclass(frozen=True)
class Case:
    """A network and the sizes that suit one CPU core.

    Args:
        config (str): End of the names of its configs.
        metric (str): What is reported.
        images, calibration, prices, measured, test (int): Images to score on, to
            recalibrate on, to price with by gradients or (0: not) by measurement,
            and to test on; all but the last are training images.
        policies (int): Policies of equal budget to rank.
        shares (dict[str, tuple[float, ...]]): Budgets of additivity by mode, in MACs
            (prune) or BOPs; the last one is that of the policies and the searches.
        bits (tuple[tuple[int, int], ...]): Uniform bits of weights and activations
            to compare the modes of Dynamic BN with.
        steps, batch (int): Fine-tuning of each.
        rate (float): Its learning rate.
    """

    config: str
    metric: str
    images: int
    calibration: int
    prices: int
    measured: int
    test: int
    policies: int
    shares: dict[str, tuple[float, ...]]
    bits: tuple[tuple[int, int], ...]
    steps: int
    batch: int
    rate: float = 0.01


CASES = {
    'resnet20': Case(
        'resnet20_cifar10', 'accuracy/top1',
        500, 500, 1024, 128, 1017, 20,
        dict(prune=(0.95, 0.9, 0.8, 0.7, 0.6), quant=(0.05, 0.04, 0.03, 0.02, 0.016),
             joint=(0.05, 0.04, 0.03, 0.02, 0.012)),
        ((4, 8), (4, 4), (3, 4), (3, 3)), 20, 64),
    'yolox_nano': Case(
        'yolox-nano_coco128', 'coco/bbox_mAP',
        40, 24, 24, 0, 64, 20,
        # The layers that the configs keep in float make 0.16 of the BOPs.
        dict(prune=(0.98, 0.95, 0.9), quant=(0.21, 0.204, 0.192, 0.198),
             joint=(0.21, 0.204, 0.192, 0.198)),
        ((8, 8), (6, 8), (6, 6), (5, 8)), 16, 8, 0.001),
}


class Bench:
    """A model, its space and what was measured on it so far."""

    def __init__(self, name: str, mode: str, sizes: dict[str, int]) -> None:
        self.case = case = replace(CASES[name], **sizes)
        prefix = '' if mode == 'joint' else f'{mode}_'
        cfg = Config.fromfile(
            ROOT / f'configs/two_stage/two_stage_{prefix}{case.config}.py')
        tag = [name, mode, *(f'{k}{v}' for k, v in sizes.items())]
        cfg.work_dir = str(FOLDER / '_'.join(tag))
        evaluator = cfg.search_cfg.evaluator
        evaluator.images, evaluator.calibration_images = case.images, case.calibration
        # Not the searcher of the config: prices are computed where they are timed.
        cfg.search_cfg.searcher = dict(type='Random')
        cost = 'macs' if mode == 'prune' else 'bops'
        cfg.search_cfg.targets = {cost: [1.0]}
        init_default_scope(cfg.default_scope)
        runner = search_runner(cfg)
        load_weights(runner.model, cfg.load_from)
        self.loop = PolicySearchLoop(
            runner, **{k: v for k, v in cfg.search_cfg.items() if k != 'type'})
        self.loop.prepare()
        self.cfg, self.cost, self.mode = cfg, cost, mode
        self.model, self.mutator = self.loop.model, self.loop.mutator
        self.space, self.costs = self.loop.space, self.loop.costs
        self.share = case.shares[mode][-1]
        self.modes = MODES if evaluator.get('augment') else MODES[:3]
        self.results = Results(
            Path(cfg.work_dir) / 'measured.json', dict(case=vars(case), mode=mode))
        self.test = PolicyEvaluator(
            case.metric, case.test, 0, 'off', cfg.test_dataloader.dataset,
            batch_size=evaluator.batch_size)
        self.test.prepare(self.model, cfg)

    def targets(self, values: Sequence[float]):
        """Targets on the cost of the mode."""
        return parse_targets({self.cost: list(values)}, self.costs)

    def subject(self) -> Subject:
        """What prices are computed of."""
        loop = self.loop
        return Subject(
            loop.model, loop.graph, loop.space, loop.mutator, loop.evaluator,
            lambda line: print(line, flush=True))

    def prices(
        self, kind: str, held_out: bool, augment: bool = False
    ) -> PriceTable:
        """Prices by gradients or measured, of training or of test images."""
        source = dict(gradient=GradientPrices, measured=MeasuredPrices)[kind]
        images = self.case.prices if kind == 'gradient' else self.case.measured
        images = min(images, self.case.test) if held_out else images
        dataset = self.cfg.test_dataloader.dataset if held_out else None
        batch = self.cfg.search_cfg.evaluator.batch_size
        start = time.process_time()
        table = source(images, batch, dataset, augment).compute(
            self.subject(), self.loop.work_dir / 'prices')
        # The second time they come from the disk.
        self.results.get(f'price seconds {kind} {held_out} {augment}',
                         lambda: time.process_time() - start)
        return table

    def random(self, count: int, share: float) -> list[Policy]:
        """Random policies that use up one budget."""
        searcher = Random(
            self.space, self.costs, self.targets([share]), evaluations=count)
        return [searcher.propose((), number) for number in range(count)]

    def key(self, policy: Policy) -> str:
        """Name of a policy."""
        return ' '.join(map(str, self.space.encode(policy)[0].tolist()))

    def score(self, policy: Policy, mode: str) -> float:
        """Metric of a policy on the images of the search, without training."""
        def measure() -> float:
            with self.acting(policy, mode):
                return self.metric_of(self.loop.evaluator, self.model)
        return self.results.get(f'{mode} {self.key(policy)}', measure)

    def loss(self, policy: Policy, mode: str, held_out: bool) -> float:
        """Mean loss of a policy, without training."""
        evaluator = self.test if held_out else self.loop.evaluator

        def measure() -> float:
            with self.acting(policy, mode):
                return mean_loss(self.model, evaluator)
        return self.results.get(
            f'loss {mode} {held_out} {self.key(policy)}', measure)

    def timed_score(self, policy: Policy) -> dict:
        """Score on the images of the search and its processor time."""
        def measure() -> dict:
            start = time.process_time()
            score = self.loop.evaluator.evaluate(policy, self.mutator).value
            return dict(score=score, seconds=time.process_time() - start)
        return self.results.get(f'timed {self.key(policy)}', measure)

    def tested(self, policy: Policy, mode: str = 'recalibrate') -> float:
        """Metric on the test images, without training."""
        def measure() -> float:
            with self.acting(policy, mode):
                return self.metric_of(self.test, self.model)
        return self.results.get(f'tested {mode} {self.key(policy)}', measure)

    def metric_of(self, evaluator: PolicyEvaluator, model: nn.Module) -> float:
        """The metric; 0 where CocoMetric returns none, as nothing was detected."""
        return evaluator.measure(model).get(self.case.metric, 0.0)

    @contextmanager
    def acting(self, policy: Policy, mode: str) -> Iterator[None]:
        """The model as a policy with a mode of Dynamic BN."""
        evaluator, (mode, *plain) = self.loop.evaluator, mode.split()
        images = evaluator.calibration if plain else evaluator.recalibration
        with torch.no_grad(), self.mutator.acting(policy), \
                dynamic_bn(self.model, mode, images):
            yield

    def tuned(self, policy: Policy) -> dict:
        """Metric and loss on the test images after the same fine-tuning for all."""
        case = self.case
        options = Finetuning(steps=case.steps, batch_size=case.batch, lr=case.rate)

        def measure() -> dict:
            if not hasattr(self, '_training'):
                self._training = training_batches(
                    self.cfg, self.model.data_preprocessor, options, [], 0)
            slim = self.mutator.materialise(policy)
            finetune(slim, self._training, options, 0)
            self.loop.evaluator.recalibrate(slim)
            return dict(metric=self.metric_of(self.test, slim),
                        loss=mean_loss(slim, self.test))
        return self.results.get(f'tuned {self.key(policy)}', measure)


@torch.no_grad()
def mean_loss(model: nn.Module, evaluator: PolicyEvaluator) -> float:
    """Mean loss on the images of an evaluator."""
    loss = kind_of(model).loss
    losses = [float(loss(model, b)) * len(b.inputs) for b in evaluator.scoring]
    return sum(losses) / evaluator.images


def modes(bench: Bench) -> None:
    """Uniform bits under every mode of Dynamic BN."""
    space = bench.space
    units, layers = len(space.units), len(space.layers)
    print(f'\n{bench.case.metric} on the test images, bits of weights and '
          f'activations.\n\n| bits | {" | ".join(bench.modes)} |\n'
          f'|---|{"---|" * len(bench.modes)}')
    for bits in (None, *bench.case.bits):
        policy = Policy()
        if bits is not None:
            wanted = np.repeat([FLOAT, *bits], [units, layers, layers])
            (policy,) = space.decode(space.snap(np.minimum(wanted, space.highest)))
        cells = [f'{bench.tested(policy, mode):.1f}' for mode in bench.modes]
        print(f'| {bits or "dense"} | {" | ".join(cells)} |', flush=True)


def predictors(bench: Bench) -> None:
    """Kendall tau of every predictor with the fine-tuned result."""
    case = bench.case
    policies = bench.random(case.policies, bench.share)
    found: dict[str, list[float]] = {}
    kinds = {'gradient, training images': ('gradient', False),
             'gradient, test images': ('gradient', True)}
    if bench.loop.evaluator.augment:
        kinds['gradient, augmented training images'] = ('gradient', False, True)
    if case.measured:
        kinds['measured, training images'] = ('measured', False)
    tables = {f'price, {name}': bench.prices(*options)
              for name, options in kinds.items()}
    for i, policy in enumerate(policies):
        row = bench.space.encode(policy)
        for mode in bench.modes:
            found.setdefault(f'dynamic BN {mode}', []).append(
                bench.score(policy, mode))
        for name, table in tables.items():
            found.setdefault(name, []).append(-float(table.of_rows(row)[0]))
        tuned = bench.tuned(policy)
        found.setdefault('tuned', []).append(tuned['metric'])
        found.setdefault('tuned loss', []).append(-tuned['loss'])
        print(f'[{i + 1}/{len(policies)}] {tuned}', flush=True)
    metric, loss = found.pop('tuned'), found.pop('tuned loss')
    print(f'\n{len(policies)} random policies of {bench.share:g} {bench.cost}; '
          f'{case.metric} after fine-tuning {min(metric):.3g} to {max(metric):.3g}')
    print(f'\n| predictor | tau with tuned {case.metric} | tau with tuned loss |'
          '\n|---|---|---|')
    print(f'| tuned loss | {kendalltau(loss, metric).statistic:.2f} | |')
    for name, values in found.items():
        print(f'| {name} | {kendalltau(values, metric).statistic:.2f} | '
              f'{kendalltau(values, loss).statistic:.2f} |')


def additivity(bench: Bench) -> None:
    """Predicted sum of prices against the measured rise of the loss."""
    policies = [p for share in bench.case.shares[bench.mode]
                for p in bench.random(3, share)]
    print('\n| prices | images | loss with | tau | correlation of logs | '
          'median predicted / measured | policies whose loss rises |'
          '\n|---|---|---|---|---|---|---|')
    for kind, held in (('gradient', False), ('gradient', True), ('measured', False)):
        if kind == 'measured' and not bench.case.measured:
            continue
        table = bench.prices(kind, held)
        images = 'test' if held else 'training'
        predicted = table.of_rows(bench.space.encode(policies))
        for mode in ('off', 'recalibrate'):
            rises = [bench.loss(p, mode, held) for p in [Policy(), *policies]]
            rises = np.array(rises[1:]) - rises[0]
            good = (rises > 0) & (predicted > 0)
            logs = ratio = np.nan  # the loss of some detectors falls with the mAP
            if good.sum() > 2:
                logs = pearsonr(
                    np.log(rises[good]), np.log(predicted[good])).statistic
                ratio = np.median(predicted[good] / rises[good])
            print(f'| {kind} | {images} | BN {mode} | '
                  f'{kendalltau(predicted, rises).statistic:.2f} | {logs:.2f} | '
                  f'{ratio:.2f} | {good.sum()} of {len(good)} |', flush=True)


def samples(bench: Bench, most: int) -> None:
    """How prices, and the policies they lead to, settle with the number of samples."""
    # Training images include those scored on: nothing is scored here.
    everything = replace(bench.subject(), evaluator=SimpleNamespace(
        dataset=None, images=0, calibration_images=0, seed=0, augment=False))
    print(f'\nPolicies of {bench.share:g} {bench.cost}; all samples are {most} '
          f'training images or {bench.case.test} test images.\n\n'
          '| images | N | tau of prices with all | price of the policy / lowest | '
          'groups that differ |\n|---|---|---|---|---|')
    for held in (False, True):
        count = min(most, bench.case.test if held else most)
        source = GradientPrices(count, bench.cfg.search_cfg.evaluator.batch_size,
                                bench.cfg.test_dataloader.dataset if held else None)
        terms = source.sample_terms(everything, *source.open(
            everything, bench.loop.work_dir / 'prices'))
        layout = Layout(bench.loop.graph, bench.space)
        whole = layout.table(mean_square(terms))
        (target,) = bench.targets([bench.share])
        limits = {target.cost: target.limit}
        best = exact(whole, bench.costs, limits)
        n, order = 64, np.random.default_rng(0).permutation(len(terms))
        while n <= count:
            table = layout.table(mean_square(terms[order[:n]]))
            picks = exact(table, bench.costs, limits).picks
            tau = kendalltau(table.price, whole.price).statistic
            print(f'| {"test" if held else "training"} | {n} | {tau:.3f} | '
                  f'{whole.price[picks].sum() / best.price:.4f} | '
                  f'{(picks != best.picks).sum()} of {len(picks)} |', flush=True)
            n *= 2


def solvers(bench: Bench) -> None:
    """Greedy against exact on real prices, and 20 targets from one set."""
    table = bench.prices('gradient', False, bench.loop.evaluator.augment)
    curve = sweep(table, bench.costs, bench.cost)
    low = curve.cost[-1] / bench.costs.dense()[bench.cost]
    targets = bench.targets(np.linspace(low + 0.02, 0.98, 20).tolist())
    start = time.process_time()
    searcher = TwoStage(bench.space, bench.costs, targets, 20, prices=table)
    rows = [searcher.solutions(t) for t in targets]
    seconds = time.process_time() - start
    gaps = [table.of_rows(r) for r in rows]
    # A budget near the dense cost may have a price of nothing, hence no gap.
    gaps = np.array([g[-1] / g[0] - 1 for g in gaps if g[0] > 0])
    print(f'\n{len(table.groups)} groups, {len(table.price)} choices; 20 targets on '
          f'{bench.cost}, greedy and exact: '
          f'{seconds:.2f} s of processor time. Gap of greedy to exact: '
          f'mean {100 * gaps.mean():.2f} %, largest {100 * gaps.max():.2f} %, none for '
          f'{(gaps < 1e-9).sum()} of {len(gaps)} whose price is not 0.')


def search(bench: Bench, seconds: float, seeds: int) -> None:
    """Compare searchers at equal processor time, the prices included."""
    (target,) = bench.targets([bench.share])
    print(f'\n{bench.mode}: {target.cost} <= {bench.share:g} of dense, {seconds:g} s '
          f'each, {seeds} seeds; dense {bench.tested(Policy()):.2f}\n\n| searcher | '
          'evaluations | search | test, recalibrated | test, fine-tuned |'
          '\n|---|---|---|---|---|')
    # Searchers plan with the number of evaluations that fit.
    fit = 1000
    for kind in (Uniform, Random, Evolution, TwoStage):
        found = []
        for seed in range(1 if kind is Uniform else seeds):
            history = searched(bench, kind, target, seconds, seed, fit)
            (best,) = best_per_target(history, [target])
            found.append([
                len(history), best.score, bench.tested(best.policy),
                bench.tuned(best.policy)['metric']])
        if kind is Random:
            fit = round(np.mean(found, 0)[0])
        count, *values = np.mean(found, 0)
        cells = [f'{v:.2f} ± {d:.2f}' if kind is not Uniform else f'{v:.2f}'
                 for v, d in zip(values, np.std(found, 0)[1:])]
        print(f'| {kind.__name__} | {count:.0f} | {" | ".join(cells)} |', flush=True)


def searched(
    bench: Bench, kind: type[Searcher], target: Target, seconds: float, seed: int,
    evaluations: int,
) -> list[Evaluated]:
    """What a searcher evaluates within some seconds; its prices count."""
    options, spent = {}, 0.0
    if kind is TwoStage:
        augment = bench.loop.evaluator.augment
        options['prices'] = bench.prices('gradient', False, augment)
        spent = bench.results.values[f'price seconds gradient False {augment}']
    searcher = kind(bench.space, bench.costs, [target], evaluations, seed, **options)
    history: list[Evaluated] = []
    while spent < seconds and not (kind is Uniform and history):
        start = time.process_time()
        policy = searcher.propose(history, len(history))
        spent += time.process_time() - start
        if policy is None:
            break
        found = bench.timed_score(policy)
        spent += found['seconds']
        history.append(Evaluated(
            len(history), policy, found['score'], bench.costs.of(policy)))
    return history


COMMANDS: dict[str, Callable[[Bench], None]] = dict(
    predictors=predictors, additivity=additivity, solvers=solvers, modes=modes)
SIZES = ('images', 'calibration', 'prices', 'measured', 'test', 'policies')


def main() -> None:
    """Run one command."""
    parser = argparse.ArgumentParser(description=__doc__.split('\n')[0])
    parser.add_argument('command', choices=[*COMMANDS, 'samples', 'search'])
    parser.add_argument('case', nargs='?', choices=list(CASES), default='resnet20')
    parser.add_argument('--mode', choices=['prune', 'quant', 'joint'], default='prune')
    parser.add_argument('--most', type=int, default=4096, help='samples')
    parser.add_argument('--seconds', type=float, default=60, help='of each searcher')
    parser.add_argument('--seeds', type=int, default=3, help='of each searcher')
    for name in SIZES:
        parser.add_argument(f'--{name}', type=int, help="instead of the case's")
    args = parser.parse_args()
    sizes = {k: v for k in SIZES if (v := getattr(args, k)) is not None}
    bench = Bench(args.case, args.mode, sizes)
    if args.command == 'search':
        search(bench, args.seconds, args.seeds)
    elif args.command == 'samples':
        samples(bench, args.most)
    else:
        COMMANDS[args.command](bench)


if __name__ == '__main__':
    main()
