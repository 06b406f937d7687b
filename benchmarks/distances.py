"""How well distances from the float network rank mixed bits of YOLOX-nano.

Random policies are calibrated on the training images and scored on those that nothing
has seen and on the training images; the distances see training images only, and no
label. Kill it and run the same command again: it continues.

    python benchmarks/distances.py --policies 32
"""

from __future__ import annotations

import argparse
import re
from pathlib import Path

import numpy as np
import torch
from common import OUT, Results, machine, quiet_config
from mmengine.config import Config
from scipy.stats import spearmanr

from mmcompress.evaluation import dynamic_bn
from mmcompress.evaluation.distance import REFERENCES
from mmcompress.graph import trace
from mmcompress.mutators import JointMutator
from mmcompress.openmmlab.cli import load_weights, search_runner
from mmcompress.openmmlab.evaluators import DatasetEvaluator as PolicyEvaluator
from mmcompress.policy import Bits, Policy
from mmcompress.registry import MUTATORS
from mmcompress.report.tables import TextTable

CONFIG = 'configs/quantisation/mixed_yolox-nano_coco128.py'
METRIC = 'coco/bbox_mAP'
IMAGES = 128
WEIGHTS, ACTIVATIONS = (4, 5, 6, 8), (5, 6, 7, 8)


class Bench:
    """YOLOX-nano in float with everything that measures a policy.

    Args:
        cfg (Config): Of the search over bits.
        subsets (list[int]): Training images that distances are measured on.
    """

    def __init__(self, cfg: Config, subsets: list[int]) -> None:
        runner = search_runner(cfg)
        load_weights(runner.model, cfg.load_from)
        self.model = runner.model.eval()
        batch = cfg.search_cfg.evaluator.batch_size
        self.train, self.val = (
            PolicyEvaluator(METRIC, IMAGES, 0, 'off', batch_size=batch, **images)
            for images in ({}, dict(
                dataset=cfg.test_dataloader.dataset.to_dict(),
                evaluator=cfg.test_evaluator.to_dict())))
        for evaluator in (self.train, self.val):
            evaluator.prepare(self.model, cfg)
        self.train.calibration = self.train.scoring
        self.references = {
            (name, n): kind(self.model, self.train.scoring[:n // batch])
            for name, kind in REFERENCES.items() for n in subsets}
        self.mutator = JointMutator(MUTATORS.build(dict(
            cfg.compression.quant, bits=sorted({*WEIGHTS, *ACTIVATIONS}))))
        self.mutator.prepare(self.model, trace(self.model, (3, 416, 416)), self.train)

    def draw(self, seed: int) -> Policy:
        """Random bits of every layer that is not kept at 8.

        Each policy draws how often it takes each width: equally often, all policies
        would be of one quality, and mAPs would differ by noise.
        """
        rng = np.random.default_rng(seed)
        shares = [rng.dirichlet([0.5] * len(x)) for x in (WEIGHTS, ACTIVATIONS)]
        free = self.mutator.space_options['weight_bits']
        return Policy({}, {
            name: Bits(8, 8) if choices == (8,) else Bits(
                int(rng.choice(WEIGHTS, p=shares[0])),
                int(rng.choice(ACTIVATIONS, p=shares[1])))
            for name, choices in free.items()})

    @torch.no_grad()
    def measure(self, policy: Policy) -> dict[str, float]:
        """Both mAPs in points, and the distances."""
        model = self.model
        with self.mutator.acting(policy), dynamic_bn(
                model, 'recalibrate', self.train.scoring):
            found = {
                f'{name} {n}': reference.distance(model)
                for (name, n), reference in self.references.items()}
            for name in ('train', 'val'):
                found[name] = getattr(self, name).measure(model)[METRIC] * 100
        return found


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
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('--out', type=Path, default=OUT / 'distances')
    parser.add_argument('--policies', type=int, default=32)
    parser.add_argument(
        '--subsets', type=int, nargs='+', default=[128, 48],
        help='training images that distances are measured on')
    args = parser.parse_args()
    cfg = quiet_config(CONFIG, args.out)
    bench = Bench(cfg, args.subsets)
    results = Results(args.out / 'results.json', dict(
        subsets=args.subsets, weights=WEIGHTS, activations=ACTIVATIONS,
        quant=cfg.compression.quant.to_dict()))
    rows = []
    for seed in range(args.policies):
        rows.append(results.get(
            f'policy {seed}', lambda s=seed: bench.measure(bench.draw(s))))
        print(seed, {k: round(v, 4) for k, v in rows[-1].items()}, flush=True)
    table = TextTable(machine(), (
        'distance (mAP: of train and val)', 'images', 'all', 'better half'), [
        (*re.split(' ', name), f'{every:.2f}', f'{half:.2f}')
        for name, (every, half) in sorted(correlations(rows).items())])
    print(table.markdown())


if __name__ == '__main__':
    main()
