"""Quantisation on real networks: uniform, mixed and joint with pruning.

Everything is calibrated and searched on training images and tested on images that
nothing has seen, by the model that is rebuilt from its policy file. Kill it and run
the same command again: it continues.

    python benchmarks/quantisation.py speed
    python benchmarks/quantisation.py ptq yolox_nano     # or resnet20, resnet56
    python benchmarks/quantisation.py qat resnet20
    python benchmarks/quantisation.py mixed yolox_nano   # or resnet20
    python benchmarks/quantisation.py joint resnet20
    python benchmarks/quantisation.py tables             # what has been measured

The defaults fit two CPU cores.
"""

from __future__ import annotations

import argparse
import re
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import product
from pathlib import Path

import torch
from common import OUT, ROOT, Results, machine, quiet_config
from mmengine.config import Config
from mmengine.runner import Runner, save_checkpoint

from mmcompress.arithmetic.quantizers import ActivationQuantizer
from mmcompress.arithmetic.ranges import OBSERVERS
from mmcompress.costs import Costs, CostTable
from mmcompress.evaluation.distance import REFERENCES
from mmcompress.evaluation.dynamic_bn import pair
from mmcompress.graph import trace
from mmcompress.mutators import JointMutator
from mmcompress.openmmlab.checkpoints import loading
from mmcompress.openmmlab.cli import load_weights, search_runner
from mmcompress.openmmlab.evaluators import DatasetEvaluator as PolicyEvaluator
from mmcompress.openmmlab.metrics import full_precision
from mmcompress.openmmlab.policy_config import compress_config
from mmcompress.policy import Bits, Policy, SearchSpace
from mmcompress.policy.files import PolicyFile
from mmcompress.registry import LOOPS, MUTATORS
from mmcompress.report.tables import TextTable


@dataclass(frozen=True)
class Case:
    """A network and the sizes that suit two CPU cores.

    Args:
        config (str): Config of the search over bits.
        shape (tuple): ``(C, H, W)``.
        metric (str): What the test returns, ``scale`` times the unit of the tables.
        calibration (int): Training images for ranges and batch norms.
        uniform (tuple): Uniform settings, weight and activation bits; mixed ones are
            searched at the BOPs of all but the first.
        augment (bool): Whether searches recalibrate and price under the pipeline of
            training; see docs/two_stage.md.
        quant (Mapping): Options of the mutator that replace those of the config.
        rival (str): The case whose uniform bits mixed ones are compared with; this one
            if empty.
    """

    config: str
    shape: tuple[int, int, int]
    metric: str
    scale: float
    calibration: int
    uniform: tuple[tuple[int, int], ...]
    augment: bool = False
    quant: Mapping = field(default_factory=dict)
    rival: str = ''


YOLOX = ('configs/quantisation/mixed_yolox-nano_coco128.py', (3, 416, 416),
         'coco/bbox_mAP', 100.0, 128, ((8, 8), (6, 8), (5, 8), (4, 8)))
FREE = dict(skip=[], weight_bits=[4, 5, 6, 8], activation_bits=[4, 5, 6, 8, 32])
RESNET = ((3, 32, 32), 'accuracy/top1', 1.0, 1000, ((8, 8), (4, 8), (4, 4)), True)
CASES = {
    'yolox_nano': Case(*YOLOX),
    # No layer is in float beforehand, and any may have its activations so.
    'yolox_nano_free': Case(*YOLOX, quant=FREE),
    'yolox_nano_free_skips': Case(*YOLOX, quant=FREE, rival='yolox_nano'),
    'resnet20': Case('configs/quantisation/mixed_resnet20_cifar10.py', *RESNET),
    'resnet56': Case('configs/quantisation/mixed_resnet56_cifar10.py', *RESNET),
}


