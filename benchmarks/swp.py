"""SWP measured: how well supernets rank networks, and what an iteration costs.

Results are kept in work_dirs/benchmarks/swp/; kill it and run the same command again:
it continues with the part it was at.

    python benchmarks/swp.py rank      # four supernets, twelve networks, ResNet-20
    python benchmarks/swp.py cost      # time and memory of an iteration

Two processes share the work of one table: rank --only alone trains the networks by
themselves. The defaults fit one CPU core. On a GPU: rank --images 47000 --epochs 160
--batch 128 --rate 0.1 --proxy 2000 --calibration 1000 --test 10000.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tarfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import cv2
import harness
import numpy as np
import torch
from harness import OUT, ROOT, Results, machine, parser, quiet_config, save_last, show
from mmengine.config import Config
from mmengine.dataset import BaseDataset
from mmengine.hooks import Hook
from mmengine.optim import OptimWrapper
from mmengine.registry import DATASETS, MODELS, OPTIM_WRAPPERS
from mmengine.runner import Runner, autocast
from mmpretrain.models import ClsDataPreprocessor
from scipy.stats import kendalltau
from torch import channels_last, nn

from mmcompress.costs import Costs, CostTable, parse_targets
from mmcompress.mutators import Calibration, ChannelMutator, JointMutator
from mmcompress.openmmlab.cli import build_model
from mmcompress.openmmlab.evaluators import DatasetEvaluator, StageLossEvaluator
from mmcompress.openmmlab.policy_config import compress_config
from mmcompress.policy import Policy, SearchSpace
from mmcompress.policy.files import PolicyFile
from mmcompress.searchers import Random
from mmcompress.session import find_units

FOLDER = OUT / 'swp'
ARCHIVE = ROOT / '../shared/data/cifar10/cifar10_jpeg.tar.xz'
PACKED = FOLDER / 'cifar10_jpeg.npz'
HELD_OUT = 3000
"""Training images, the last ones, that no network trains on: proxies take them."""
SHARES = (0.25, 0.4, 0.55, 0.7)
"""Budgets of the networks that are ranked, shares of the dense MACs."""

SUPERNETS = {
    'SWP': dict(),
    'random path': dict(stages=None, full=False, tiny=False),
    'sandwich, no stages': dict(stages=None),
    'stages, no full or tiny': dict(full=False, tiny=False, teacher='dense'),
}


# -- CIFAR-10 (JPEG) in memory -------------------------------------------------
def pack() -> None:
    """Decode the archive once, in the order of the original indices."""
    if PACKED.is_file():
        return
    classes: dict[str, int] = {}
    found: dict[str, list] = {'train': [], 'test': []}
    with tarfile.open(ARCHIVE) as archive:
        for member in archive:
            if member.name.endswith('.jpg'):
                split, name, file = Path(member.name).parts[-3:]
                data = np.frombuffer(archive.extractfile(member).read(), np.uint8)
                image = cv2.imdecode(data, cv2.IMREAD_COLOR)
                found[split].append((int(Path(file).stem), name, image))
                classes.setdefault(name, 0)
    number = {name: i for i, name in enumerate(sorted(classes))}
    arrays = {}
    for split, entries in found.items():
        entries.sort(key=lambda entry: entry[0])
        arrays[f'{split}_images'] = np.stack([image for _, _, image in entries])
        arrays[f'{split}_labels'] = np.array([number[name] for _, name, _ in entries])
    PACKED.parent.mkdir(parents=True, exist_ok=True)
    np.savez(PACKED, **arrays)


@DATASETS.register_module()
class PackedCifar(BaseDataset):
    """Images ``start`` to ``stop`` of a split of the packed file."""

    METAINFO = dict(classes=tuple(map(str, range(10))))

    def __init__(self, split: str, start: int, stop: int, **kwargs) -> None:
        self.split, self.start, self.stop = split, start, stop
        super().__init__(serialize_data=False, **kwargs)

    def load_data_list(self) -> list[dict]:
        """See :class:`BaseDataset`."""
        with np.load(PACKED) as arrays:
            images = arrays[f'{self.split}_images'][self.start:self.stop]
            labels = arrays[f'{self.split}_labels'][self.start:self.stop]
        return [dict(img=image, img_shape=(32, 32), gt_label=int(label))
                for image, label in zip(images, labels)]


@MODELS.register_module()
class ChannelsLast(ClsDataPreprocessor):
    """Hands batches over in the layout that CPUs convolve faster in."""

    def forward(self, data: dict, training: bool = False) -> dict:
        """See :class:`ClsDataPreprocessor`."""
        data = super().forward(data, training)
        data['inputs'] = data['inputs'].contiguous(memory_format=channels_last)
        return data


@OPTIM_WRAPPERS.register_module()
class BFloat16OptimWrapper(OptimWrapper):
    """Bfloat16 autocast on any device: mmengine's own wrapper refuses CPUs."""

    @contextmanager
    def optim_context(self, model: nn.Module) -> Iterator[None]:
        """See :class:`OptimWrapper`."""
        with super().optim_context(model), autocast(dtype=torch.bfloat16):
            yield


