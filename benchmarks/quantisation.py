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
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import lru_cache
from itertools import product
from pathlib import Path

import harness
import torch
from harness import OUT, Results, clock, machine, parser, quiet_config, rebuilt, show

from mmcompress.api.results import write_policy, write_weights
from mmcompress.api.run import SearchRun
from mmcompress.arithmetic.quantizers import ActivationQuantizer
from mmcompress.arithmetic.ranges import OBSERVERS
from mmcompress.costs import Costs, CostTable
from mmcompress.evaluation.distance import REFERENCES
from mmcompress.openmmlab.evaluators import DatasetEvaluator
from mmcompress.openmmlab.sessions import session_of_file
from mmcompress.policy import Policy
from mmcompress.policy.files import PolicyFile
from mmcompress.session import Session


@dataclass(frozen=True, kw_only=True)
class Case(harness.Case):
    """A network whose bits are searched; ``calibration`` is for the tests.

    Args:
        uniform (tuple): Uniform settings, weight and activation bits; mixed ones are
            searched at the BOPs of all but the first.
        augment (bool): Whether searches recalibrate and price under the pipeline of
            training; see docs/measurements/two_stage.md.
        quant (Mapping): Options of the mutator that replace those of the config.
        rival (str): The case whose uniform bits mixed ones are compared with; this one
            if empty.
    """

    calibration: int = 1000
    uniform: tuple[tuple[int, int], ...] = ((8, 8), (4, 8), (4, 4))
    augment: bool = True
    quant: Mapping = field(default_factory=dict)
    rival: str = ''


YOLOX = Case(config='configs/quantisation/mixed_yolox-nano_coco128.py',
             metric='coco/bbox_mAP', calibration=128, augment=False,
             uniform=((8, 8), (6, 8), (5, 8), (4, 8)))
FREE = dict(skip=[], weight_bits=[4, 5, 6, 8], activation_bits=[4, 5, 6, 8, 32])
CASES = {
    'yolox_nano': YOLOX,
    # No layer is in float beforehand, and any may have its activations so.
    'yolox_nano_free': replace(YOLOX, quant=FREE),
    'yolox_nano_free_skips': replace(YOLOX, quant=FREE, rival='yolox_nano'),
    'resnet20': Case(config='configs/quantisation/mixed_resnet20_cifar10.py'),
    'resnet56': Case(config='configs/quantisation/mixed_resnet56_cifar10.py'),
}
PRICES = dict(
    gradient=dict(type='GradientPrices', batch_size=8),
    loss=dict(type='MeasuredPrices', dynamic_bn='batch'),
    distance=dict(type='MeasuredPrices', dynamic_bn='batch', measure='distance'),
    detections=dict(type='MeasuredPrices', dynamic_bn='batch', measure='detections'))
"""Sources of prices."""

BN = ('off', 'recalibrate', 'paired')
"""Statistics of batch norms."""


