"""SWP on a detector: YOLOX-nano on blood cells (BCCD), dense and as a supernet.

Every number is kept in work_dirs/benchmarks/swp/; kill it and run the same command
again: it continues. The defaults fit one CPU core; on a GPU: --epochs 100.

    python benchmarks/swp_detector.py
"""

from __future__ import annotations

import argparse
from pathlib import Path

from common import OUT, ROOT, Results, machine
from mmengine.config import Config
from mmengine.registry import init_default_scope
from mmengine.runner import Runner

from mmcompress.openmmlab.checkpoints import loading
from mmcompress.openmmlab.cli import load_weights, search_runner
from mmcompress.openmmlab.loops.search import PolicySearchLoop
from mmcompress.openmmlab.policy_config import compress_config
from mmcompress.policy.files import PolicyFile
from mmcompress.report.tables import TextTable

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
        cfg = Config.fromfile(ROOT / f'configs/swp/{file}.py')
        init_default_scope(cfg.default_scope)
        for part in ('train', 'val', 'test'):
            loader = cfg[f'{part}_dataloader']
            loader.update(num_workers=0, persistent_workers=False)
            for step in loader.dataset.pipeline:
                if step.type == 'Resize':
                    step.scale = tuple(self.args.size)
        cfg.compression.input_shape = (3, *self.args.size[::-1])
        cfg.train_cfg.update(max_epochs=self.args.epochs, val_begin=10**6)
        cfg.default_hooks.checkpoint = dict(
            type='CheckpointHook', interval=self.args.epochs, save_optimizer=False)
        cfg.search_cfg.evaluator.update(
            images=self.args.images, calibration_images=self.args.images)
        cfg.randomness = dict(seed=self.args.seed)
        cfg.log_level, cfg.launcher = 'WARNING', 'none'
        cfg.work_dir = str(self.folder / name.replace(' ', '_'))
        cfg.experiment_name = cfg.work_dir.replace('/', '_')
        return cfg

    def train(self, cfg: Config, name: str) -> float:
        """mAP on the test images after training."""
        def measure() -> float:
            runner = Runner.from_cfg(cfg)
            runner.train()
            return runner.test()['coco/bbox_mAP'] * 100
        return self.results.get(f'trained {name}', measure)

    def search(self, name: str, source: str, searcher: dict, importance: str) -> Path:
        """The policy file of half the MACs."""
        cfg = self.config(name)
        cfg.compression.channel.importance = importance
        checkpoint = self.folder / source / f'epoch_{self.args.epochs}.pth'
        cfg.load_from = str(checkpoint)
        cfg.search_cfg.searcher = searcher
        runner = search_runner(cfg)
        load_weights(runner.model, cfg.load_from)
        options = {k: v for k, v in cfg.search_cfg.items() if k != 'type'}
        loop = PolicySearchLoop(runner, **options)
        loop.run()
        return loop.work_dir / 'policies' / f'{loop.targets[0].name}.json'


def measure(args: argparse.Namespace) -> None:
    """Dense and supernet training, search at half the MACs, training of the result."""
    bench = Detector(args)
    coco = str(ROOT / '../shared/data/yolox_nano/yolox_nano_coco_mmdet.pth')
    for name, file in (('dense', 'swp_yolox-nano_bccd'),
                       ('supernet', 'swp_yolox-nano_bccd_supernet')):
        cfg = bench.config(name, file)
        cfg.load_from = coco
        bench.train(cfg, name)
    one, many = dict(type='Uniform', evaluations=1), args.evaluations
    islands = dict(type='Islands', evaluations=many, islands=2, top=4, every=2,
                   population=4)
    rows = [(name, '1', f'{bench.results.values[f"trained {name}"]:.1f}')
            for name in ('dense', 'supernet')]
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
    table = TextTable('', ('network', 'MACs', 'mAP on the test images'), tuple(rows))
    print(f'\n{machine()}\n\n{table.markdown()}')


def main() -> None:
    """Measure at the sizes asked for."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--size', type=int, nargs=2, default=[256, 192],
                        help='width and height of the images')
    parser.add_argument('--epochs', type=int, default=2)
    parser.add_argument('--images', type=int, default=40, help='to score on')
    parser.add_argument('--evaluations', type=int, default=12)
    parser.add_argument('--seed', type=int, default=0)
    measure(parser.parse_args())


if __name__ == '__main__':
    with loading():  # runners load checkpoints, too
        main()
