"""Weights rounded to the nearest, and together (GPTQ), without training.

Uniform bits with every layer quantised, no search and no labels; calibrated on training
images, tested on images that nothing has seen. Kill it and run the same command again:
it continues.

    python benchmarks/rounding.py
    python benchmarks/rounding.py --draws 3 --bits W4A8
"""

from __future__ import annotations

from functools import cache
from statistics import mean

import harness
from harness import OUT, Bench, Results, machine, parser, show

CASE = harness.Case(
    config='configs/quantisation/mixed_yolox-nano_coco128.py', metric='coco/bbox_mAP',
    images=1, calibration=96, forward=8)
ROUNDINGS = ('nearest', 'gptq')
BITS = {'W4A8': (4, 8), 'W6A8': (6, 8), 'W8A8': (8, 8)}


@cache
def bench_of(rounding: str, draw: int) -> Bench:
    """The network with the images of one draw, prepared when first asked."""
    bench = Bench(CASE, OUT / 'rounding')
    bench.cfg.search_cfg.evaluator.update(dynamic_bn='paired', seed=draw)
    bench.cfg.compression.quant.update(
        bits=[4, 6, 8], keep8=(), skip=(), rounding=rounding)
    return bench


def measure(rounding: str, bits: str, draw: int) -> float:
    """mAP of the materialised network on the test images, in per cent."""
    bench = bench_of(rounding, draw)
    slim = bench.session.materialise(bench.uniform(BITS[bits]))
    return CASE.scale * bench.metric_of(slim)


def main() -> None:
    """Measure what is asked for; print the table of all draws."""
    options = parser(__doc__)
    options.add_argument('--draws', type=int, default=1)
    options.add_argument('--bits', nargs='*', choices=BITS, default=list(BITS))
    args = options.parse_args()
    results = Results(OUT / 'rounding' / 'results.json', dict(case=vars(CASE)))
    print(machine())
    rows = []
    for draw in range(args.draws):
        for rounding in ROUNDINGS:
            for bits in args.bits:
                found = results.get(
                    f'{bits}, {rounding}, draw {draw}',
                    lambda: measure(rounding, bits, draw))  # noqa: B023
                print(rounding, bits, draw, found, flush=True)
    for bits in args.bits:
        values = {r: [results.values[f'{bits}, {r}, draw {d}']
                      for d in range(args.draws)] for r in ROUNDINGS}
        rows.append((bits, *(f'{mean(v):.1f} ({", ".join(f"{x:.1f}" for x in v)})'
                             for v in values.values())))
    show(f'YOLOX-nano, mAP on val128, mean of {args.draws} draws of the calibration '
         'images', ('bits', *ROUNDINGS), rows)


if __name__ == '__main__':
    harness.start(main)
