"""What batch-norm statistics a compressed network needs, before any training.

Uniform widths and uniform bits with the checkpoint's statistics, those of calibration
images, and the paired ones: the checkpoint's, moved as those of the calibration images
move. Calibrated on training images, scored on images that nothing has seen. Kill it
and run the same command again: it continues.

    python benchmarks/dynamic_bn.py                 # resnet20, resnet56, yolox_nano
    python benchmarks/dynamic_bn.py resnet20 --draws 3
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from common import OUT, Results, machine, quiet_config

from mmcompress.costs import Costs, CostTable, parse_targets
from mmcompress.evaluation import dynamic_bn
from mmcompress.graph import trace
from mmcompress.mutators import JointMutator
from mmcompress.openmmlab.cli import load_weights, search_runner
from mmcompress.openmmlab.evaluators import DatasetEvaluator as PolicyEvaluator
from mmcompress.openmmlab.images import build_dataset
from mmcompress.openmmlab.input_shape import input_shape_of
from mmcompress.policy import Bits, Policy, SearchSpace
from mmcompress.report.tables import TextTable
from mmcompress.searchers.starts import largest_uniform, uniform_rows

MODES = ('off', 'recalibrate', 'paired')
METRICS = ('coco/bbox_mAP', 'accuracy/top1')


@dataclass(frozen=True)
class Case:
    """A network and how it is compressed.

    Args:
        config (str): Of a search over its bits.
        scale (float): From the metric to percent.
        counts (tuple): Numbers of calibration images.
        bits (tuple): Uniform bits of weights and activations.
        shares (tuple): Of the MACs that uniform widths keep.
        divisor (int): Of widths.
        augmented (bool): Also calibrate under the pipeline of training.
    """

    config: str
    scale: float
    counts: tuple[int, ...]
    bits: tuple[tuple[int, int], ...]
    shares: tuple[float, ...]
    divisor: int
    augmented: bool = False


RESNET = (1.0, (100, 1000), ((8, 8), (4, 8), (4, 4)), (0.9, 0.75, 0.5), 2, True)
CASES = {
    'resnet20': Case('configs/quantisation/mixed_resnet20_cifar10.py', *RESNET),
    'resnet56': Case('configs/quantisation/mixed_resnet56_cifar10.py', *RESNET),
    'yolox_nano': Case(
        'configs/quantisation/mixed_yolox-nano_coco128.py', 100.0, (32, 96),
        ((8, 8), (6, 8), (5, 8), (4, 8)), (0.97, 0.94, 0.9), 8)}


class Bench:
    """A network that acts as a policy with statistics of calibration images.

    Args:
        case (Case): Which network.
        folder (Path): Work dir.
        count (int): Calibration images.
        draw (int): Seed of their choice.
        augment (bool): See :class:`PolicyEvaluator`.
    """

    def __init__(
        self, case: Case, folder: Path, count: int, draw: int, augment: bool
    ) -> None:
        cfg = quiet_config(case.config, folder)
        runner = search_runner(cfg)
        load_weights(runner.model, cfg.load_from)
        self.model, self.scale = runner.model.eval(), case.scale
        self.graph = trace(self.model, input_shape_of(cfg))
        spec = cfg.test_dataloader.dataset.to_dict()
        self.val = PolicyEvaluator(
            '', len(build_dataset(spec)), 0, 'off', dataset=spec, batch_size=16,
            evaluator=cfg.test_evaluator.to_dict())
        self.train = PolicyEvaluator(
            '', 1, count, 'paired', seed=draw, augment=augment, batch_size=16)
        for evaluator in (self.val, self.train):
            evaluator.prepare(self.model, cfg)
        self.quant = dict(cfg.compression.quant)
        self.channel = dict(
            type='ChannelMutator', importance='l2', divisor=case.divisor)

    def policies(self, case: Case) -> Iterator[tuple[str, Policy, JointMutator]]:
        """The dense network, uniform bits, uniform widths."""
        mutator = self.mutator(quant=self.quant)
        yield 'dense', Policy(), mutator
        for bits in case.bits:
            choices = mutator.space_options['weight_bits']
            yield 'W{}A{}'.format(*bits), Policy({}, {
                name: Bits(8, 8) if c == (8,) else Bits(*bits)
                for name, c in choices.items()}), mutator
        mutator = self.mutator(channel=self.channel)
        space = SearchSpace.from_graph(self.graph, **mutator.space_options)
        costs = Costs(CostTable.from_graph(self.graph), space)
        for target in parse_targets(dict(macs=list(case.shares)), costs):
            row = uniform_rows(space)[1][largest_uniform(space, costs, target)]
            yield f'{target.value:.0%} MACs', space.decode(row[None])[0], mutator

    def mutator(self, **parts: dict) -> JointMutator:
        """A mutator of widths or of bits."""
        mutator = JointMutator.from_config(parts)
        mutator.prepare(self.model, self.graph, self.train)
        return mutator

    def score(self, policy: Policy, mutator: JointMutator, mode: str) -> float:
        """Percent on the images that nothing has seen; 0 if nothing is found."""
        with torch.no_grad(), mutator.acting(policy), dynamic_bn(
                self.model, mode, self.train.recalibration):
            metrics = self.val.measure(self.model)
        found = [metrics[name] for name in METRICS if name in metrics]
        return self.scale * found[0] if found else 0.0


def measure(name: str, folder: Path, results: Results, draws: int) -> None:
    """All policies of a network with all statistics."""
    case = CASES[name]
    for count in case.counts:
        for augment in (False, True)[:1 + case.augmented]:
            for draw in range(draws):
                keys = f'{name}, {count} images{", augmented" if augment else ""}'
                if f'{keys}, draw {draw}' in results.values:
                    continue
                bench = Bench(case, folder / name, count, draw, augment)
                found = {
                    what: {mode: bench.score(policy, mutator, mode) for mode in MODES}
                    for what, policy, mutator in bench.policies(case)}
                print(keys, draw, found, flush=True)
                results.get(f'{keys}, draw {draw}', lambda found=found: found)


def table(results: Results) -> TextTable:
    """Means over the draws."""
    groups: dict[str, list[dict]] = {}
    for key, found in results.values.items():
        groups.setdefault(key.rsplit(', draw', 1)[0], []).append(found)
    rows = []
    for name, draws in groups.items():
        for what in draws[0]:
            columns = [[draw[what][mode] for draw in draws] for mode in MODES]
            rows.append((name, what, *(
                f'{np.mean(x):.2f} ({np.std(x):.2f})' for x in columns)))
    return TextTable(
        'Percent, mean (standard deviation) over draws of the calibration images',
        ('network', 'policy', *MODES), tuple(rows), left=2)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('names', nargs='*', help=f'of {", ".join(CASES)}; all if unset')
    parser.add_argument('--draws', type=int, default=1)
    args = parser.parse_args()
    folder = OUT / 'dynamic_bn'
    results = Results(folder / 'results.json', {})
    print(machine())
    for name in args.names or CASES:
        measure(name, folder, results, args.draws)
    print(table(results).markdown())


if __name__ == '__main__':
    main()
