"""How well distances from the float network rank mixed bits of YOLOX-nano.

Random policies are calibrated on the training images and scored on those that nothing
has seen and on the training images; the distances see training images only, and no
label. Kill it and run the same command again: it continues.

    python benchmarks/distances.py --policies 32
"""

from __future__ import annotations

import re
from pathlib import Path

import harness
import numpy as np
from harness import OUT, Case, machine, parser, show
from scipy.stats import spearmanr

from mmcompress.evaluation.distance import REFERENCES
from mmcompress.openmmlab.evaluators import DatasetEvaluator
from mmcompress.policy import Bits, Policy

IMAGES = 128
CASE = Case(config='configs/quantisation/mixed_yolox-nano_coco128.py',
            metric='coco/bbox_mAP', images=IMAGES, calibration=0, test=IMAGES)
WEIGHTS, ACTIVATIONS = (4, 5, 6, 8), (5, 6, 7, 8)


class Bench(harness.Bench):
    """YOLOX-nano in float with everything that measures a policy.

    Args:
        folder (Path): Results.
        subsets (list[int]): Training images that distances are measured on.
    """

    def __init__(self, folder: Path, subsets: list[int]) -> None:
        super().__init__(CASE, folder, subsets=subsets, bits=(WEIGHTS, ACTIVATIONS))
        batch = self.cfg.search_cfg.evaluator.batch_size
        self.session = harness.session_on_all(
            self.cfg, DatasetEvaluator(CASE.metric, IMAGES, 0, 'off', batch_size=batch),
            dict(quant=dict(self.cfg.compression.quant,
                            bits=sorted({*WEIGHTS, *ACTIVATIONS}))))
        scoring = self.session.evaluator.scoring
        self.references = {
            (name, n): kind(self.session.model, scoring[:n // batch])
            for name, kind in REFERENCES.items() for n in subsets}

    def draw(self, seed: int) -> Policy:
        """Random bits of every layer that is not kept at 8.

        Each policy draws how often it takes each width: equally often, all policies
        would be of one quality, and mAPs would differ by noise.
        """
        rng = np.random.default_rng(seed)
        shares = [rng.dirichlet([0.5] * len(x)) for x in (WEIGHTS, ACTIVATIONS)]
        free = self.session.mutator.space_options['weight_bits']
        return Policy({}, {
            name: Bits(8, 8) if choices == (8,) else Bits(
                int(rng.choice(WEIGHTS, p=shares[0])),
                int(rng.choice(ACTIVATIONS, p=shares[1])))
            for name, choices in free.items()})

    def measure(self, policy: Policy) -> dict[str, float]:
        """Both mAPs in points, and the distances."""
        with self.acting(policy, 'recalibrate') as model:
            found = {f'{name} {n}': reference.distance(model)
                     for (name, n), reference in self.references.items()}
            return dict(
                found, train=100 * self.metric_of(model, self.session.evaluator),
                val=100 * self.metric_of(model))


def correlations(rows: list[dict[str, float]]) -> dict[str, tuple[float, float]]:
    """Rank correlation of each distance with mAP: of all, and of the better half.

    mAP is the mean of both sets of images, whose noise is that of 128 images each. How
    far they agree says how much of the mAPs is noise.
    """
    score = np.array([(row['train'] + row['val']) / 2 for row in rows])
    better = score >= np.median(score)
    found = {}
    parts = np.full(len(rows), True), better
    columns = {name: np.array([row[name] for row in rows]) for name in rows[0]}
    for name in columns.keys() - {'train', 'val'}:
        found[name] = tuple(float(spearmanr(-columns[name][part], score[part])[0])
                            for part in parts)
    found[f'mAP {IMAGES}'] = tuple(
        float(spearmanr(columns['train'][part], columns['val'][part])[0])
        for part in parts)
    return found


def main() -> None:
    """Measure the policies; print the correlations."""
    options = parser(__doc__)
    options.add_argument('--out', type=Path, default=OUT / 'distances')
    options.add_argument('--policies', type=int, default=32)
    options.add_argument(
        '--subsets', type=int, nargs='+', default=[128, 48],
        help='training images that distances are measured on')
    args = options.parse_args()
    bench, rows = Bench(args.out, args.subsets), []
    for seed in range(args.policies):
        rows.append(bench.results.get(
            f'policy {seed}', lambda s=seed: bench.measure(bench.draw(s))))
        print(seed, {k: round(v, 4) for k, v in rows[-1].items()}, flush=True)
    show(machine(), (
        'distance (mAP: of train and val)', 'images', 'all', 'better half'), [
        (*re.split(' ', name), f'{every:.2f}', f'{half:.2f}')
        for name, (every, half) in sorted(correlations(rows).items())])


if __name__ == '__main__':
    harness.start(main)