class Bench(harness.Bench):
    """A dense network that policy files are written for, trained and tested.

    Args:
        name (str): Key of :data:`CASES`.
        out (Path): Folder of all results.
    """

    def __init__(self, name: str, out: Path) -> None:
        super().__init__(CASES[name], out / name)
        self.name, self.bn = name, self.cfg.search_cfg.evaluator.dynamic_bn
        self.quant = self.cfg.compression.quant.to_dict() | dict(self.case.quant)

    @lru_cache(maxsize=4)  # noqa: B019  (one instance per process)
    def prepared(self, observer: str, draw: int | None = None) -> Session:
        """The network with one observer's ranges.

        Args:
            observer (str): How ranges are found.
            draw (int | None): Seed that draws three quarters of the images for them
                and for batch norms; all of them if None.
        """
        images = self.case.calibration
        images = images if draw is None else images * 3 // 4
        return harness.session_on_all(self.cfg, DatasetEvaluator(
            self.case.metric, images=1, calibration_images=images - 1, batch_size=16,
            seed=draw or 0), dict(quant=dict(self.quant, observer=observer)))

    @property
    def session(self) -> Session:
        """That of the observer that searches use."""
        return self.prepared('mse')

    def bops(self, bits: tuple[int, int]) -> float:
        """BOPs of uniform bits as a share of those of the float network."""
        def measure() -> float:
            costs = Costs(CostTable.from_graph(self.session.graph), self.session.space)
            return costs.of(self.uniform(bits))['bops'] / costs.dense()['bops']
        return self.results.get(f'bops {label(bits)}', measure)

    def write(self, key: str, policy: Policy, observer: str, bn: str,
              draw: int | None = None) -> Path:
        """Policy file with the quantised checkpoint beside it."""
        session = self.prepared(observer, draw)
        path = self.folder / 'policies' / f'{key}.json'
        write_policy(path, policy, session, {})
        session.evaluator.mode = bn
        write_weights(path.with_suffix('.pth'), session.materialise(policy))
        return path

    def rebuilt(self, file: Path | None, tag: str, epochs: int = 0, seed: int = 0
                ) -> float:
        """Per cent on the test images, rebuilt from a policy file or dense."""
        cfg = quiet_config(self.case.config, self.folder / tag)
        if epochs:
            cfg.randomness = dict(seed=seed)
        return self.case.scale * rebuilt(cfg, self.case.metric, file, epochs=epochs)

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

        def measure() -> float:
            name = re.sub(r'\W+', '_', key)
            path = self.write(name, policy(), observer, bn or self.bn, draw)
            return self.rebuilt(path, name, epochs)
        value = self.results.get(key, measure)
        print(key, value, flush=True)
        return value


def label(bits: tuple[int, int]) -> str:
    """``'W4A8'`` of ``(4, 8)``."""
    return f'W{bits[0]}A{bits[1]}'


# -- parts -----------------------------------------------------------------------
def ptq(bench: Bench, args: argparse.Namespace) -> None:
    """Uniform bits without training: observers, statistics of batch norms."""
    print('dense', bench.results.get('dense', lambda: bench.rebuilt(None, 'dense')))
    for bits in bench.case.uniform:
        name, policy = label(bits), lambda b=bits: bench.uniform(b)
        bench.bops(bits)
        for observer, bn in product(args.observers, BN):
            bench.score(f'ptq {name} {observer} {bn}', policy, observer, bn)


def qat(bench: Bench, args: argparse.Namespace) -> None:
    """Uniform bits after a short training with learned steps."""
    key = f'dense, {args.epochs} epochs'
    print(key, bench.results.get(
        key, lambda: bench.rebuilt(None, 'dense', args.epochs)))
    for bits in bench.case.uniform:
        bench.score(f'qat {label(bits)}', lambda b=bits: bench.uniform(b),
                    epochs=args.epochs)


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
    folder = bench.folder / re.sub(r'\W+', '_', tag)
    cfg = quiet_config(bench.case.config, folder)
    shape = cfg.compression.get('input_shape')
    cfg.compression = dict(compression, **(dict(input_shape=shape) if shape else {}))
    evaluator = cfg.search_cfg.evaluator
    evaluator.update(
        images=args.images, calibration_images=args.calibration_images, seed=args.seed)
    if args.score != 'metric':
        evaluator.metric = args.score
    if 'channel' in compression:
        evaluator.dynamic_bn = 'paired'
    if bench.case.augment:
        evaluator.augment = True
    SearchRun(session_of_file(cfg), dict(
        type=args.searcher, evaluations=args.evaluations, seed=args.seed),
        dict(bops=targets), folder, prices=dict(
            PRICES[args.prices], images=args.price_images, augment=bench.case.augment),
        ).run()
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
    rival = Bench(bench.case.rival, bench.folder.parent) if bench.case.rival else bench
    targets = {bits: round(rival.bops(bits) + 5e-7, 6)
               for bits in bench.case.uniform[1:]}

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
            more_scores(own, key, policy, bn, args)