# -- ranking networks ----------------------------------------------------------
class Ranking:
    """Supernets and networks of ResNet-20 on the same images."""

    def __init__(self, args: argparse.Namespace) -> None:
        pack()
        self.args = args
        amp = '_amp' if args.amp else ''
        self.folder = FOLDER / f'rank_{args.images}x{args.epochs}{amp}_seed{args.seed}'
        self.results = Results(self.folder / 'measured.json', {
            k: v for k, v in vars(args).items()
            if k not in ('command', 'run', 'only')})
        self.graph = find_units(build_model(self.config('graph')), (3, 32, 32))
        self.mutator = ChannelMutator('index', divisor=1, min_ratio=0.1, step=0.1)
        self.space = SearchSpace.from_graph(self.graph, **self.mutator.space_options)
        self.costs = Costs(CostTable.from_graph(self.graph), self.space)

    def config(self, name: str) -> Config:
        """ResNet-20 on the packed images, trained from scratch."""
        args = self.args
        cfg = quiet_config('configs/cifar/resnet20_cifar10.py',
                           self.folder / name.replace(' ', '_'))

        def data(split: str, start: int, stop: int, like: Config) -> dict:
            return dict(type='PackedCifar', split=split, start=start, stop=stop,
                        pipeline=like.dataset.pipeline)

        test = data('test', 0, args.test, cfg.val_dataloader)
        cfg.train_dataloader.dataset = data('train', 0, args.images,
                                            cfg.train_dataloader)
        cfg.train_dataloader.update(batch_size=args.batch, drop_last=True)
        cfg.val_dataloader.dataset = cfg.test_dataloader.dataset = test
        cfg.val_dataloader.batch_size = cfg.test_dataloader.batch_size = 250
        cfg.model.data_preprocessor = dict(
            cfg.data_preprocessor, type='ChannelsLast', to_rgb=True)
        cfg.compression = dict(input_shape=(3, 32, 32), channel=dict(
            type='ChannelMutator', importance='index', divisor=1, min_ratio=0.1,
            step=0.1))
        cfg.optim_wrapper.optimizer.update(lr=args.rate, weight_decay=5e-4)
        if args.amp:
            cfg.optim_wrapper.type = 'BFloat16OptimWrapper'
        cfg.train_cfg, cfg.load_from = dict(by_epoch=True), None
        save_last(cfg, args.epochs, args.seed)
        return cfg

    def checkpoint(self, name: str) -> str:
        """Where the last checkpoint of a training is."""
        folder = self.folder / name.replace(' ', '_')
        return str(folder / f'epoch_{self.args.epochs}.pth')

    def policies(self) -> list[Policy]:
        """The networks: random ones, the budgets in turn."""
        targets = parse_targets({'macs': list(SHARES)}, self.costs)
        searcher = Random(self.space, self.costs, targets,
                          evaluations=self.args.subnets, seed=self.args.seed)
        return [searcher.propose((), n) for n in range(self.args.subnets)]

    def train(self, cfg: Config, name: str) -> float:
        """Top-1 on the test images after training from scratch."""
        return self.results.get(f'trained {name}', lambda: harness.train_and_test(
            cfg, 'accuracy/top1'))

    def alone(self, number: int, policy: Policy) -> float:
        """Top-1 of a network trained from scratch by itself."""
        cfg = self.config(f'alone_{number}')
        file = self.folder / f'policy_{number}.json'
        self.mutator.order = {u.name: np.arange(u.width) for u in self.graph.units}
        self.mutator.graph = self.graph
        PolicyFile(policy, self.graph.fingerprint, self.graph.input_shape,
                   self.mutator.channels(policy)).save(file)
        compress_config(cfg, str(file))
        return self.train(cfg, f'alone {number}')

    def supernet(self, name: str) -> None:
        """Train one of the supernets."""
        options = dict(SUPERNETS[name])
        if 'teacher' in options:
            options['teacher'] = self.checkpoint('dense')
        cfg = self.config(name)
        cfg.train_cfg = dict(
            type='mmcompress.SupernetTrainLoop', max_epochs=self.args.epochs,
            val_begin=10**6, **options)
        self.train(cfg, name)

    def scores(self, name: str, policies: Sequence[Policy]) -> dict[str, list[float]]:
        """Proxies of all networks by one supernet, and their accuracy in it."""
        def measure() -> dict[str, list[float]]:
            cfg = self.config('scores')
            model = build_model(cfg, self.checkpoint(name))
            self.mutator.prepare(model, self.graph)
            held_out = dict(cfg.test_dataloader.dataset, split='train',
                            start=50000 - HELD_OUT, stop=50000)
            images = dict(images=self.args.proxy, batch_size=250,
                          calibration_images=self.args.calibration)
            images['dataset'] = held_out
            evaluators = {
                'stored': DatasetEvaluator('accuracy/top1', dynamic_bn='off', **images),
                'recalibrated': DatasetEvaluator(
                    'accuracy/top1', dynamic_bn='recalibrate', **images),
                'stage loss': StageLossEvaluator(dynamic_bn='recalibrate', **images),
                'test': DatasetEvaluator(
                    'accuracy/top1', self.args.test, 0, 'recalibrate',
                    cfg.test_dataloader.dataset, batch_size=250)}
            found = {}
            for key, evaluator in evaluators.items():
                evaluator.prepare(model, cfg)
                if key == 'test':
                    evaluator.keep(model, evaluator.scoring,
                                   evaluators['recalibrated'].calibration)
                found[key] = [
                    evaluator.evaluate(p, self.mutator).value for p in policies]
            repaired = JointMutator.from_config(dict(
                channel=cfg.compression.channel.to_dict(), reconstruct={}))
            repaired.prepare(model, self.graph, Calibration(
                evaluators['recalibrated'].calibration))
            for key in ('recalibrated', 'test'):
                found[f'{key}, repaired'] = [
                    evaluators[key].evaluate(p, repaired).value for p in policies]
            return found
        return self.results.get(f'scores {name}', measure)