PRICES = dict(
    gradient=dict(type='GradientPrices', batch_size=8),
    loss=dict(type='MeasuredPrices', dynamic_bn='batch'),
    distance=dict(type='MeasuredPrices', dynamic_bn='batch', measure='distance'),
    detections=dict(type='MeasuredPrices', dynamic_bn='batch', measure='detections'))
"""Sources of prices."""

BN = ('off', 'recalibrate', 'paired')
"""Statistics of batch norms."""


class Bench:
    """A dense network with its graph, costs and calibration images.

    Args:
        name (str): Key of :data:`CASES`.
        out (Path): Folder of all results.
    """

    def __init__(self, name: str, out: Path) -> None:
        self.name, self.case, self.out = name, CASES[name], out / name
        cfg = Config.fromfile(ROOT / self.case.config)
        self.quant = cfg.compression.quant.to_dict() | dict(self.case.quant)
        self.bn = cfg.search_cfg.evaluator.dynamic_bn
        self.results = Results(self.out / 'results.json', dict(
            case=str(self.case), quant=self.quant, dynamic_bn=self.bn))

    @lru_cache(maxsize=4)  # noqa: B019  (one instance per process)
    def prepared(self, observer: str, draw: int | None = None):
        """Model, graph and mutator with one observer's ranges.

        Args:
            observer (str): How ranges are found.
            draw (int | None): Seed that draws three quarters of the images for them
                and for batch norms; all of them if None.
        """
        cfg = quiet_config(self.case.config, self.out / f'dense_{observer}')
        runner = search_runner(cfg)
        load_weights(runner.model, cfg.load_from)
        images = self.case.calibration
        images = images if draw is None else images * 3 // 4
        evaluator = PolicyEvaluator(
            self.case.metric, images=1, calibration_images=images - 1, batch_size=16,
            seed=draw or 0)
        graph = trace(runner.model.eval(), self.case.shape)
        evaluator.prepare(runner.model, cfg)
        # The image set aside for scoring is calibrated on as well: none is scored.
        evaluator.calibration = [*evaluator.scoring, *evaluator.calibration]
        pair(runner.model, evaluator.calibration)
        quant = dict(self.quant, observer=observer)
        mutator = JointMutator(MUTATORS.build(quant))
        mutator.prepare(runner.model, graph, evaluator)
        return graph, mutator, evaluator

    def uniform(self, bits: tuple[int, int]) -> Policy:
        """Every layer at the same bits, but for what the config keeps at 8 or skips."""
        _, mutator, _ = self.prepared('mse')
        choices = mutator.space_options['weight_bits']
        return Policy({}, {
            n: Bits(8, 8) if c == (8,) else Bits(*bits) for n, c in choices.items()})

    def bops(self, policy: Policy) -> float:
        """BOPs as a share of those of the float network."""
        graph, mutator, _ = self.prepared('mse')
        space = SearchSpace.from_graph(graph, **mutator.space_options)
        costs = Costs(CostTable.from_graph(graph), space)
        return costs.of(policy)['bops'] / costs.dense()['bops']

    def write(
        self, key: str, policy: Policy, observer: str, bn: str,
        draw: int | None = None,
    ) -> Path:
        """Policy file with the quantised checkpoint beside it."""
        graph, mutator, evaluator = self.prepared(observer, draw)
        path = self.out / 'policies' / f'{key}.json'
        PolicyFile(policy, graph.fingerprint, graph.input_shape).save(path)
        model = mutator.materialise(policy).eval()
        evaluator.mode = bn
        evaluator.recalibrate(model)
        save_checkpoint(
            dict(state_dict=model.state_dict()), str(path.with_suffix('.pth')))
        return path

    def config(self, file: Path | None, tag: str) -> Config:
        """Config of the network of a policy file, or of the dense one."""
        cfg = quiet_config(self.case.config, self.out / tag)
        if file:
            compress_config(cfg, str(file))
        return cfg

    def test(self, file: Path | None, tag: str, checkpoint: str | None = None) -> float:
        """Metric on the test images, of the model rebuilt from the policy file."""
        cfg = self.config(file, tag)
        runner = Runner.from_cfg(cfg)
        load_weights(runner.model, checkpoint or cfg.load_from)
        return self.measured(runner)

    def train(
        self, file: Path | None, tag: str, epochs: int = 2, seed: int = 0
    ) -> float:
        """Metric on the test images after training, as tools/train.py does it."""
        cfg = self.config(file, f'{tag}_train')
        cfg.randomness = dict(seed=seed)
        cfg.train_cfg.update(max_epochs=epochs, val_interval=epochs + 1)
        runner = Runner.from_cfg(cfg)
        runner.train()
        return self.measured(runner)

    def measured(self, runner: Runner) -> float:
        """Metric of a runner's model on the test images, not rounded."""
        with full_precision(runner.test_loop.evaluator):
            return runner.test()[self.case.metric] * self.case.scale

    def score(self, key: str, policy: Callable[[], Policy], observer: str = 'mse',
              bn: str | None = None, epochs: int = 0,
              draw: int | None = None) -> float:
        """Measured once: a policy without training, or after some epochs.

        Args:
            key (str): Names the number; with ``epochs`` it gets them as a suffix.
            policy (Callable): Gives the policy, if it is not measured yet.
            observer (str): How ranges are found.
            bn (str | None): Statistics of batch norms, one of :data:`BN`; as the
                config says if None.
            epochs (int): Of training.
            draw (int | None): See :meth:`prepared`.
        """
        if draw is not None:
            key = f'{key}, draw {draw}'
        if epochs:
            key = f'{key}, {epochs} epochs'
        bn = bn or self.bn

        def measure() -> float:
            name = re.sub(r'\W+', '_', key)
            path = self.write(name, policy(), observer, bn, draw)
            return self.train(path, name, epochs) if epochs else self.test(path, name)
        return self.results.get(key, measure)


