"""Exported files: their accuracy beside the model's, and their speed.

    python benchmarks/deploy.py export      # writes the files, measures accuracy
    python benchmarks/deploy.py draws       # the same with ranges from other images
    python benchmarks/deploy.py noise       # the same under noise of 1e-6 on the images
    python benchmarks/deploy.py speed       # times them in turns

``export`` quantises without training: ranges from training images, scores on images
that nothing has seen. Kill it and run the same command again: it continues.
"""

from __future__ import annotations

import copy
import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import harness
import numpy as np
import torch
from harness import NETWORKS, OUT, Results, machine, parser, put_in_integers, show
from mmengine.config import Config
from torch import nn

from mmcompress.costs import Costs, CostTable, parse_targets
from mmcompress.data.images import pick
from mmcompress.exporter.export import ExportOptions, export_onnx
from mmcompress.exporter.runtimes import OnnxRuntime
from mmcompress.exporter.timing import time_files
from mmcompress.exporter.twin.fitting import fit_quantisers
from mmcompress.exporter.twin.twin import twin_of
from mmcompress.graph import trace
from mmcompress.kinds import kind_of
from mmcompress.layers.quantised import quantised_layers
from mmcompress.mutators.rebuild import quantise
from mmcompress.openmmlab.backend import attach
from mmcompress.openmmlab.evaluators import DatasetEvaluator
from mmcompress.openmmlab.export_images import calibration_images
from mmcompress.openmmlab.images import build_dataset, load_batches, search_dataset
from mmcompress.policy import Bits, Policy, SearchSpace
from mmcompress.quant.calibration import calibrate
from mmcompress.surgery.materialise import materialise

CORES = 2
"""Threads of one stream, or streams of one thread."""
IMAGES = 128
"""Training images for ranges."""
RANGED = 32
"""Of them, those that ranges between layers are measured on."""
FITTED = 96
"""Training images that scales, zero points and biases are fitted to."""
NOISE = 1e-6
"""Noise on images, relative: some last bits of a number in float32."""
COMPARED = ('twin', 'exact', 'file')
"""What is compared with the model: its twin, and the file as ONNX defines it and as the
CPU runs it."""


@dataclass(frozen=True)
class Setting:
    """A network in float or with some layers in 8 bits.

    Args:
        network (str): Key of ``harness.NETWORKS``.
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


SENSITIVE = r'backbone\.(stem|stage1|stage2\.0|stage2\.1\.final|stage3\.0)'
"""The layers whose 8 bits cost most; see docs/measurements/export.md."""
EARLY = r'backbone\.(stem|stage1|stage2|stage3\.0)'
CASES = tuple(Setting(*x) for x in (
    ('YOLOX-nano', 'float'),
    ('YOLOX-nano', 'W8A8, sensitive layers in float', SENSITIVE),
    ('YOLOX-nano', 'W8A8, early layers in float', EARLY),
    ('YOLOX-nano', 'W8A8, early layers and head in float', EARLY + '|bbox_head'),
    ('YOLOX-nano', 'W8A8, three stages in float',
     r'backbone\.(stem|stage1|stage2|stage3)'),
    ('YOLOX-nano', 'W7A8, sensitive layers in float', SENSITIVE),
    ('YOLOX-nano', 'W8A8, first layers in float',
     r'backbone\.(stem|stage1\.0|stage2\.0\.depthwise)'),
    *((name, bits) for name in ('CifarResNet-20', 'CifarResNet-56')
      for bits in ('float', 'W8A8', 'W7A8', 'W4A8'))))
SHAPES = {'ResNet-18': (3, 224, 224), 'ResNet-50': (3, 224, 224),
          'RetinaNet-R50': (3, 320, 512)}
"""Networks that are timed with random weights."""


def quantised(case: Setting, shape: tuple[int, ...], cfg: Config) -> nn.Module:
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


def score(model: nn.Module, cfg: Config, noise: int | None = None) -> float:
    """mAP or top-1 on the test set, in percent.

    Args:
        model (nn.Module): The model, or one that a file computes for.
        cfg (Config): Its config.
        noise (int | None): Seed of normal noise of :data:`NOISE` that every value of
            the images is multiplied by. Defaults to None: none.
    """
    detector = cfg.test_evaluator.type == 'CocoMetric'
    metric = 'coco/bbox_mAP' if detector else 'accuracy/top1'
    dataset = cfg.test_dataloader.dataset
    evaluator = DatasetEvaluator(
        metric, images=len(build_dataset(dataset)), calibration_images=0,
        dataset=dataset, evaluator=cfg.test_evaluator)
    evaluator.prepare(model, cfg)
    if noise is not None:
        generator = torch.Generator().manual_seed(noise)
        for batch in evaluator.scoring:
            batch.inputs.mul_(1 + NOISE * torch.randn(
                batch.inputs.shape, generator=generator))
    return evaluator.measure(model)[metric] * (100 if detector else 1)


def running(model: nn.Module, path: Path, integers: bool = True) -> nn.Module:
    """A copy of a model for which a file computes.

    Args:
        model (nn.Module): Of one stage.
        path (Path): The file.
        integers (bool): See :class:`OnnxRuntime`. Defaults to True.
    """
    model = attach(copy.deepcopy(model), path, 'onnxruntime', CORES)
    if not integers:
        head = kind_of(model).head(model)
        head.forward.runtime = OnnxRuntime(path, CORES, integers=False)
    return model


def scores(
    model: nn.Module, twin: nn.Module, path: Path, cfg: Config, noise: int | None = None
) -> dict:
    """Scores of a model's twin and of its file, as defined and as this CPU does it."""
    return dict(
        twin=score(twin, cfg, noise),
        exact=score(running(model, path, integers=False), cfg, noise),
        file=score(running(model, path), cfg, noise))