def rank(args: argparse.Namespace) -> None:
    """Train what is asked for; print the table of what has been so far."""
    bench = Ranking(args)
    policies = bench.policies()
    bench.train(bench.config('dense'), 'dense')
    for part in args.only:
        if part == 'alone':
            for number, policy in enumerate(policies):
                bench.alone(number, policy)
        else:
            bench.supernet(part)
            bench.scores(part, policies)
    report(bench, policies)


def report(bench: Ranking, policies: Sequence[Policy]) -> None:
    """Kendall's tau of every proxy with the accuracy of training alone."""
    values = bench.results.values
    done = [n for n in range(len(policies)) if f'trained alone {n}' in values]
    alone = np.array([values[f'trained alone {n}'] for n in done])
    macs = [bench.costs.of(policies[n])['macs'] for n in done]
    rows = []
    for name in (name for name in SUPERNETS if f'scores {name}' in values):
        scores = {key: np.array(found)[done]
                  for key, found in values[f'scores {name}'].items()}
        taus = (f'{kendalltau(scores[key], alone).statistic:.2f}'
                for key in ('stored', 'recalibrated', 'recalibrated, repaired',
                            'stage loss'))
        rows.append((
            name, *taus, f'{scores["test"].mean():.1f}',
            f'{scores["test, repaired"].mean():.1f}',
            f'{(scores["test"] - alone).mean():+.1f}',
            f'{values[f"trained {name}"]:.1f}'))
    header = (
        'supernet', 'tau, stored statistics', 'tau, recalibrated', 'tau, repaired',
        'tau, stage loss', 'mean top-1 of its subnets', 'the same repaired',
        'unrepaired minus trained alone', 'top-1 of the full network')
    count = len(done)
    # Of tau where there is no relation: Kendall, Rank Correlation Methods, ch. 4.
    error = (2 * (2 * count + 5) / (9 * count * (count - 1))) ** 0.5
    show(f'{machine()}\nDense network trained alone: {values["trained dense"]:.1f};'
          f' the {count} networks: {alone.mean():.1f} ({alone.min():.1f} to '
          f'{alone.max():.1f}); tau of their MACs with it: '
          f'{kendalltau(macs, alone).statistic:.2f}; standard error of a tau: '
          f'{error:.2f}', header, rows)