def label(bits: tuple[int, int]) -> str:
    """``'W4A8'`` of ``(4, 8)``."""
    return f'W{bits[0]}A{bits[1]}'


def bits_of(label: str) -> tuple[int, int]:
    """``(4, 8)`` of ``'W4A8'``."""
    return int(label[1]), int(label[3])


# -- parts -----------------------------------------------------------------------
def ptq(bench: Bench, args: argparse.Namespace) -> None:
    """Uniform bits without training: observers, statistics of batch norms."""
    print('dense', bench.results.get('dense', lambda: bench.test(None, 'dense')))
    for bits in bench.case.uniform:
        name, policy = label(bits), lambda b=bits: bench.uniform(b)
        bench.results.get(f'bops {name}', lambda p=policy: bench.bops(p()))
        for observer in args.observers:
            for bn in BN:
                key = f'ptq {name} {observer} {bn}'
                print(key, bench.score(key, policy, observer, bn), flush=True)


def qat(bench: Bench, args: argparse.Namespace) -> None:
    """Uniform bits after a short training with learned steps."""
    key = f'dense, {args.epochs} epochs'
    print(key, bench.results.get(
        key, lambda: bench.train(None, 'dense', args.epochs)))
    for bits in bench.case.uniform:
        key = f'qat {label(bits)}'
        print(key, bench.score(
            key, lambda b=bits: bench.uniform(b), epochs=args.epochs), flush=True)


def search_tag(kind: str, args: argparse.Namespace) -> str:
    """Name of a search that contains everything that decides what it finds."""
    return (f'{kind} {args.searcher} {args.evaluations} evaluations of {args.score} on '
            f'{args.images}+{args.calibration_images} images, {args.prices} prices on '
            f'{args.price_images}, seed {args.seed}' + (
                f', A{args.activations}' if args.activations else ''))


