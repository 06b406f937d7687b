"""What each part of the repair gives back, without training and without labels.

For every budget: uniform widths and those of a knapsack over prices, sliced, repaired
in closed form as a search scores them, and fitted in order; then the best of a short
search. Repaired, priced and scored on training images, tested on images that nothing
has seen. Kill it and run the same command again: it continues.

    python benchmarks/reconstruction.py                         # all networks
    python benchmarks/reconstruction.py resnet56 --draws 3      # of calibration images
    python benchmarks/reconstruction.py resnet56 --finetune     # and after two epochs
    python benchmarks/reconstruction.py yolox_nano --rates      # on training images
    python benchmarks/reconstruction.py yolox_nano_joint yolox_nano_bits --draws 3
    python benchmarks/reconstruction.py resnet20 yolox_nano --tau 20   # how scores rank
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path

import harness
import torch
from harness import OUT, Bench, Results, machine, parser, show, spread
from mmengine.config import Config
from mmengine.runner import Runner
from scipy.stats import kendalltau

import mmcompress as mmc
from mmcompress.api.family import Family, Member
from mmcompress.api.results import write_checkpoint, write_policy
from mmcompress.costs import Target
from mmcompress.data.images import pick
from mmcompress.openmmlab.training import TrainOptions, train
from mmcompress.policy import Policy
from mmcompress.prices import Subject
from mmcompress.prices.table import PriceTable
from mmcompress.registry import PRICES, build
from mmcompress.searchers.two_stage import TwoStage
from mmcompress.session import Session


@dataclass(frozen=True, kw_only=True)
class Case(harness.Case):
    """A network, its budgets, and images to calibrate on.

    Args:
        cost (str): What the budgets are shares of. Defaults to 'macs'.
        rates (tuple): Learning rates of the fine-tune to compare.
        distil (float | None): Weight of the dense network as a teacher in it.
        ranked (float): Budget of the random policies that are ranked.
    """

    cost: str = 'macs'
    rates: tuple[float, ...]
    distil: float | None = None
    ranked: float


CIFAR = Case(
    config='configs/reconstruction/two_stage_resnet56_cifar10.py', images=500,
    calibration=500, evaluations=48, targets=(0.75, 0.5, 0.35),
    recipe='configs/cifar/resnet56_cifar10.py', rate=1e-2, rates=(1e-3, 3e-3, 1e-2),
    ranked=0.6)
COCO = Case(
    config='configs/reconstruction/two_stage_yolox-nano_coco128.py',
    metric='coco/bbox_mAP', images=32, calibration=96, forward=8, evaluations=40,
    targets=(0.95, 0.9, 0.8, 0.7),
    recipe='configs/yolox/yolox_nano_coco128_finetune.py',
    rate=3e-5, rates=(1e-5, 3e-5, 1e-4), distil=1.0,
    ranked=0.9)
JOINT = harness.replace(
    COCO, config='configs/reconstruction/joint_yolox-nano_coco128.py', cost='bops',
    targets=(0.047, 0.042, 0.0369))
CASES = dict(
    resnet20=CIFAR, resnet56=CIFAR, yolox_nano=COCO, yolox_nano_joint=JOINT,
    yolox_nano_bits=harness.replace(
        JOINT, config='configs/reconstruction/bits_yolox-nano_coco128.py'))


class Parts:
    """One network and one draw of its calibration images.

    Args:
        name (str): Of the case.
        draw (int): Seed of the images.
        evaluations (int): Of the search over all budgets.
    """

    def __init__(self, name: str, draw: int, evaluations: int) -> None:
        self.name, self.case, self.draw = name, CASES[name], draw
        self.evaluations = evaluations
        self.folder = OUT / 'reconstruction' / name / f'draw_{draw}'
        self.bench = self._bench()
        self.session = self.bench.session
        self.plain = self.session.without_repair()
        self.repair = self.session.mutator.repair

    def _bench(self) -> Bench:
        bench = Bench(self.case, self.folder)
        self._of_this_network(bench.cfg)
        bench.cfg.search_cfg.evaluator.update(
            seed=self.draw,
            metric='detections' if 'mAP' in self.case.metric else 'distance')
        return bench

    def _of_this_network(self, cfg: Config) -> None:
        """Let a config of ResNet-56 be one of ResNet-20, where that is measured."""
        if self.name == 'resnet20':
            cfg.model.backbone.depth = 20
            cfg.load_from = cfg.load_from.replace('resnet56', 'resnet20')

    @cached_property
    def by_norm(self) -> Session:
        """Without the repair, its channels in the order of their weights' norms."""
        bench = self._bench()
        bench.cfg.compression.update(reconstruct=False)
        bench.cfg.compression.channel.importance = 'l1'
        return bench.session

    def test(self, model: object) -> float:
        """The metric on the test images, in per cent."""
        return self.case.scale * self.bench.metric_of(model)

    @cached_property
    def prices(self) -> PriceTable:
        """What the knapsack goes by."""
        session, source = self.session, self.bench.cfg.search_cfg.prices
        return build(PRICES, source.to_dict()).compute(
            Subject(session.model, session.graph, session.space, session.mutator,
                    session.evaluator, lambda _: None), self.folder / 'prices')

    def priced(self, target: Target) -> Policy:
        """The knapsack's policy for a budget."""
        searcher = TwoStage(self.session.space, self.bench.costs, [target],
                            prices=self.prices, exact=False)
        return self.session.space.decode(searcher.solutions(target))[0]

    @cached_property
    def family(self) -> Family:
        """The best of a search over all budgets."""
        return mmc.search(
            self.session, 'TwoStage', self.evaluations,
            self.folder / f'search_{self.evaluations}', seed=self.draw,
            prices=self.bench.cfg.search_cfg.prices.to_dict(),
            **{self.case.cost: list(self.case.targets)})

    def member(self, share: float) -> Member:
        """What the search wrote for a budget."""
        return self.family[f'{self.case.cost}_{share:g}']

    def acting(self, policy: Policy, session: Session) -> float:
        """Metric of a policy as a search has it: norms found again, in pairs."""
        mutator = session.mutator
        norms = self.session.evaluator.norm_batches(mutator)
        with mutator.acting(policy) as model, harness.dynamic_bn(
                model, 'paired', norms):
            return self.test(model)

    def fitted(self, policy: Policy, residual: bool = True) -> float:
        """Metric of a policy whose layers are fitted in order."""
        self.repair.residual = residual
        with self.repair.writing(True):
            slim = self.session.materialise(policy)
        self.repair.residual = True
        return self.test(slim)

    def tuned(self, share: float | None) -> float:
        """Metric after two epochs, of the dense network without a budget."""
        return self.case.scale * harness.tested(
            self.trained(self.file(share), self.case.rate), self.case.metric)

    def file(self, share: float | None) -> Path | None:
        """The policy file of a budget."""
        return share and (
            self.family.work_dir / 'policies' / f'{self.case.cost}_{share:g}.json')

    def trained(self, file: Path | None, rate: float, held_out: bool = False) -> Runner:
        """The recipe that users have.

        Args:
            file (Path | None): Policy file; None for the dense network.
            rate (float): Learning rate.
            held_out (bool): Leave out the training images that are scored on.
        """
        cfg = harness.quiet_config(
            self.case.recipe,
            self.folder / f'tuned_{file and file.stem}_{rate}_{held_out}')
        self._of_this_network(cfg)
        cfg.train_cfg.val_interval = 10
        cfg.optim_wrapper.optimizer.lr = rate
        dataset = cfg.train_dataloader.dataset
        if held_out:
            count = len(harness.build_dataset(dataset.to_dict()))
            scored, = pick(count, [self.case.images], self.draw)
            dataset.indices = sorted({*range(count)} - {*scored.tolist()})
        return train(cfg, TrainOptions(file and str(file), distil=self.case.distil))

    def rows(self, share: float, tune: bool) -> Iterator[tuple[str, Callable]]:
        """Names of the parts, and functions that measure them.

        What a part adds is measured on the first draw, the result on all.
        """
        target, = self.bench.targets(self.case.cost, [share])
        if not self.draw and self.case.cost == 'macs':
            even = harness.uniform_widths(self.session.space, self.bench.costs, target)
            for part, session in dict(repaired=self.session, sliced=self.plain).items():
                yield f'uniform, {part}', partial(self.acting, even, session)
                yield f'priced, {part}', lambda session=session: self.acting(
                    self.priced(target), session)
            yield 'uniform, sliced, by norm', lambda: self.acting(even, self.by_norm)
            yield 'priced, fitted, no residual target', lambda: self.fitted(
                self.priced(target), residual=False)
            yield 'priced, fitted', lambda: self.fitted(self.priced(target))
        yield f'{self.evaluations} evaluations, as written', lambda: self.test(
            self.member(share).model)
        if tune:
            yield f'{self.evaluations} evaluations, two epochs', lambda: self.tuned(
                share)
            yield 'dense, two epochs', lambda: self.tuned(None)


