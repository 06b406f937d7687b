"""SWP on a detector: YOLOX-nano on blood cells (BCCD), dense and as a supernet.

Every number is kept in work_dirs/benchmarks/swp/; kill it and run the same command
again: it continues. The defaults fit one CPU core; on a GPU: --epochs 100.

    python benchmarks/swp_detector.py
"""

from __future__ import annotations

import argparse
from pathlib import Path

import harness
from harness import (
    OUT,
    ROOT,
    Results,
    machine,
    parser,
    quiet_config,
    save_last,
    show,
    train_and_test,
)
from mmengine.config import Config

from mmcompress.api.run import SearchRun
from mmcompress.openmmlab.policy_config import compress_config
from mmcompress.openmmlab.sessions import session_of_file
from mmcompress.policy.files import PolicyFile

FOLDER = OUT / 'swp'


class Detector:
    """YOLOX-nano on blood cells, from COCO's weights, at a small input."""

    def __init__(self, args: argparse.Namespace) -> None:
        self.args = args
        width, height = args.size
        self.folder = FOLDER / f'bccd_{width}x{height}x{args.epochs}_seed{args.seed}'
        self.results = Results(self.folder / 'measured.json', vars(args))

    def config(self, name: str, file: str = 'swp_yolox-nano_bccd') -> Config:
        """One of the configs at the size and length of this benchmark."""
        cfg = quiet_config(
            f'configs/swp/{file}.py', self.folder / name.replace(' ', '_'))
        for part in ('train', 'val', 'test'):
            for step in cfg[f'{part}_dataloader'].dataset.pipeline:
                if step.type == 'Resize':
                    step.scale = tuple(self.args.size)
        cfg.compression.input_shape = (3, *self.args.size[::-1])
        cfg.search_cfg.evaluator.update(
            images=self.args.images, calibration_images=self.args.images)
        save_last(cfg, self.args.epochs, self.args.seed)
        return cfg

    def train(self, cfg: Config, name: str) -> float:
        """mAP on the test images after training."""
        return self.results.get(f'trained {name}', lambda: 100 * train_and_test(
            cfg, 'coco/bbox_mAP'))

    def search(self, name: str, source: str, searcher: dict, importance: str) -> Path:
        """The policy file of half the MACs."""
        cfg = self.config(name)
        cfg.compression.channel.importance = importance
        cfg.load_from = str(self.folder / source / f'epoch_{self.args.epochs}.pth')
        run = SearchRun(session_of_file(cfg), dict(seed=self.args.seed, **searcher),
                        cfg.search_cfg.targets, Path(cfg.work_dir))
        run.run()
        return run.work_dir / 'policies' / f'{run.targets[0].name}.json'


def measure(args: argparse.Namespace) -> None:
    """Dense and supernet training, search at half the MACs, training of the result."""
    bench, rows = Detector(args), []
    for name, file in (('dense', 'swp_yolox-nano_bccd'),
                       ('supernet', 'swp_yolox-nano_bccd_supernet')):
        cfg = bench.config(name, file)
        cfg.load_from = str(ROOT.parent / 'shared/data/yolox_nano'
                            / 'yolox_nano_coco_mmdet.pth')
        rows.append((name, '1', f'{bench.train(cfg, name):.1f}'))
    one, many = dict(type='Uniform', evaluations=1), args.evaluations
    islands = dict(type='Islands', evaluations=many, islands=2, top=4, every=2,
                   population=4)
    for name, source, searcher, order in (
        ('SWP', 'supernet', islands, 'index'),
        ('uniform, supernet', 'supernet', one, 'index'),
        ('pruned dense, Evolution', 'dense', dict(type='Evolution', evaluations=many),
         'taylor'),
        ('uniform, dense', 'dense', one, 'taylor'),
    ):
        file = bench.search(f'search {name}', source, searcher, order)
        cfg = bench.config(f'tuned {name}')
        compress_config(cfg, str(file))
        mean = bench.train(cfg, name)
        facts = PolicyFile.load(file).facts['costs']
        rows.append((name, f'{facts["macs"] / 1e6:.1f} M', f'{mean:.1f}'))
        print(*rows[-1], flush=True)
    show(machine(), ('network', 'MACs', 'mAP on the test images'), rows)


def main() -> None:
    """Measure at the sizes asked for."""
    options = parser(__doc__)
    options.add_argument('--size', type=int, nargs=2, default=[256, 192],
                         help='width and height of the images')
    options.add_argument('--epochs', type=int, default=2)
    options.add_argument('--images', type=int, default=40, help='to score on')
    options.add_argument('--evaluations', type=int, default=12)
    options.add_argument('--seed', type=int, default=0)
    measure(options.parse_args())


if __name__ == '__main__':
    harness.start(main)