def search(
    bench: Bench, tag: str, targets: list[float], args: argparse.Namespace,
    compression: Mapping,
) -> dict[float, Path]:
    """Policy files of a search over training images, by target."""
    folder = bench.out / re.sub(r'\W+', '_', tag)
    cfg = quiet_config(bench.case.config, folder)
    cfg.compression = dict(compression, input_shape=bench.case.shape)
    options = cfg.search_cfg
    options.targets, options.seed = dict(bops=targets), args.seed
    options.searcher = dict(type=args.searcher, evaluations=args.evaluations)
    options.evaluator.update(
        images=args.images, calibration_images=args.calibration_images, seed=args.seed)
    if args.score != 'metric':
        options.evaluator.metric = args.score
    if 'channel' in compression:
        options.evaluator.dynamic_bn = 'paired'
    if bench.case.augment:
        options.evaluator.augment = True
    options.prices = dict(
        PRICES[args.prices], images=args.price_images, augment=bench.case.augment)
    runner = search_runner(cfg)
    load_weights(runner.model, cfg.load_from)
    LOOPS.build(dict(options, runner=runner, _scope_='mmcompress')).run()
    return {target: folder / 'policies' / f'bops_{target:g}.json'
            for target in targets}


def mixed(bench: Bench, args: argparse.Namespace) -> None:
    """Bits searched per layer at the BOPs of uniform settings.

    The policies found are calibrated on the images that uniform settings are.
    """
    tag = search_tag('mixed', args)
    quant = dict(bench.quant)
    if args.activations:
        quant['activation_bits'] = [args.activations]
    rival = Bench(bench.case.rival, bench.out.parent) if bench.case.rival else bench
    targets = {
        bits: round(rival.results.get(
            f'bops {label(bits)}', lambda b=bits: rival.bops(rival.uniform(b)))
            + 5e-7, 6) for bits in bench.case.uniform[1:]}

    @lru_cache
    def found() -> dict[float, Path]:
        return search(
            bench, tag, list(targets.values()), args, dict(quant=quant))

    for (bits, target), bn in product(
            targets.items(), BN if args.all_bn else (bench.bn,)):
        name = label(bits)
        for own, key, policy in (
                (rival, f'ptq {name} mse {bn}', lambda b=bits: rival.uniform(b)),
                (bench, f'{tag} {name} {bn}',
                 lambda t=target: PolicyFile.load(found()[t]).policy)):
            print_scores(own, key, policy, bn, args)


def print_scores(
    bench: Bench, key: str, policy: Callable[[], Policy], bn: str,
    args: argparse.Namespace,
) -> None:
    """Score a policy of :func:`mixed` with all images, with draws, and trained."""
    print(key, bench.score(key, policy, bn=bn), flush=True)
    for draw in range(args.draws):
        print(key, draw, bench.score(
            key, policy, bn=bn, draw=draw), flush=True)
    if args.epochs and bn == bench.bn and not bench.name.startswith('yolox'):
        if key.startswith('ptq'):
            key = f'qat {key.split()[1]}'
        print(key, bench.score(key, policy, epochs=args.epochs), flush=True)


def joint(bench: Bench, args: argparse.Namespace) -> None:
    """Widths and bits together, against each alone, at equal BOPs and training."""
    channel = dict(type='ChannelMutator', importance='l2', divisor=2, min_ratio=0.25)
    eight = dict(channel=channel, quant=dict(bench.quant, bits=[8]))
    ways = {
        'prune at W8A8': eight,
        'quantise': dict(quant=bench.quant),
        'joint': dict(channel=channel, quant=bench.quant)}
    cost = bench.results.get(
        f'bops {args.at}', lambda: bench.bops(bench.uniform(bits_of(args.at))))
    target = round(cost + 5e-7, 6)
    for name, compression in ways.items():
        tag = f'{search_tag(name, args)} {args.at}'

        @lru_cache
        def file(tag=tag, compression=compression) -> Path:
            return search(bench, tag, [target], args, compression)[target]

        for epochs in (0, args.epochs):
            key = f'{tag}, {epochs} epochs' if epochs else tag
            work = re.sub(r'\W+', '_', key)
            print(key, bench.results.get(key, lambda e=epochs, w=work: (
                bench.train(file(), w, e, args.seed) if e else bench.test(file(), w))),
                flush=True)


