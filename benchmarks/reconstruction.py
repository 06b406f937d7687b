"""What the closed-form repair gives back, without training and without labels.

Uniform widths at several budgets, with the channels in the order of the network's own
importance and in that of elimination, sliced, repaired, and fitted in order. Calibrated
on training images, tested on images that nothing has seen. Kill it and run the same
command again: it continues.

    python benchmarks/reconstruction.py                      # all networks
    python benchmarks/reconstruction.py resnet56 --draws 3
"""

from __future__ import annotations

from dataclasses import dataclass
from statistics import mean

import harness
from harness import OUT, Bench, Results, machine, parser, show

VARIANTS = {
    'sliced': ({}, None),
    'order': (dict(importance='obs'), None),
    'order, repaired': (dict(importance='obs'), dict(sequential=False)),
    'order, fitted': (dict(importance='obs'), dict())}
"""By name, what changes of ``compression.channel``, and ``compression.reconstruct``."""


@dataclass(frozen=True, kw_only=True)
class Case(harness.Case):
    """A network, its budgets as shares of the MACs, and images to calibrate on."""

    images: int = 1
    forward: int = 32


CASES = {
    'resnet20': Case(config='configs/evolution/evolution_resnet56_cifar10.py',
                     calibration=500, targets=(0.75, 0.5, 0.35)),
    'resnet56': Case(config='configs/evolution/evolution_resnet56_cifar10.py',
                     calibration=500, targets=(0.75, 0.5, 0.35)),
    'yolox_nano': Case(config='configs/evolution/evolution_yolox-nano_coco128.py',
                       metric='coco/bbox_mAP', calibration=96, forward=8,
                       targets=(0.95, 0.9, 0.8, 0.7))}


def measure(name: str, case: Case, variant: str, draw: int) -> dict[str, float]:
    """Metric of the dense network and of uniform widths, by budget, in per cent."""
    channel, reconstruct = VARIANTS[variant]
    bench = Bench(case, OUT / 'reconstruction' / name)
    if name == 'resnet20':
        bench.cfg.model.backbone.depth = 20
        bench.cfg.load_from = bench.cfg.load_from.replace('resnet56', 'resnet20')
    bench.cfg.search_cfg.evaluator.update(dynamic_bn='paired', seed=draw)
    bench.cfg.compression.channel.update(channel)
    if reconstruct is not None:
        bench.cfg.compression.reconstruct = reconstruct
    session = bench.session
    found = {'dense': case.scale * bench.metric_of(session.model)}
    for target in bench.targets('macs', case.targets):
        policy = harness.uniform_widths(session.space, bench.costs, target)
        slim = session.materialise(policy)
        found[f'{target.value:.0%}'] = case.scale * bench.metric_of(slim)
    return found


def main() -> None:
    """Measure what is asked for; print the table of all that has been."""
    options = parser(__doc__)
    options.add_argument('names', nargs='*', help=f'all if unset: {", ".join(CASES)}')
    options.add_argument('--draws', type=int, default=1)
    args = options.parse_args()
    results = Results(OUT / 'reconstruction' / 'results.json', {})
    print(machine())
    rows = []
    for name in args.names or CASES:
        columns = {}
        for variant in VARIANTS:
            draws = [results.get(
                f'{name}, {variant}, draw {draw}',
                lambda: measure(name, CASES[name], variant, draw))  # noqa: B023
                for draw in range(args.draws)]
            columns[variant] = {
                what: mean(draw[what] for draw in draws) for draw in draws
                for what in draw}
            print(name, variant, columns[variant], flush=True)
        rows += [(name, what, *(f'{columns[v][what]:.1f}' for v in VARIANTS))
                 for what in columns['sliced']]
    show(f'Per cent, mean of {args.draws} draws of the calibration images',
         ('network', 'MACs', *VARIANTS), rows, left=2)


if __name__ == '__main__':
    harness.start(main)
