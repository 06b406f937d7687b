"""What batch-norm statistics a compressed network needs, before any training.

Uniform widths and uniform bits with the checkpoint's statistics, those of calibration
images, and the paired ones: the checkpoint's, moved as those of the calibration images
move. Calibrated on training images, scored on images that nothing has seen. Kill it
and run the same command again: it continues.

    python benchmarks/dynamic_bn.py                 # resnet20, resnet56, yolox_nano
    python benchmarks/dynamic_bn.py resnet20 --draws 3
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product

import harness
import numpy as np
from harness import OUT, Bench, Results, machine, parser, show

MODES = ('off', 'recalibrate', 'paired')


@dataclass(frozen=True, kw_only=True)
class Case(harness.Case):
    """A network and how it is compressed; targets are shares of the MACs.

    Args:
        counts (tuple): Numbers of calibration images.
        bits (tuple): Uniform bits of weights and activations.
        divisor (int): Of uniform widths.
        augmented (bool): Also calibrate under the pipeline of training.
    """

    images: int = 1
    forward: int = 16
    counts: tuple[int, ...] = (100, 1000)
    bits: tuple[tuple[int, int], ...] = ((8, 8), (4, 8), (4, 4))
    targets: tuple[float, ...] = (0.9, 0.75, 0.5)
    divisor: int = 2
    augmented: bool = True


CASES = {
    'resnet20': Case(config='configs/quantisation/mixed_resnet20_cifar10.py'),
    'resnet56': Case(config='configs/quantisation/mixed_resnet56_cifar10.py'),
    'yolox_nano': Case(
        config='configs/quantisation/mixed_yolox-nano_coco128.py', counts=(32, 96),
        metric='coco/bbox_mAP', bits=((8, 8), (6, 8), (5, 8), (4, 8)),
        targets=(0.97, 0.94, 0.9), divisor=8, augmented=False)}


def measure(name: str, case: Case, draw: int, augment: bool) -> dict:
    """Per cent on unseen images: the dense network, uniform bits, uniform widths."""
    bits, widths = (Bench(case, OUT / 'dynamic_bn' / name) for _ in range(2))
    for bench in (bits, widths):
        bench.cfg.search_cfg.evaluator.update(
            dynamic_bn='paired', seed=draw, augment=augment)
    bits.cfg.compression.pop('channel', None)
    widths.cfg.compression.pop('quant')
    widths.cfg.compression.channel = dict(
        type='ChannelMutator', importance='l2', divisor=case.divisor)
    policies = [('dense', harness.Policy(), bits)]
    policies += [('W{}A{}'.format(*b), bits.uniform(b), bits) for b in case.bits]
    policies += [(f'{t.value:.0%} MACs', harness.uniform_widths(
        widths.session.space, widths.costs, t), widths)
        for t in widths.targets('macs', case.targets)]
    found = {what: {} for what, *_ in policies}
    for (what, policy, bench), mode in product(policies, MODES):
        with bench.acting(policy, mode) as model:
            found[what][mode] = case.scale * bench.metric_of(model)
    return found


def main() -> None:
    """Measure what is asked for; print the table of all that has been."""
    options = parser(__doc__)
    options.add_argument('names', nargs='*', help=f'all if unset: {", ".join(CASES)}')
    options.add_argument('--draws', type=int, default=1)
    args = options.parse_args()
    results = Results(OUT / 'dynamic_bn' / 'results.json', {})
    print(machine())
    groups: dict[str, list[dict]] = {}
    for name in args.names or CASES:
        case = CASES[name]
        for count, augment, draw in product(
                case.counts, (False, True)[:1 + case.augmented], range(args.draws)):
            key = f'{name}, {count} images{", augmented" if augment else ""}'
            sized = harness.replace(case, calibration=count)
            found = results.get(f'{key}, draw {draw}', lambda: measure(
                name, sized, draw, augment))  # noqa: B023
            print(key, draw, found, flush=True)
            groups.setdefault(key, []).append(found)
    rows = [(name, what, *(f'{np.mean(x):.2f} ({np.std(x):.2f})' for x in (
        [draw[what][mode] for draw in draws] for mode in MODES)))
        for name, draws in groups.items() for what in draws[0]]
    show('Per cent, mean (standard deviation) over draws of the calibration images',
         ('network', 'policy', *MODES), rows, left=2)


if __name__ == '__main__':
    harness.start(main)
