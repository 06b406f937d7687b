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
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import torch
from common import OUT, ROOT, Results, machine, quiet_config
from mmengine.config import Config
from mmengine.runner import Runner, save_checkpoint

from mmcompress.costs import Costs, CostTable
from mmcompress.engine.cli import load_weights, search_runner
from mmcompress.engine.policy_config import compress_config
from mmcompress.evaluation import PolicyEvaluator
from mmcompress.evaluation.precision import full_precision
from mmcompress.graph import trace
from mmcompress.mutators import JointMutator
from mmcompress.ops import ActivationQuantizer
from mmcompress.ops.ranges import OBSERVERS
from mmcompress.policy import Bits, Policy, SearchSpace
from mmcompress.policy.files import PolicyFile
from mmcompress.registry import LOOPS, MUTATORS
from mmcompress.visualization.tables import TextTable


@dataclass(frozen=True)
class Case:
    """A network and the sizes that suit two CPU cores.

    Args:
        config (str): Config of the search over bits.
        shape (tuple): ``(C, H, W)``.
        metric (str): What the test returns, ``scale`` times the unit of the tables.
        calibration (int): Training images for ranges and batch norms.
        uniform (tuple): Uniform settings, weight and activation bits.
    """

    config: str
    shape: tuple[int, int, int]
    metric: str
    scale: float
    calibration: int
    uniform: tuple[tuple[int, int], ...]


RESNET = ((3, 32, 32), 'accuracy/top1', 1.0, 1000, ((8, 8), (4, 8), (4, 4)))
CASES = {
    'yolox_nano': Case(
        'configs/quantisation/mixed_yolox-nano_coco128.py', (3, 416, 416),
        'coco/bbox_mAP', 100.0, 128, ((8, 8), (6, 8), (5, 8), (4, 8))),
    'resnet20': Case('configs/quantisation/mixed_resnet20_cifar10.py', *RESNET),
    'resnet56': Case('configs/quantisation/mixed_resnet56_cifar10.py', *RESNET),
}
MIXED = {'yolox_nano': ((6, 8), (5, 8), (4, 8)), 'resnet20': ((4, 8), (4, 4))}


class Bench:
    """A dense network with its graph, costs and calibration images.

    Args:
        name (str): Key of :data:`CASES`.
        out (Path): Folder of all results.
    """

    def __init__(self, name: str, out: Path) -> None:
        self.name, self.case, self.out = name, CASES[name], out / name
        self.results = Results(self.out / 'results.json', dict(case=str(self.case)))

    @lru_cache(maxsize=4)  # noqa: B019  (one instance per process)
    def prepared(self, observer: str):
        """Model, graph and mutator with one observer's ranges."""
        cfg = quiet_config(self.case.config, self.out / f'dense_{observer}')
        runner = search_runner(cfg)
        load_weights(runner.model, cfg.load_from)
        evaluator = PolicyEvaluator(
            self.case.metric, images=1, calibration_images=self.case.calibration - 1,
            batch_size=16)
        graph = trace(runner.model.eval(), self.case.shape)
        evaluator.prepare(runner.model, cfg)
        # The image set aside for scoring is calibrated on as well: none is scored.
        evaluator.calibration = [*evaluator.scoring, *evaluator.calibration]
        quant = dict(cfg.compression.quant, observer=observer)
        mutator = JointMutator(quant=MUTATORS.build(quant))
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
        self, key: str, policy: Policy, observer: str, recalibrate: bool
    ) -> Path:
        """Policy file with the quantised checkpoint beside it."""
        graph, mutator, evaluator = self.prepared(observer)
        path = self.out / 'policies' / f'{key}.json'
        PolicyFile(policy, graph.fingerprint, graph.input_shape).save(path)
        model = mutator.materialise(policy).eval()
        if recalibrate:
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

    def train(self, file: Path | None, tag: str, epochs: int = 2) -> float:
        """Metric on the test images after training, as tools/train.py does it."""
        cfg = self.config(file, f'{tag}_train')
        cfg.train_cfg.update(max_epochs=epochs, val_interval=epochs + 1)
        runner = Runner.from_cfg(cfg)
        runner.train()
        return self.measured(runner)

    def measured(self, runner: Runner) -> float:
        """Metric of a runner's model on the test images, not rounded."""
        with full_precision(runner.test_loop.evaluator):
            return runner.test()[self.case.metric] * self.case.scale

    def score(self, key: str, policy: Policy, observer: str = 'mse',
              recalibrate: bool = True, epochs: int = 0) -> float:
        """Measured once: a policy without training, or after some epochs."""
        def measure() -> float:
            name = key.replace(' ', '_')
            path = self.write(name, policy, observer, recalibrate)
            return self.train(path, name, epochs) if epochs else self.test(path, name)
        return self.results.get(key, measure)


def label(bits: tuple[int, int]) -> str:
    return f'W{bits[0]}A{bits[1]}'


