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

import copy
import time
from dataclasses import dataclass, replace
from functools import cached_property

import harness
import numpy as np
import torch
from harness import OUT, add_sizes, parser, show
from scipy.stats import kendalltau, pearsonr

from mmcompress.costs import Target
from mmcompress.openmmlab.evaluators import DatasetEvaluator
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


@dataclass(frozen=True, kw_only=True)
class Case(harness.Case):
    """A network whose policies are priced and ranked.

    Args:
        config (str): End of the names of its configs.
        prices, measured (int): Images to price with by gradients or (0: not) by
            measurement.
        policies (int): Policies of equal budget to rank.
        shares (dict[str, tuple[float, ...]]): Budgets of additivity by mode, in MACs
            (prune) or BOPs; the last one is that of the policies and the searches.
        bits (tuple[tuple[int, int], ...]): Uniform bits of weights and activations
            to compare the modes of Dynamic BN with.
    """

    prices: int
    measured: int
    policies: int = 20
    shares: dict[str, tuple[float, ...]]
    bits: tuple[tuple[int, int], ...]


CASES = {
    'resnet20': Case(
        config='resnet20_cifar10', images=500, calibration=500, prices=1024,
        measured=128, test=1017, steps=20, batch=64,
        shares=dict(prune=(0.95, 0.9, 0.8, 0.7, 0.6),
                    quant=(0.05, 0.04, 0.03, 0.02, 0.016),
                    joint=(0.05, 0.04, 0.03, 0.02, 0.012)),
        bits=((4, 8), (4, 4), (3, 4), (3, 3))),
    'yolox_nano': Case(
        config='yolox-nano_coco128', metric='coco/bbox_mAP', images=40,
        calibration=24, prices=24, measured=0, test=64, steps=16, batch=8, rate=0.001,
        # The layers that the configs keep in float make 0.16 of the BOPs.
        shares=dict(prune=(0.98, 0.95, 0.9), quant=(0.21, 0.204, 0.192, 0.198),
                    joint=(0.21, 0.204, 0.192, 0.198)),
        bits=((8, 8), (6, 8), (6, 6), (5, 8))),
}


class Bench(harness.Bench):
    """Prices, scores and tests of one case, pruned, quantised or both."""

    def __init__(self, name: str, mode: str, case: Case) -> None:
        prefix = '' if mode == 'joint' else f'{mode}_'
        self.mode, self.cost = mode, 'macs' if mode == 'prune' else 'bops'
        self.share = case.shares[mode][-1]
        sizes = [f'{k}{v}' for k, v in vars(case).items()
                 if k in SIZES and v != getattr(CASES[name], k)]
        super().__init__(replace(
            case, config=f'configs/two_stage/two_stage_{prefix}{case.config}.py'),
            FOLDER / '_'.join([name, mode, *sizes]), mode=mode)
        self.modes = MODES if self.augment else MODES[:3]

    @property
    def augment(self) -> bool:
        """Whether the config recalibrates on augmented images."""
        return self.cfg.search_cfg.evaluator.get('augment', False)

    @cached_property
    def subject(self) -> Subject:
        """What prices are computed of."""
        session = self.session
        return Subject(
            session.model, session.graph, session.space, session.mutator,
            session.evaluator, lambda line: print(line, flush=True))

    def source(self, kind: type, count: int, held_out: bool, augment: bool = False):
        """A source of prices on training or on test images."""
        dataset = self.cfg.test_dataloader.dataset if held_out else None
        count = min(count, self.case.test) if held_out else count
        return kind(count, self.cfg.search_cfg.evaluator.batch_size, dataset, augment)

    def prices(self, kind: str, held_out: bool, augment: bool = False) -> PriceTable:
        """Prices by gradients or measured, of training or of test images."""
        source = self.source(*dict(
            gradient=(GradientPrices, self.case.prices),
            measured=(MeasuredPrices, self.case.measured))[kind], held_out, augment)
        start = time.process_time()
        table = source.compute(self.subject, self.folder / 'prices')
        # The second time they come from the disk.
        self.results.get(f'price seconds {kind} {held_out} {augment}',
                         lambda: time.process_time() - start)
        return table

    def budget(self, *shares: float) -> tuple[Target, ...]:
        """Budgets on the cost of the mode."""
        return self.targets(self.cost, shares or [self.share])

    def with_bn(self, policy: Policy, mode: str):
        """The model as a policy with one of :data:`MODES`."""
        mode, *plain = mode.split()
        images = self.session.evaluator.calibration if plain else None
        return self.acting(policy, mode, images)

    def score(self, policy: Policy, mode: str, held_out: bool = False) -> float:
        """Metric of a policy, on the images of the search or on those of the test."""
        def measure() -> float:
            with self.with_bn(policy, mode) as model:
                return self.metric_of(
                    model, None if held_out else self.session.evaluator)
        return self.results.get(f'{held_out} {mode} {self.key(policy)}', measure)

    def loss(self, policy: Policy, mode: str, held_out: bool) -> float:
        """Mean loss of a policy, without training."""
        def measure() -> float:
            with self.with_bn(policy, mode) as model:
                return mean_loss(
                    model, self.held_out if held_out else self.session.evaluator)
        return self.results.get(f'loss {mode} {held_out} {self.key(policy)}', measure)

    def tuned(self, policy: Policy) -> dict:
        """Metric and loss on the test images after the same fine-tuning for all."""
        def measure() -> dict:
            slim = self.finetuned(policy)
            return dict(metric=self.metric_of(slim),
                        loss=mean_loss(slim, self.held_out))
        return self.results.get(f'tuned {self.key(policy)}', measure)


