"""Exported files: their accuracy beside the model's, and their speed.

    python benchmarks/deploy.py export      # writes the files, measures accuracy
    python benchmarks/deploy.py draws       # the same with ranges from other images
    python benchmarks/deploy.py speed       # times them in turns (2 threads)

``export`` quantises without training: ranges from training images, scores on images
that nothing has seen. Kill it and run the same command again: it continues.
"""

from __future__ import annotations

import argparse
import copy
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from common import NETWORKS, OUT, Results, machine, put_in_integers
from mmengine.config import Config
from torch import nn

from mmcompress.costs import Costs, CostTable, parse_targets
from mmcompress.deploy.backend import attach
from mmcompress.deploy.export import export_onnx
from mmcompress.deploy.materialise import materialise
from mmcompress.deploy.timing import time_files
from mmcompress.engine.export_images import calibration_images
from mmcompress.evaluation import PolicyEvaluator
from mmcompress.evaluation.images import (
    build_dataset,
    load_batches,
    pick,
    search_dataset,
)
from mmcompress.graph import trace
from mmcompress.models.compressed import quantise
from mmcompress.mutators.calibration import calibrate
from mmcompress.ops.quant_layers import quantised_layers
from mmcompress.policy import Bits, Policy, SearchSpace
from mmcompress.search.uniform import largest_uniform, uniform_rows
from mmcompress.visualization.tables import TextTable

THREADS = 2
IMAGES = 128
"""Training images for ranges."""


@dataclass(frozen=True)
class Case:
    """A network in one setting.

    Args:
        network (str): Key of ``common.NETWORKS``.
        setting (str): ``float`` or e.g. ``W8A8``.
        skip (str): Pattern of layers that stay in float.
    """

    network: str
    setting: str
    skip: str = '$^'

    @property
    def name(self) -> str:
        """Used for files and tables."""
        return f'{self.network} {self.setting}'

    @property
    def bits(self) -> Bits:
        """Of the layers that are quantised."""
        found = re.match(r'W(\d)A(\d)', self.setting)
        return Bits(*map(int, found.groups())) if found else Bits()


FIRST = r'backbone\.(stem|stage1\.0|stage2\.0\.depthwise)'
SENSITIVE = r'backbone\.(stem|stage1|stage2\.0|stage2\.1\.final|stage3\.0)'
"""The layers whose 8 bits cost most; see docs/export.md."""
CASES = (
    Case('YOLOX-nano', 'float'),
    Case('YOLOX-nano', 'W8A8, sensitive layers in float', SENSITIVE),
    Case('YOLOX-nano', 'W8A8, first layers in float', FIRST),
    Case('CifarResNet-56', 'float'),
    Case('CifarResNet-56', 'W8A8'),
    Case('CifarResNet-56', 'W4A8'),
)
SHAPES = {'ResNet-18': (3, 224, 224), 'ResNet-50': (3, 224, 224),
          'RetinaNet-R50': (3, 320, 512)}
"""Networks that are timed with random weights."""


def quantised(case: Case, shape: tuple[int, ...], cfg: Config) -> nn.Module:
    """The model of a case, calibrated on training images."""
    model = NETWORKS[case.network].build()
    if case.bits.is_float:
        return model
    graph = trace(model, shape)
    bits = {x.name: case.bits for x in graph.layers if not re.match(case.skip, x.name)}
    quantise(model, Policy(bits=bits), graph.trace_shape)
    dataset = build_dataset(search_dataset(cfg))
    [numbers] = pick(len(dataset), [IMAGES], 0)
    batches = load_batches(dataset, numbers, model.data_preprocessor, 16)
    calibrate(model, quantised_layers(model), batches)
    return model


def score(model: nn.Module, cfg: Config) -> float:
    """mAP or top-1 on the test set, in percent."""
    detector = cfg.test_evaluator.type == 'CocoMetric'
    metric = 'coco/bbox_mAP' if detector else 'accuracy/top1'
    dataset = cfg.test_dataloader.dataset
    evaluator = PolicyEvaluator(
        metric, images=len(build_dataset(dataset)), calibration_images=0,
        dataset=dataset, evaluator=cfg.test_evaluator)
    evaluator.prepare(model, cfg)
    return evaluator.measure(model)[metric] * (100 if detector else 1)


def accuracy(case: Case, out: Path) -> dict:
    """Export a case and score both the model and the file."""
    network = NETWORKS[case.network]
    cfg = network.read()
    model = quantised(case, network.shape, cfg)
    images = calibration_images(cfg, model, network.shape)
    [file] = export_onnx(
        model, out / f'{case.name}.onnx', network.shape, images=images)
    found = dict(model=score(model, cfg), difference=file.error)
    attach(model, file.path, 'onnxruntime', THREADS)
    return found | dict(file=score(model, cfg))