def exported(model: nn.Module, path: Path, shape: tuple[int, ...],
             images: Sequence[np.ndarray], layout: bool = True):
    """The only file of a model."""
    return export_onnx(
        model, path, ExportOptions(shape, images=images, layout=layout))[0]


def accuracy(case: Setting, out: Path) -> dict:
    """Export a case and score the model, its twin and the file."""
    network = NETWORKS[case.network]
    cfg = network.read()
    model = quantised(case, network.shape, cfg)
    images = calibration_images(cfg, model, network.shape)
    file = exported(model, out / f'{case.name}.onnx', network.shape, images)
    twin = twin_of(model, [file.layout])
    return dict(model=score(model, cfg), difference=file.error,
                **scores(model, twin, file.path, cfg))


def draws(
    case: Setting, out: Path, results: Results, seeds: range, times: int,
    steps: int = 0, count: int = RANGED,
) -> None:
    """Score files whose points between layers come from several sets of images.

    Args:
        case (Setting): What is exported.
        out (Path): Folder of files.
        results (Results): Scores.
        seeds (range): Of the sets.
        times (int): How often each file is scored under noise as well.
        steps (int): Of fitting scales, zero points and biases to the float network's
            outputs, on :data:`FITTED` images. Defaults to 0.
        count (int): Images of a set, where nothing is fitted. Defaults to
            :data:`RANGED`.
    """
    network = NETWORKS[case.network]
    cfg = network.read()
    model = quantised(case, network.shape, cfg)
    kind = draw_kind(steps, count)
    count = FITTED if steps else count
    for seed in seeds:
        key = f'{case.name}, {kind} {seed}'
        path = out / f'{case.name} {kind} {seed}.onnx'

        def measure(seed: int = seed, path: Path = path) -> dict:
            images = calibration_images(cfg, model, network.shape, count, seed=seed)
            file = exported(model, path, network.shape, images)
            twin, extra = twin_of(model, [file.layout]), {}
            if steps:
                extra = asdict(fit_quantisers(
                    twin, model, network.shape, images, steps, seed))
                file = exported(twin, path, network.shape, images, layout=False)
            return dict(
                difference=file.error, **extra, **scores(model, twin, path, cfg))
        print(key, results.get(key, measure), flush=True)
        for i in range(times):
            found = results.get(f'{key}, noise {i}', lambda i=i, path=path: dict(
                exact=score(running(model, path, integers=False), cfg, i),
                file=score(running(model, path), cfg, i)))
            print(key, i, found, flush=True)


def draw_kind(steps: int, count: int) -> str:
    """What results of :func:`draws` are called."""
    if steps:
        return f'fitted draw {steps}'
    return 'draw' if count == RANGED else f'{count}-image draw'


def noise(case: Setting, out: Path, results: Results, seeds: range) -> None:
    """Score a model, its twin and its file under noise far below a step."""
    network = NETWORKS[case.network]
    cfg = network.read()
    keys = {seed: f'{case.name}, noise {seed}' for seed in seeds}
    if all(key in results.values for key in keys.values()):
        return
    model = quantised(case, network.shape, cfg)
    images = calibration_images(cfg, model, network.shape)
    file = exported(model, out / f'{case.name} noise.onnx', network.shape, images)
    twin = twin_of(model, [file.layout])
    for seed, key in keys.items():
        print(key, results.get(key, lambda seed=seed: dict(
            model=score(model, cfg, seed),
            **scores(model, twin, file.path, cfg, seed))), flush=True)