# -- parts -----------------------------------------------------------------------
def ptq(bench: Bench, args: argparse.Namespace) -> None:
    """Uniform bits without training: observers, with and without dynamic BN."""
    bench.results.get('dense', lambda: bench.test(None, 'dense'))
    for bits in bench.case.uniform:
        policy = bench.uniform(bits)
        bench.results.get(f'{label(bits)} bops', lambda p=policy: bench.bops(p))
        for observer in args.observers:
            for recalibrated in (True, False):
                key = f'ptq {label(bits)} {observer} {"bn" if recalibrated else "-"}'
                print(key, bench.score(key, policy, observer, recalibrated), flush=True)


def qat(bench: Bench, args: argparse.Namespace) -> None:
    """Uniform bits after a short training with learned steps."""
    print('dense', bench.results.get(
        'dense tuned', lambda: bench.train(None, 'dense', args.epochs)))
    for bits in bench.case.uniform:
        key = f'qat {label(bits)}'
        print(key, bench.score(key, bench.uniform(bits), epochs=args.epochs),
              flush=True)


def search(
    bench: Bench, tag: str, targets: list[float], args: argparse.Namespace,
    compression: Mapping,
) -> dict[float, Path]:
    """Policy files of a search over training images, by target."""
    cfg = quiet_config(bench.case.config, bench.out / tag)
    cfg.compression = dict(compression, input_shape=bench.case.shape)
    options = cfg.search_cfg
    options.targets = dict(bops=targets)
    options.searcher = dict(type=args.searcher, evaluations=args.evaluations)
    options.evaluator.update(
        images=args.images, calibration_images=args.calibration_images)
    if 'channel' in compression:
        options.evaluator.dynamic_bn = 'recalibrate'
    if args.searcher == 'TwoStage':
        options.prices = dict(type='GradientPrices', images=args.price_images)
    runner = search_runner(cfg)
    load_weights(runner.model, cfg.load_from)
    LOOPS.build(dict(options, runner=runner, _scope_='mmcompress')).run()
    return {target: bench.out / tag / 'policies' / f'bops_{target:g}.json'
            for target in targets}


def mixed(bench: Bench, args: argparse.Namespace) -> None:
    """Bits searched per layer at the BOPs of uniform settings."""
    uniform = {bits: bench.uniform(bits) for bits in MIXED[bench.name]}
    targets = {bits: round(bench.bops(p) + 5e-7, 6) for bits, p in uniform.items()}
    cfg = Config.fromfile(ROOT / bench.case.config)
    quant = dict(cfg.compression.quant)
    fresh = cfg.search_cfg.evaluator.dynamic_bn == 'recalibrate'
    tag = f'mixed_{args.searcher}'
    found = None
    for bits, policy in uniform.items():
        name = label(bits)
        bench.score(f'ptq {name} mse {"bn" if fresh else "-"}', policy,
                    recalibrate=fresh)
        for epochs in {0, args.epochs if bench.name != 'yolox_nano' else 0}:
            kind = f'qat {tag}' if epochs else f'ptq {tag}'

            def measure(bits=bits, epochs=epochs, kind=kind) -> float:
                nonlocal found
                found = found or search(
                    bench, tag, list(targets.values()), args, dict(quant=quant))
                run = bench.train if epochs else bench.test
                return run(found[targets[bits]], f'{kind}_{label(bits)}'.replace(
                    ' ', '_'))
            print(kind, name, bench.results.get(f'{kind} {name}', measure), flush=True)


def joint(bench: Bench, args: argparse.Namespace) -> None:
    """Widths and bits together, against each alone, at equal BOPs and training."""
    channel = dict(type='ChannelMutator', importance='l2', divisor=2, min_ratio=0.25)
    quant = dict(Config.fromfile(ROOT / bench.case.config).compression.quant)
    ways = {
        'prune at W8A8': dict(channel=channel, quant=dict(quant, bits=[8])),
        'quantise': dict(quant=quant),
        'joint': dict(channel=channel, quant=quant)}
    target = round(bench.bops(bench.uniform((4, 8))) + 5e-7, 6)
    for name, compression in ways.items():
        tag = 'joint_' + name.replace(' ', '_')
        files: dict = {}

        def file(tag=tag, compression=compression, files=files) -> Path:
            if not files:
                files.update(search(bench, tag, [target], args, compression))
            return files[target]
        for kind, run in (('ptq', bench.test), ('qat', bench.train)):
            print(kind, name, bench.results.get(
                f'{kind} {tag}', lambda run=run, kind=kind, tag=tag, file=file: run(
                    file(), f'{kind}_{tag}')), flush=True)


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
    parser.add_argument('--epochs', type=int, default=2)
    parser.add_argument('--observers', nargs='+', choices=OBSERVERS, default=['mse'])
    args = parser.parse_args()
    if args.part in ('speed', 'tables'):
        dict(speed=speed, tables=tables)[args.part](args.out)
    else:
        PARTS[args.part](Bench(args.network, args.out), args)


if __name__ == '__main__':
    main()