# -- the cost of an iteration ---------------------------------------------------
COSTS = {'plain training': None, 'sandwich, no stages': dict(stages=None), 'SWP': {}}
WARM_UP = 2


class Meter(Hook):
    """Seconds of every iteration, and the peak memory over what the model holds."""

    def __init__(self) -> None:
        self.seconds: list[float] = []

    def before_train_iter(self, runner: Runner, *args, **kwargs) -> None:
        """Start the clock; the first time, see what is allocated already."""
        if not self.seconds:
            self.base = self._peak()
        self.start = time.perf_counter()

    def after_train_iter(self, runner: Runner, *args, **kwargs) -> None:
        """Stop the clock."""
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        self.seconds.append(time.perf_counter() - self.start)

    @staticmethod
    def _peak() -> float:
        """Megabytes."""
        if torch.cuda.is_available():
            return torch.cuda.max_memory_allocated() / 2**20
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**10

    @property
    def report(self) -> dict[str, float]:
        """Median seconds of an iteration and the peak of its memory in MB."""
        return dict(seconds=float(np.median(self.seconds[WARM_UP:])),
                    memory=self._peak() - self.base)


def cost(args: argparse.Namespace) -> None:
    """Each training in a process of its own, for a peak of its own."""
    if args.one:
        args.images, args.epochs = args.batch * (args.iterations + WARM_UP), 1
        bench = Ranking(args)
        cfg = bench.config(f'cost {args.one}')
        if COSTS[args.one] is not None:
            cfg.train_cfg = dict(type='mmcompress.SupernetTrainLoop', max_epochs=1,
                                 val_begin=10**6, **COSTS[args.one])
        runner, meter = Runner.from_cfg(cfg), Meter()
        runner.register_hook(meter)
        runner.train()
        print(json.dumps(meter.report))
        return
    found = {}
    for name in COSTS:
        command = [sys.executable, __file__, *sys.argv[1:], '--one', name]
        done = subprocess.run(command, check=True, capture_output=True, text=True)
        found[name] = json.loads(done.stdout.splitlines()[-1])
    plain = found['plain training']
    show(f'{machine()}\nPlain training, batch {args.batch}: {plain["seconds"]:.2f} s '
         f'and {plain["memory"]:.0f} MB over the model.',
         ('training', 'time per iteration', 'peak memory'),
         [(name, f'{f["seconds"] / plain["seconds"]:.2f}',
           f'{f["memory"] / plain["memory"]:.2f}') for name, f in found.items()])


def main() -> None:
    """Run one command."""
    options = parser(__doc__)
    commands = options.add_subparsers(dest='command', required=True)
    one = commands.add_parser('rank')
    for name, default, what in (
            ('images', 5000, 'to train on'), ('epochs', 5, 'of each training'),
            ('batch', 64, 'images of a step'), ('subnets', 12, 'that are ranked'),
            ('proxy', 1000, 'images to score on'),
            ('calibration', 500, 'images for batch norms'),
            ('test', 3000, 'test images'), ('seed', 0, 'of everything')):
        one.add_argument(f'--{name}', type=int, default=default, help=what)
    one.add_argument('--rate', type=float, default=0.1)
    one.add_argument('--amp', action='store_true', help='all trainings in bfloat16')
    parts = (*SUPERNETS, 'alone')
    one.add_argument('--only', nargs='+', choices=parts, default=parts,
                     help='train these alone, e.g. on another core')
    one.set_defaults(run=rank)
    two = commands.add_parser('cost')
    two.add_argument('--batch', type=int, default=128)
    two.add_argument('--iterations', type=int, default=4)
    two.add_argument('--amp', action='store_true')
    two.add_argument('--one', help='measure this one only; used internally')
    two.set_defaults(run=cost, rate=0.1, test=500, seed=0)
    args = options.parse_args()
    args.run(args)


if __name__ == '__main__':
    harness.start(main)
