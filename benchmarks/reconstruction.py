"""What each part of the repair gives back, without training and without labels.

For every budget: uniform widths and those of a knapsack over prices, sliced, repaired
in closed form as a search scores them, and fitted in order; then the best of a short
search. Repaired, priced and scored on training images, tested on images that nothing
has seen. Kill it and run the same command again: it continues.

    python benchmarks/reconstruction.py                         # all networks
    python benchmarks/reconstruction.py resnet56 --draws 3      # of calibration images
    python benchmarks/reconstruction.py resnet56 --finetune     # and after two epochs
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import harness
from harness import OUT, Bench, Results, machine, parser, show, spread

import mmcompress as mmc
from mmcompress.costs import Target
from mmcompress.evaluation import finetune
from mmcompress.policy import Policy
from mmcompress.policy.files import PolicyFile
from mmcompress.prices import Subject
from mmcompress.prices.table import PriceTable
from mmcompress.registry import PRICES, build
from mmcompress.searchers.two_stage import TwoStage


@dataclass(frozen=True, kw_only=True)
class Case(harness.Case):
    """A network, its budgets as shares of the MACs, and images to calibrate on."""

    prices: dict


CIFAR = dict(metric='accuracy/top1', evaluations=48, targets=(0.75, 0.5, 0.35),
             steps=80, prices=dict(type='ReconstructionPrices', images=32))
CASES = {
    'resnet20': Case(config='configs/reconstruction/two_stage_resnet56_cifar10.py',
                     images=500, calibration=500, **CIFAR),
    'resnet56': Case(config='configs/reconstruction/two_stage_resnet56_cifar10.py',
                     images=500, calibration=500, **CIFAR),
    'yolox_nano': Case(
        config='configs/reconstruction/two_stage_yolox-nano_coco128.py',
        metric='coco/bbox_mAP', images=32, calibration=96, forward=8, evaluations=40,
        targets=(0.95, 0.9, 0.8, 0.7), prices=dict(
            type='ReconstructionPrices', images=16, measure='detections'))}
SCORES = dict(resnet20='distance', resnet56='distance', yolox_nano='detections')


class Parts:
    """One network and one draw of its calibration images.

    Args:
        name (str): Of the case.
        draw (int): Seed of the images.
        evaluations (int): Of the search.
    """

    def __init__(self, name: str, draw: int, evaluations: int) -> None:
        self.case, self.draw, self.evaluations = CASES[name], draw, evaluations
        self.folder = OUT / 'reconstruction' / name / f'draw_{draw}'
        self.bench = bench = Bench(self.case, self.folder)
        if name == 'resnet20':
            bench.cfg.model.backbone.depth = 20
            bench.cfg.load_from = bench.cfg.load_from.replace('resnet56', 'resnet20')
        bench.cfg.search_cfg.evaluator.update(seed=draw, metric=SCORES[name])
        self.session = bench.session
        self.plain = self.session.without_repair()
        self.repair = self.session.mutator.repair

    def test(self, model: object) -> float:
        """The metric on the test images, in per cent."""
        return self.case.scale * self.bench.metric_of(model)

    def prices(self) -> PriceTable:
        """What the knapsack goes by."""
        session = self.session
        return build(PRICES, dict(self.case.prices)).compute(
            Subject(session.model, session.graph, session.space, session.mutator,
                    session.evaluator, lambda _: None), self.folder / 'prices')

    def priced(self, target: Target) -> Policy:
        """The knapsack's policy for a budget."""
        searcher = TwoStage(self.session.space, self.bench.costs, [target],
                            prices=self.prices(), exact=False)
        return self.session.space.decode(searcher.solutions(target))[0]

    def searched(self, share: float) -> Policy:
        """The best of a search over all budgets."""
        family = mmc.search(
            self.session, 'TwoStage', self.evaluations, self.folder / 'search',
            macs=list(self.case.targets), prices=self.case.prices, seed=self.draw)
        return PolicyFile.load(
            family.work_dir / 'policies' / f'macs_{share:g}.json').policy

    def acting(self, policy: Policy, repaired: bool) -> float:
        """Metric of a policy as a search has it: norms found again, in pairs."""
        mutator = (self.session if repaired else self.plain).mutator
        with mutator.acting(policy) as model, harness.dynamic_bn(
                model, 'paired', self.session.evaluator.recalibration):
            return self.test(model)

    def written(self, policy: Policy, sequential: bool | None = None,
                residual: bool = True, tune: bool = False) -> float:
        """Metric of what is written for a policy, after training if ``tune``."""
        self.repair.residual = residual
        with self.repair.writing(sequential):
            slim = self.session.materialise(policy)
        if tune:
            finetune(slim, self.bench.training, self.case.finetuning, self.draw)
        return self.test(slim)

    def rows(self, share: float, tune: bool) -> Iterator[tuple[str, Callable]]:
        """Names of the parts, and functions that measure them.

        What a part adds is measured on the first draw, the result on all.
        """
        target, = self.bench.targets('macs', [share])
        if not self.draw:
            even = harness.uniform_widths(self.session.space, self.bench.costs, target)
            yield 'uniform, sliced', lambda: self.acting(even, False)
            yield 'uniform, repaired', lambda: self.acting(even, True)
            yield 'priced, sliced', lambda: self.acting(self.priced(target), False)
            yield 'priced, repaired', lambda: self.acting(self.priced(target), True)
            yield 'priced, fitted, no residual target', lambda: self.written(
                self.priced(target), True, residual=False)
            yield 'priced, fitted', lambda: self.written(self.priced(target), True)
        yield 'searched, repaired', lambda: self.acting(self.searched(share), True)
        yield 'searched, as written', lambda: self.written(self.searched(share))
        if tune:
            yield 'searched, after two epochs', lambda: self.written(
                self.searched(share), tune=True)


def measure(name: str, draw: int, args: object, results: Results) -> dict:
    """Metrics of one draw by part and budget; what is known is not measured again."""
    evaluations = args.evaluations or CASES[name].evaluations
    parts = Parts(name, draw, evaluations)
    found = {('dense', share): parts.test(parts.session.model)
             for share in CASES[name].targets}
    for share in CASES[name].targets:
        for part, call in parts.rows(share, args.finetune):
            key = f'{name}, {part}, {share}, draw {draw}, {evaluations} evaluations'
            found[part, share] = results.get(key, call)
            print(f'{key}: {found[part, share]:.2f}', flush=True)
    return found


def main() -> None:
    """Measure what is asked for; print the table of all that has been."""
    options = parser(__doc__)
    options.add_argument('names', nargs='*', help=f'all if unset: {", ".join(CASES)}')
    options.add_argument('--draws', type=int, default=1)
    options.add_argument('--evaluations', type=int, help="instead of the case's")
    options.add_argument('--finetune', action='store_true')
    args = options.parse_args()
    results = Results(OUT / 'reconstruction' / 'results.json', {})
    print(machine())
    for name in args.names or CASES:
        draws = [measure(name, draw, args, results) for draw in range(args.draws)]
        shares = CASES[name].targets
        rows = [(part, *(spread([d[part, share] for d in draws if (part, share) in d])
                         for share in shares))
                for part in dict.fromkeys(part for part, _ in draws[0])]
        show(f'{name}, per cent, {args.draws} draws of calibration images; share of '
             'the MACs', ('part', *(f'{share:.0%}' for share in shares)), rows)


if __name__ == '__main__':
    harness.start(main)