def shapes(name: str, out: Path) -> bool:
    """Export dense and slim, float and 8-bit files of a network for timing."""
    shape = SHAPES[name]
    model = NETWORKS[name].build()
    graph = trace(model, shape)
    space = SearchSpace.from_graph(graph)
    costs = Costs(CostTable.from_graph(graph), space)
    [target] = parse_targets(dict(macs=[0.5]), costs)
    slim = harness.uniform_widths(space, costs, target)
    for kind, policy in (('dense', Policy()), ('slim', slim)):
        small = materialise(model, graph, policy)
        export_onnx(small, out / f'{name} {kind} float.onnx', ExportOptions(shape))
        images = put_in_integers(small, graph)
        export_onnx(small, out / f'{name} {kind} W8A8.onnx',
                    ExportOptions(shape, images=images))
    return True


def print_accuracy(results: Results) -> None:
    """Model and file side by side."""
    rows = [(case.name, *(f'{found[k]:.2f}' for k in ('model', *COMPARED)),
             f'{found["difference"]:.1e}')
            for case in CASES if (found := results.values.get(case.name))]
    show('Accuracy in per cent', ('file', 'model', 'twin', 'file as defined',
                                  'file on this CPU', 'outputs'), rows)


def print_spread(results: Results, what: str) -> None:
    """Mean and spread of several scores of the same kind."""
    rows = []
    for case in CASES:
        found = [v for k, v in results.values.items()
                 if k.startswith(f'{case.name}, {what}')]
        columns = {kind: [x[kind] for x in found if kind in x]
                   for kind in ('model', *COMPARED)}
        columns['twin - exact'] = [
            x['twin'] - x['exact'] for x in found if 'twin' in x]
        rows += [
            (case.name, kind, str(len(values)), f'{np.mean(values):.2f}',
             f'{np.std(values, ddof=1):.2f}', f'{min(values):.2f} - {max(values):.2f}')
            for kind, values in columns.items() if len(values) > 1]
    show(f'Accuracy in per cent by {what}', (
        'file', 'of', 'times', 'mean', 'standard deviation', 'range'), rows)


def print_speed(paths: Sequence[Path], streams: int) -> None:
    """Times of files; the first is the baseline."""
    threads = CORES // streams
    timings = time_files(paths, threads=threads, repeats=90, streams=streams)
    rows = [(x.path.stem, f'{x.path.stat().st_size / 1e6:.2f}', f'{x.median:.2f}',
             '{:.2f} - {:.2f}'.format(*x.quartiles), f'{x.per_second:.1f}',
             f'{x.median / timings[0].median:.2f} x') for x in timings]
    show(f'ONNX Runtime, {streams} streams of {threads} threads, batch 1', (
        'file', 'MB', 'median ms', 'quartiles', 'images/s', 'ratio'), rows)


def main() -> None:
    """Do what is asked for; print what is known of it."""
    options = parser(__doc__)
    options.add_argument(
        'what', choices=['export', 'draws', 'noise', 'shapes', 'speed'])
    options.add_argument('names', nargs='*', help='networks; all if unset')
    for name, default, what in (
            ('draws', 4, 'sets of images'), ('first', 0, 'first of these sets'),
            ('images', RANGED, 'of draws: for ranges between layers'),
            ('noise', 8, 'times that noise is drawn'),
            ('fit', 0, 'of draws: steps of fitting scales, zero points and biases')):
        options.add_argument(f'--{name}', type=int, default=default, help=what)
    options.add_argument(
        '--case', default=CASES[1].name, choices=[case.name for case in CASES],
        help='of draws and noise')
    args = options.parse_args()
    out = OUT / 'deploy'
    results = Results(out / 'results.json', dict(images=IMAGES))
    print(machine())
    if args.what == 'export':
        for case in CASES:
            if not args.names or case.network in args.names:
                results.get(case.name, lambda case=case: accuracy(case, out))
        print_accuracy(results)
    elif args.what in ('draws', 'noise'):
        [case] = [case for case in CASES if case.name == args.case]
        if args.what == 'draws':
            seeds = range(args.first, args.draws)
            draws(case, out, results, seeds, args.noise, args.fit, args.images)
        else:
            noise(case, out, results, range(args.noise))
        print_spread(results, draw_kind(args.fit, args.images)
                     if args.what == 'draws' else 'noise')
    elif args.what == 'shapes':
        for name in args.names or SHAPES:
            results.get(name, lambda name=name: shapes(name, out))
    else:
        for name in args.names or ['YOLOX-nano', *SHAPES]:
            found = sorted(out.glob(f'{name} *.onnx'),
                           key=lambda p: ('float.onnx' not in p.name, p.name))
            for streams in (1, CORES):
                print_speed(found, streams)


if __name__ == '__main__':
    harness.start(main)
