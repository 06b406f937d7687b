"""Weights rounded to the nearest, and together (GPTQ), without training.

Uniform bits with every layer quantised, no search and no labels; calibrated on training
images, tested on images that nothing has seen. Kill it and run the same command again:
it continues.

    python benchmarks/rounding.py
    python benchmarks/rounding.py --draws 3 --bits W4A8
"""

from __future__ import annotations

from functools import cache, cached_property
from statistics import mean

import harness
from harness import OUT, machine, parser, show

from mmcompress.openmmlab.evaluators import DatasetEvaluator
from mmcompress.session import Session

CASE = harness.Case(
    config='configs/quantisation/mixed_yolox-nano_coco128.py', metric='coco/bbox_mAP',
    calibration=96, forward=8)
ROUNDINGS = ('nearest', 'gptq')
BITS = {'W4A8': (4, 8), 'W6A8': (6, 8), 'W8A8': (8, 8)}
QUANT = dict(bits=[4, 6, 8], keep8=(), skip=(), observer='output')


class Bench(harness.Bench):
    """YOLOX-nano with one rounding and one draw of the calibration images."""

    def __init__(self, rounding: str, draw: int) -> None:
        super().__init__(CASE, OUT / 'rounding', quant=QUANT)
        self.rounding, self.draw = rounding, draw

    @cached_property
    def session(self) -> Session:
        """Calibrated on all images, as nothing is searched."""
        return harness.session_on_all(self.cfg, DatasetEvaluator(
            CASE.metric, images=1, calibration_images=CASE.calibration - 1,
            batch_size=CASE.forward, dynamic_bn='paired', seed=self.draw),
            dict(quant=dict(QUANT, rounding=self.rounding)))

    def measured(self, bits: str) -> float:
        """mAP of the materialised network on the test images, in per cent."""
        def measure() -> float:
            slim = self.session.materialise(self.uniform(BITS[bits]))
            return CASE.scale * self.metric_of(slim)
        return self.results.get(f'{bits}, {self.rounding}, draw {self.draw}', measure)


def main() -> None:
    """Measure what is asked for; print the table of all draws."""
    options = parser(__doc__)
    options.add_argument('--draws', type=int, default=1)
    options.add_argument('--bits', nargs='*', choices=BITS, default=list(BITS))
    args = options.parse_args()
    print(machine())
    bench, values = cache(Bench), {}
    for draw in range(args.draws):
        for rounding in ROUNDINGS:
            for bits in args.bits:
                found = bench(rounding, draw).measured(bits)
                values.setdefault((bits, rounding), []).append(found)
                print(f'{bits}, {rounding}, draw {draw}: {found:.2f}', flush=True)
        bench.cache_clear()
    show(f'YOLOX-nano, mAP on val128, mean of {args.draws} draws of the calibration '
         'images', ('bits', *ROUNDINGS), [
             (bits, *(f'{mean(found):.1f} ({", ".join(f"{x:.1f}" for x in found)})'
                      for r in ROUNDINGS for found in [values[bits, r]]))
             for bits in args.bits])


if __name__ == '__main__':
    harness.start(main)