def speed(out: Path) -> None:
    """Ours against aten's kernels, in one run."""
    x = torch.randn(8, 32, 104, 104)
    quantizer = ActivationQuantizer()
    quantizer.switch(8)
    quantizer.assign(0.037, 7.0)
    scale, zero = torch.tensor([0.037]), torch.tensor([7.0])

    def ours_trained() -> None:
        leaf = x.clone().requires_grad_()
        quantizer(leaf).sum().backward()

    def aten_trained() -> None:
        leaf = x.clone().requires_grad_()
        s, z = (t.clone().requires_grad_() for t in (scale, zero))
        torch._fake_quantize_learnable_per_tensor_affine(
            leaf, s, z, 0, 255, 1e-3).sum().backward()

    with torch.no_grad():
        forward = {
            'ours': clock(lambda: quantizer(x)),
            'aten': clock(lambda: torch.fake_quantize_per_tensor_affine(
                x, scale, zero.int(), 0, 255))}
    trained = {'ours': clock(ours_trained), 'aten': clock(aten_trained)}
    results = Results(out / 'speed.json', dict(machine=machine()))
    results.get('forward', lambda: forward['aten'] / forward['ours'])
    results.get('forward and backward', lambda: trained['aten'] / trained['ours'])
    print(results.values)


def clock(call: Callable[[], object], repeats: int = 15) -> float:
    """Median seconds of a call."""
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        call()
        times.append(time.perf_counter() - start)
    return sorted(times)[repeats // 2]


def tables(out: Path) -> None:
    """Print what has been measured so far as Markdown."""
    for name in CASES:
        values = Bench(name, out).results.values
        if values:
            table = TextTable(
                name, ('setting', 'value'),
                [(key, f'{value:.4f}' if 'bops' in key else f'{value:.2f}')
                 for key, value in sorted(values.items())])
            print(table.markdown(), end='\n\n')


PARTS = dict(ptq=ptq, qat=qat, mixed=mixed, joint=joint)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('part', choices=[*PARTS, 'speed', 'tables'])
    parser.add_argument('network', nargs='?', choices=CASES, default='yolox_nano')
    parser.add_argument('--out', type=Path, default=OUT / 'quantisation')
    parser.add_argument('--searcher', default='Evolution')
    parser.add_argument('--evaluations', type=int, default=60)
    parser.add_argument('--images', type=int, default=64)
    parser.add_argument('--calibration-images', type=int, default=32)
    parser.add_argument('--price-images', type=int, default=32)
    parser.add_argument('--prices', choices=PRICES, default='gradient')
    parser.add_argument(
        '--score', choices=['metric', 'loss', *REFERENCES], default='metric',
        help='what searches score policies by')
    parser.add_argument('--epochs', type=int, default=2)
    parser.add_argument('--seed', type=int, default=0, help='of search and training')
    parser.add_argument(
        '--activations', type=int, help='mixed: the only bits of activations')
    parser.add_argument(
        '--draws', type=int, default=0,
        help='mixed: also score with this many draws of the calibration images')
    parser.add_argument(
        '--all-bn', action='store_true',
        help='mixed: score with stored, recalibrated and paired batch norms')
    parser.add_argument(
        '--at', default='W4A8', help='uniform bits whose BOPs joint searches at')
    parser.add_argument('--observers', nargs='+', choices=OBSERVERS, default=['mse'])
    args = parser.parse_args()
    if args.part in ('speed', 'tables'):
        dict(speed=speed, tables=tables)[args.part](args.out)
    else:
        PARTS[args.part](Bench(args.network, args.out), args)


if __name__ == '__main__':
    with loading():  # runners load checkpoints, too
        main()