@torch.no_grad()
def mean_loss(model: torch.nn.Module, evaluator: DatasetEvaluator) -> float:
    """Mean loss on the images of an evaluator."""
    loss = harness.kind_of(model).loss
    losses = [float(loss(model, b)) * len(b.inputs) for b in evaluator.scoring]
    return sum(losses) / evaluator.images


def modes(bench: Bench) -> None:
    """Uniform bits under every mode of Dynamic BN."""
    space, rows = bench.session.space, []
    units, layers = len(space.units), len(space.layers)
    for bits in (None, *bench.case.bits):
        policy = Policy()
        if bits is not None:
            wanted = np.repeat([FLOAT, *bits], [units, layers, layers])
            (policy,) = space.decode(space.snap(np.minimum(wanted, space.highest)))
        rows.append([bits or 'dense', *(
            f'{bench.score(policy, mode, True):.1f}' for mode in bench.modes)])
    show(f'{bench.case.metric} on the test images, bits of weights and activations.',
         ['bits', *bench.modes], rows)


def predictors(bench: Bench) -> None:
    """Kendall tau of every predictor with the fine-tuned result."""
    case = bench.case
    policies = bench.random(case.policies, bench.budget())
    kinds = {'gradient, training images': ('gradient', False),
             'gradient, test images': ('gradient', True)}
    if bench.augment:
        kinds['gradient, augmented training images'] = ('gradient', False, True)
    if case.measured:
        kinds['measured, training images'] = ('measured', False)
    found = {f'dynamic BN {mode}': [bench.score(p, mode) for p in policies]
             for mode in bench.modes}
    prices = bench.session.space.encode(policies)
    found |= {f'price, {name}': -bench.prices(*options).of_rows(prices)
              for name, options in kinds.items()}
    tuned = []
    for i, policy in enumerate(policies):
        tuned.append(bench.tuned(policy))
        print(f'[{i + 1}/{len(policies)}] {tuned[-1]}', flush=True)
    metric, loss = [t['metric'] for t in tuned], [-t['loss'] for t in tuned]
    rows = [['tuned loss', f'{kendalltau(loss, metric).statistic:.2f}', '']]
    rows += [[name, *(f'{kendalltau(values, truth).statistic:.2f}'
                      for truth in (metric, loss))] for name, values in found.items()]
    show(f'{len(policies)} random policies of {bench.share:g} {bench.cost}; '
         f'{case.metric} after fine-tuning {min(metric):.3g} to {max(metric):.3g}',
         ['predictor', f'tau with tuned {case.metric}', 'tau with tuned loss'], rows)


def additivity(bench: Bench) -> None:
    """Predicted sum of prices against the measured rise of the loss."""
    policies = [p for share in bench.case.shares[bench.mode]
                for p in bench.random(3, bench.budget(share))]
    kinds = [('gradient', False), ('gradient', True)]
    kinds += [('measured', False)] if bench.case.measured else []
    rows = []
    for kind, held in kinds:
        predicted = bench.prices(kind, held).of_rows(
            bench.session.space.encode(policies))
        for mode in ('off', 'recalibrate'):
            rises = [bench.loss(p, mode, held) for p in [Policy(), *policies]]
            rises = np.array(rises[1:]) - rises[0]
            good = (rises > 0) & (predicted > 0)
            logs = ratio = np.nan  # the loss of some detectors falls with the mAP
            if good.sum() > 2:
                logs = pearsonr(
                    np.log(rises[good]), np.log(predicted[good])).statistic
                ratio = np.median(predicted[good] / rises[good])
            rows.append([kind, 'test' if held else 'training', f'BN {mode}',
                         f'{kendalltau(predicted, rises).statistic:.2f}',
                         f'{logs:.2f}', f'{ratio:.2f}', f'{good.sum()} of {len(good)}'])
    show('Prices added up', [
        'prices', 'images', 'loss with', 'tau', 'correlation of logs',
        'median predicted / measured', 'policies whose loss rises'], rows)


