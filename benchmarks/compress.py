"""One command from a trained network to tested 8-bit files, over several seeds.

    python benchmarks/compress.py bccd --seeds 0 1 2
    python benchmarks/compress.py resnet56 --seeds 0 1 2

The dense network of a seed is trained by its config (or is the published checkpoint).
``mmcompress compress`` makes the family of it. The dense network is trained once more
as the compressed ones are fine-tuned; the better of the two by validation counts as
dense, or the better by the test images where the config has no validation set.
Everything is kept in work_dirs/benchmarks/compress; what is done is not done again.
Several processes may work on several seeds.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from harness import (
    OUT,
    Results,
    parser,
    quiet_config,
    show,
    spread,
    start,
)
from mmengine.config import Config
from mmengine.runner import Runner

from mmcompress.openmmlab.pipeline.judging import validation_set
from mmcompress.openmmlab.pipeline.run import compress
from mmcompress.openmmlab.schedules import shorten
from mmcompress.openmmlab.test_set import score_on_test_set


@dataclass(frozen=True, kw_only=True)
class Road:
    """A network and how it is compressed.

    Args:
        config (str): Config of the dense training.
        metric (str): What is reported.
        targets (tuple[float, ...]): Shares of the MACs.
        bounds (tuple[tuple[float, float], ...]): For each, how many points the 8-bit
            file may lose, and its bytes as a share of the dense file's.
        epochs (int): Of the fine-tune.
        trains (bool): Whether the dense network is trained first; otherwise it is
            ``load_from``.
        options (dict): More of ``compress_cfg``.
    """

    config: str
    metric: str
    targets: tuple[float, ...]
    bounds: tuple[tuple[float, float], ...]
    epochs: int
    trains: bool
    options: dict[str, Any] = field(default_factory=dict)

    @property
    def scale(self) -> float:
        """From the metric to per cent."""
        return 100.0 if 'mAP' in self.metric else 1.0


ROADS = dict(
    bccd=Road(
        config='configs/bccd/yolox-nano_bccd.py', metric='coco/bbox_mAP',
        targets=(0.7, 0.5), bounds=((0.5, 0.40), (1.0, 0.28)), epochs=20, trains=True,
        options=dict(lr=1e-3)),
    resnet56=Road(
        config='configs/reconstruction/two_stage_resnet56_cifar10.py',
        metric='accuracy/top1',
        targets=(0.5, 0.35), bounds=((1.0, 1.0), (3.0, 1.0)), epochs=2, trains=False),
)


def config_of(road: Road, folder: Path, seed: int) -> Config:
    """The config of the dense network, for one process and a seed."""
    cfg = quiet_config(road.config, folder)
    cfg.randomness = dict(seed=seed)
    return cfg


def last_of(cfg: Config) -> str:
    """Train by a config, unless it was done; the last checkpoint."""
    done = Path(cfg.work_dir) / 'last.txt'
    if not done.exists():
        cfg.default_hooks.checkpoint = dict(
            type='CheckpointHook', interval=1, max_keep_ckpts=1)
        cfg.val_cfg = cfg.val_dataloader = cfg.val_evaluator = None
        begun = Path(cfg.work_dir) / 'last_checkpoint'
        if begun.exists():
            cfg.resume, cfg.load_from = True, begun.read_text().strip()
        Runner.from_cfg(cfg).train()
        done.write_text((Path(cfg.work_dir) / 'last_checkpoint').read_text())
    return done.read_text().strip()


def validated(cfg: Config, road: Road, checkpoint: str) -> float:
    """A network on the images that the dense one is chosen by."""
    if validation_set(cfg) is not None:
        cfg.test_dataloader, cfg.test_evaluator = cfg.val_dataloader, cfg.val_evaluator
    return score_on_test_set(cfg, checkpoint)[road.metric]


def trained(road: Road, folder: Path, seed: int) -> str:
    """The checkpoint of the dense network."""
    cfg = config_of(road, folder / 'dense', seed)
    return last_of(cfg) if road.trains else cfg.load_from


def measure_dense(
    road: Road, folder: Path, seed: int, checkpoint: str, results: Results
) -> None:
    """Scores of the dense network, as it is and trained once more."""
    more = config_of(road, folder / 'more', seed)
    more.load_from = checkpoint
    shorten(more, road.epochs, road.options.get('lr'))
    for name, find in dict(
            trained=lambda: checkpoint, again=lambda: last_of(more)).items():
        results.get(f'{seed} {name}', lambda find=find: dict(
            validated=validated(
                config_of(road, folder / 'validate', seed), road, find()),
            tested=score_on_test_set(
                config_of(road, folder / 'test', seed), find())[road.metric]))


def reference(values: Mapping[str, Any], seed: int) -> float:
    """What counts as dense on the test images."""
    found = [values[f'{seed} {name}'] for name in ('trained', 'again')]
    return max(found, key=lambda scores: scores['validated'])['tested']


def compressed(road: Road, folder: Path, seed: int, checkpoint: str) -> dict:
    """The table of the one command, as data."""
    cfg = config_of(road, folder / 'compressed', seed)
    cfg.load_from = checkpoint
    begin = time.perf_counter()
    found = compress(cfg, dict(macs=list(road.targets)), int8=True,
                     epochs=road.epochs, **road.options)
    return dict(
        seconds=time.perf_counter() - begin, notes=list(found.notes),
        rows=[vars(row) | dict(costs=dict(row.costs)) for row in found.rows])


def report(road: Road, seeds: Sequence[int], results: Results) -> None:
    """Print the tables of the seeds that are done."""
    values = results.values
    done = [seed for seed in seeds if f'{seed} again' in values]
    tables = [{(row['network'], row['stage']): row for row in
               values[f'{seed} compressed']['rows']} for seed in done]
    if not tables:
        return
    lines = []
    for network, stage in tables[0]:
        own = [table[network, stage] for table in tables if (network, stage) in table]
        first = [reference(values, seed) for seed in done]
        file = [table['dense', 'file'] for table in tables]
        timed = own[0]['milliseconds'] is not None
        lines.append((
            network, stage, spread([road.scale * row['metric'] for row in own]),
            spread([road.scale * (row['metric'] - base)
                    for row, base in zip(own, first)], 2),
            spread([100 * row['size_bytes'] / base['size_bytes']
                    for row, base in zip(own, file)], 0) + ' %' if timed else '-',
            spread([row['milliseconds'] / base['milliseconds']
                    for row, base in zip(own, file)], 2) if timed else '-'))
    show(f'{road.metric} on the test images, seeds {", ".join(map(str, done))}',
         ('network', 'stage', 'metric', 'against dense', 'bytes', 'time'), lines, 2)
    for seed in done:
        for name in ('trained', 'again'):
            print(f'seed {seed}, dense {name}: ' + ', '.join(
                f'{what} {road.scale * score:.1f}'
                for what, score in values[f'{seed} {name}'].items()))
        print(*values[f'{seed} compressed']['notes'], sep='\n')
    for share, (loss, size) in zip(road.targets, road.bounds):
        print(f'Bar at {share}: the file loses at most {loss}, of {size:.0%} bytes.')


def arguments() -> argparse.Namespace:
    """The command line."""
    options = parser(__doc__)
    options.add_argument('road', choices=list(ROADS))
    options.add_argument('--seeds', nargs='+', type=int, default=[0, 1, 2])
    options.add_argument('--report', action='store_true', help='print what is done')
    return options.parse_args()


def main() -> None:
    """Measure the seeds, then print the table."""
    args = arguments()
    road, folder = ROADS[args.road], OUT / 'compress' / args.road
    results = Results(folder / 'measured.json', vars(road))
    for seed in () if args.report else args.seeds:
        own = folder / f'seed{seed}'
        checkpoint = trained(road, own, seed)
        results.get(f'{seed} compressed', lambda own=own, seed=seed, path=checkpoint:
                    compressed(road, own, seed, path))
        measure_dense(road, own, seed, checkpoint, results)
    report(road, args.seeds, results)


if __name__ == '__main__':
    start(main)