def measure(name: str, draw: int, args: object, results: Results) -> dict:
    """Metrics of one draw by part and budget; what is known is not measured again."""
    parts = Parts(name, draw, args.evaluations or CASES[name].evaluations)
    found = {('dense', share): results.get(
        f'{name}, dense', lambda: parts.test(parts.session.model))
        for share in CASES[name].targets}
    for share in CASES[name].targets:
        for part, call in parts.rows(share, args.finetune):
            key = f'{name}, {part}, {share}, draw {draw}'
            if part.startswith('dense'):
                key = f'{name}, {part}, draw {draw}'
            found[part, share] = results.get(key, call)
            print(f'{key}: {found[part, share]:.2f}', flush=True)
    return found


def compare_rates(name: str, evaluations: int, results: Results) -> None:
    """Training on the images that were calibrated on, scored on the others of train."""
    parts = Parts(name, 0, evaluations)
    case, evaluator = parts.case, parts.session.evaluator

    def score(share: float | None, rate: float) -> float:
        model = parts.trained(parts.file(share), rate, held_out=True).model.eval()
        with torch.no_grad():
            return case.scale * float(evaluator.metrics_of(model)[case.metric])

    rows = [(share or 'dense', *(f'{found:.1f}' for rate in case.rates for found in [
        results.get(f'{name}, {share}, rate {rate}', lambda: score(share, rate))]))  # noqa: B023
        for share in (None, case.targets[1])]
    show(f'{name}, two epochs, per cent on training images that were held out',
         ('share', *map(str, case.rates)), rows)