def samples(bench: Bench, most: int) -> None:
    """How prices, and the policies they lead to, settle with the number of samples."""
    # Training images include those scored on: nothing is scored here.
    evaluator = copy.copy(bench.session.evaluator)
    evaluator.images = evaluator.calibration_images = 0
    evaluator.augment = False
    everything = replace(bench.subject, evaluator=evaluator)
    rows, (target,) = [], bench.budget()
    layout = Layout(bench.session.graph, bench.session.space)
    limits = {target.cost: target.limit}
    for held in (False, True):
        source = bench.source(GradientPrices, most, held)
        terms = source.sample_terms(everything, *source.open(
            everything, bench.folder / 'prices'))
        whole = layout.table(mean_square(terms))
        best = exact(whole, bench.costs, limits)
        n, order = 64, np.random.default_rng(0).permutation(len(terms))
        while n <= source.images:
            table = layout.table(mean_square(terms[order[:n]]))
            picks = exact(table, bench.costs, limits).picks
            tau = kendalltau(table.price, whole.price).statistic
            rows.append(['test' if held else 'training', n, f'{tau:.3f}',
                         f'{whole.price[picks].sum() / best.price:.4f}',
                         f'{(picks != best.picks).sum()} of {len(picks)}'])
            n *= 2
    show(f'Policies of {bench.share:g} {bench.cost}; all samples are {most} training '
         f'images or {bench.case.test} test images.', [
             'images', 'N', 'tau of prices with all', 'price of the policy / lowest',
             'groups that differ'], rows)


def solvers(bench: Bench) -> None:
    """Greedy against exact on real prices, and 20 targets from one set."""
    table = bench.prices('gradient', False, bench.augment)
    curve = sweep(table, bench.costs, bench.cost)
    low = curve.cost[-1] / bench.costs.dense()[bench.cost]
    targets = bench.budget(*np.linspace(low + 0.02, 0.98, 20))
    start = time.process_time()
    searcher = TwoStage(bench.session.space, bench.costs, targets, 20, prices=table)
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
    (target,) = bench.budget()
    # Searchers plan with the number of evaluations that fit.
    rows, fit = [], 1000
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
        rows.append([kind.__name__, f'{count:.0f}', *(
            f'{v:.2f} ± {d:.2f}' if kind is not Uniform else f'{v:.2f}'
            for v, d in zip(values, np.std(found, 0)[1:]))])
    show(f'{bench.mode}: {target.cost} <= {bench.share:g} of dense, {seconds:g} s '
         f'each, {seeds} seeds; dense {bench.tested(Policy()):.2f}', [
             'searcher', 'evaluations', 'search', 'test, recalibrated',
             'test, fine-tuned'], rows)


def searched(
    bench: Bench, kind: type[Searcher], target: Target, seconds: float, seed: int,
    evaluations: int,
) -> list[Evaluated]:
    """What a searcher evaluates within some seconds; its prices count."""
    options, spent = {}, 0.0
    if kind is TwoStage:
        options['prices'] = bench.prices('gradient', False, bench.augment)
        spent = bench.results.values[f'price seconds gradient False {bench.augment}']
    searcher = kind(bench.session.space, bench.costs, [target],
                    1 if kind is Uniform else evaluations, seed, **options)
    return bench.run(searcher, seconds, spent)[0]


COMMANDS = dict(predictors=predictors, additivity=additivity, solvers=solvers,
                modes=modes)
SIZES = ('images', 'calibration', 'prices', 'measured', 'test', 'policies')


def main() -> None:
    """Run one command."""
    options = parser(__doc__)
    options.add_argument('command', choices=[*COMMANDS, 'samples', 'search'])
    options.add_argument('case', nargs='?', choices=list(CASES), default='resnet20')
    options.add_argument(
        '--mode', choices=['prune', 'quant', 'joint'], default='prune')
    options.add_argument('--most', type=int, default=4096, help='samples')
    options.add_argument('--seconds', type=float, default=60, help='of each searcher')
    options.add_argument('--seeds', type=int, default=3, help='of each searcher')
    add_sizes(options, SIZES)
    args = options.parse_args()
    bench = Bench(args.case, args.mode, CASES[args.case].changed(args))
    if args.command == 'search':
        search(bench, args.seconds, args.seeds)
    elif args.command == 'samples':
        samples(bench, args.most)
    else:
        COMMANDS[args.command](bench)


if __name__ == '__main__':
    harness.start(main)