def draws(case: Case, out: Path, results: Results, seeds: range) -> None:
    """Score files whose points between layers come from several sets of images."""
    network = NETWORKS[case.network]
    cfg = network.read()
    keys = {seed: f'{case.name}, draw {seed}' for seed in seeds}
    if all(key in results.values for key in keys.values()):
        return
    model = quantised(case, network.shape, cfg)
    for seed, key in keys.items():
        def measure(seed: int = seed) -> dict:
            images = calibration_images(cfg, model, network.shape, seed=seed)
            [file] = export_onnx(
                model, out / f'{case.name} draw {seed}.onnx', network.shape,
                images=images)
            running = attach(copy.deepcopy(model), file.path, 'onnxruntime', THREADS)
            return dict(difference=file.error, file=score(running, cfg))
        print(key, results.get(key, measure), flush=True)


def shapes(name: str, out: Path) -> bool:
    """Export dense and slim, float and 8-bit files of a network for timing."""
    shape = SHAPES[name]
    model = NETWORKS[name].build()
    graph = trace(model, shape)
    space = SearchSpace.from_graph(graph)
    costs = Costs(CostTable.from_graph(graph), space)
    [target] = parse_targets(dict(macs=[0.5]), costs)
    slim_row = uniform_rows(space)[1][largest_uniform(space, costs, target)]
    for kind, row in (('dense', space.highest), ('slim', slim_row)):
        small = materialise(model, graph, space.decode(row[None])[0])
        export_onnx(small, out / f'{name} {kind} float.onnx', shape)
        images = put_in_integers(small, graph)
        export_onnx(small, out / f'{name} {kind} W8A8.onnx', shape, images=images)
    return True


def print_accuracy(results: Results) -> None:
    """Model and file side by side."""
    rows = [(case.name, f'{found["model"]:.2f}', f'{found["file"]:.2f}',
             f'{found["file"] - found["model"]:+.2f}', f'{found["difference"]:.1e}')
            for case in CASES if (found := results.values.get(case.name))]
    print(TextTable('Accuracy in percent', (
        'file', 'torch', 'file', 'difference', 'outputs'), tuple(rows)).text())


def print_draws(results: Results) -> None:
    """Mean and spread of the draws."""
    rows = []
    for case in CASES:
        files = [v['file'] for k, v in results.values.items()
                 if k.startswith(f'{case.name}, draw')]
        if len(files) > 1:
            rows.append((case.name, str(len(files)), f'{np.mean(files):.2f}',
                         f'{np.std(files, ddof=1):.2f}',
                         f'{min(files):.2f} - {max(files):.2f}'))
    print(TextTable('Ranges between layers from other images', (
        'file', 'draws', 'mean', 'standard deviation', 'range'), tuple(rows)).text())


def print_speed(paths: Sequence[Path]) -> None:
    """Times of files; the first is the baseline."""
    timings = time_files(paths, threads=THREADS, repeats=60)
    rows = [(x.path.stem, f'{x.path.stat().st_size / 1e6:.2f}', f'{x.median:.2f}',
             '{:.2f} - {:.2f}'.format(*x.quartiles),
             f'{x.median / timings[0].median:.2f} x') for x in timings]
    print(TextTable(f'ONNX Runtime, {THREADS} threads, batch 1', (
        'file', 'MB', 'median ms', 'quartiles', 'ratio'), tuple(rows)).text())


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('what', choices=['export', 'draws', 'shapes', 'speed'])
    parser.add_argument('names', nargs='*', help='networks; all if unset')
    parser.add_argument('--draws', type=int, default=4)
    args = parser.parse_args()
    out = OUT / 'deploy'
    results = Results(out / 'results.json', dict(images=IMAGES))
    print(machine())
    if args.what == 'export':
        for case in CASES:
            if not args.names or case.network in args.names:
                results.get(case.name, lambda case=case: accuracy(case, out))
        print_accuracy(results)
    elif args.what == 'draws':
        draws(CASES[1], out, results, range(args.draws))
        print_draws(results)
    elif args.what == 'shapes':
        for name in args.names or SHAPES:
            results.get(name, lambda name=name: shapes(name, out))
    else:
        for name in args.names or ['YOLOX-nano', *SHAPES]:
            found = sorted(out.glob(f'{name} *.onnx'),
                           key=lambda p: ('float.onnx' not in p.name, p.name))
            print_speed(found)


if __name__ == '__main__':
    main()