def rank(name: str, count: int, results: Results) -> list[str]:
    """Kendall's tau of scores without training with the metric after it."""
    parts = Parts(name, 0, 0)
    case, session, found = parts.case, parts.session, []
    targets = parts.bench.targets(case.cost, [case.ranked])
    for i, policy in enumerate(parts.bench.random(count, targets)):
        file = parts.folder / 'ranked' / f'policy_{i}.json'

        def measure(policy: Policy = policy, file: Path = file) -> list[float]:
            evaluator = session.evaluator
            scores = [evaluator.evaluate(policy, x.mutator).value
                      for x in (parts.plain, session)]
            write_policy(file, policy, session, {})
            write_checkpoint(file.with_suffix('.pth'), policy, session)
            runner = parts.trained(file, case.rate)
            return [*scores, case.scale * harness.tested(runner, case.metric)]

        found.append(results.get(f'{name}, ranked policy {i}', measure))
        print(i, found[-1], flush=True)
    sliced, repaired, tuned = zip(*found)
    return [name, f'{case.ranked:g}', f'{min(tuned):.1f} to {max(tuned):.1f}',
            *(f'{kendalltau(x, tuned).statistic:.2f}' for x in (sliced, repaired))]


def main() -> None:
    """Measure what is asked for; print the table of all that has been."""
    options = parser(__doc__)
    options.add_argument('names', nargs='*', help=f'all if unset: {", ".join(CASES)}')
    options.add_argument('--draws', type=int, default=1)
    options.add_argument('--evaluations', type=int, help="instead of the case's")
    options.add_argument('--finetune', action='store_true')
    options.add_argument('--rates', action='store_true',
                         help='compare learning rates of the fine-tune')
    options.add_argument('--tau', type=int, help='random policies to rank')
    args = options.parse_args()
    results = Results(OUT / 'reconstruction' / 'results.json', {})
    print(machine())
    if args.tau:
        show(f"Kendall's tau with the metric after two epochs, {args.tau} random "
             'policies', ('network', 'MACs', 'after two epochs', 'sliced', 'repaired'),
             [rank(name, args.tau, results) for name in args.names])
        return
    for name in args.names or CASES:
        if args.rates:
            compare_rates(name, args.evaluations or CASES[name].evaluations, results)
            continue
        draws = [measure(name, draw, args, results) for draw in range(args.draws)]
        shares = CASES[name].targets
        rows = [(part, *(spread([d[part, share] for d in draws if (part, share) in d])
                         for share in shares))
                for part in dict.fromkeys(part for part, _ in draws[0])]
        show(f'{name}, per cent, {args.draws} draws of calibration images; share of '
             f'the {CASES[name].cost.upper()}',
             ('part', *(f'{share:.4g}' for share in shares)), rows)


if __name__ == '__main__':
    harness.start(main)