def more_scores(
    bench: Bench, key: str, policy: Callable[[], Policy], bn: str,
    args: argparse.Namespace,
) -> None:
    """Score a policy of :func:`mixed` with all images, with draws, and trained."""
    for draw in (None, *range(args.draws)):
        bench.score(key, policy, bn=bn, draw=draw)
    if args.epochs and bn == bench.bn and not bench.name.startswith('yolox'):
        if key.startswith('ptq'):
            key = f'qat {key.split()[1]}'
        bench.score(key, policy, epochs=args.epochs)


def joint(bench: Bench, args: argparse.Namespace) -> None:
    """Widths and bits together, against each alone, at equal BOPs and training."""
    channel = dict(type='ChannelMutator', importance='l2', divisor=2, min_ratio=0.25)
    eight = dict(channel=channel, quant=dict(bench.quant, bits=[8]))
    ways = {
        'prune at W8A8': eight,
        'quantise': dict(quant=bench.quant),
        'joint': dict(channel=channel, quant=bench.quant)}
    target = round(bench.bops((int(args.at[1]), int(args.at[3]))) + 5e-7, 6)
    for name, compression in ways.items():
        tag = f'{search_tag(name, args)} {args.at}'

        @lru_cache
        def file(tag=tag, compression=compression) -> Path:
            return search(bench, tag, [target], args, compression)[target]

        for epochs in (0, args.epochs):
            key = f'{tag}, {epochs} epochs' if epochs else tag
            work = re.sub(r'\W+', '_', key)
            print(key, bench.results.get(key, lambda e=epochs, w=work: (
                bench.rebuilt(file(), w, e, args.seed))), flush=True)


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
            'ours': clock(lambda: quantizer(x), 15),
            'aten': clock(lambda: torch.fake_quantize_per_tensor_affine(
                x, scale, zero.int(), 0, 255), 15)}
    trained = {'ours': clock(ours_trained, 15), 'aten': clock(aten_trained, 15)}
    results = Results(out / 'speed.json', dict(machine=machine()))
    results.get('forward', lambda: forward['aten'] / forward['ours'])
    results.get('forward and backward', lambda: trained['aten'] / trained['ours'])
    print(results.values)


def tables(out: Path) -> None:
    """Print what has been measured so far."""
    for name in CASES:
        values = Bench(name, out).results.values
        if values:
            show(name, ('setting', 'value'), [
                (key, f'{value:.4f}' if 'bops' in key else f'{value:.2f}')
                for key, value in sorted(values.items())])


PARTS = dict(ptq=ptq, qat=qat, mixed=mixed, joint=joint)


def main() -> None:
    """Run one part."""
    options = parser(__doc__)
    options.add_argument('part', choices=[*PARTS, 'speed', 'tables'])
    options.add_argument('network', nargs='?', choices=CASES, default='yolox_nano')
    options.add_argument('--out', type=Path, default=OUT / 'quantisation')
    options.add_argument('--searcher', default='Evolution')
    for name, default, what in (
            ('evaluations', 60, 'of a search'), ('images', 64, 'it scores on'),
            ('calibration-images', 32, 'it calibrates on'),
            ('price-images', 32, 'it prices with'), ('epochs', 2, 'of training'),
            ('seed', 0, 'of search and training'),
            ('activations', None, 'mixed: the only bits of activations'),
            ('draws', 0, 'mixed: also score with so many draws of the calibration '
             'images')):
        options.add_argument(f'--{name}', type=int, default=default, help=what)
    options.add_argument('--prices', choices=PRICES, default='gradient')
    options.add_argument(
        '--score', choices=['metric', 'loss', *REFERENCES], default='metric',
        help='what searches score policies by')
    options.add_argument(
        '--all-bn', action='store_true',
        help='mixed: score with stored, recalibrated and paired batch norms')
    options.add_argument(
        '--at', default='W4A8', help='uniform bits whose BOPs joint searches at')
    options.add_argument('--observers', nargs='+', choices=OBSERVERS, default=['mse'])
    args = options.parse_args()
    if args.part in ('speed', 'tables'):
        dict(speed=speed, tables=tables)[args.part](args.out)
    else:
        PARTS[args.part](Bench(args.network, args.out), args)


if __name__ == '__main__':
    harness.start(main)
