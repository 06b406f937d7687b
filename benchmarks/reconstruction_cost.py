"""What the repair costs: before a search, and in it.

`before` times the statistic, the order and the prices at full size, and their memory;
random weights and images will do. `candidate` times a policy of half the MACs, norms
and repair included, over inference and metric of the dense network on the scoring
images, in turns.

    python benchmarks/reconstruction_cost.py before ResNet-50 RetinaNet-R50
    python benchmarks/reconstruction_cost.py candidate resnet56 yolox_nano
"""

from __future__ import annotations

import resource
import tempfile
import time
from pathlib import Path
from statistics import median
from types import SimpleNamespace

import torch
from harness import NETWORKS, OUT, Bench, machine, parser, show, uniform_widths
from reconstruction import CASES

from mmcompress.data.images import Batch
from mmcompress.graph import trace
from mmcompress.kinds import kind_of
from mmcompress.mutators import Calibration, JointMutator
from mmcompress.policy import SearchSpace
from mmcompress.prices import Subject
from mmcompress.prices.reconstruction import ReconstructionPrices


def gigabytes() -> float:
    """Most memory of this process so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2 ** 20


def before(name: str, images: int, measured: int) -> list[str]:
    """Seconds of statistic and order, and of prices; and the memory."""
    network = NETWORKS[name]
    model = network.build()
    graph = trace(model, network.shape)
    kind, batches = kind_of(model), []
    samples = kind.example(model, graph.input_shape).data_samples
    torch.manual_seed(0)
    for _ in range(images):
        batches.append(Batch(kind.images(model, graph.input_shape, 1), samples))
    mutator = JointMutator.from_config(dict(
        channel=dict(importance='obs', divisor=16, min_ratio=0.1), reconstruct={}))
    start, held = time.perf_counter(), gigabytes()
    mutator.prepare(model, graph, Calibration(batches))
    prepared = time.perf_counter()
    print(name, f'statistic and order: {prepared - start:.0f} s', flush=True)
    subject = Subject(
        model, graph, SearchSpace.from_graph(graph, **mutator.space_options), mutator,
        SimpleNamespace(calibration=batches), lambda line: print(line, flush=True))
    with tempfile.TemporaryDirectory() as folder:
        ReconstructionPrices(measured).compute(subject, Path(folder))
    priced = time.perf_counter() - prepared
    return [name, len(graph.units), f'{prepared - start:.0f}', f'{priced:.0f}',
            f'{(prepared - start + priced) / 60:.1f}', f'{held:.1f}',
            f'{gigabytes():.1f}']


def candidate(name: str, rounds: int) -> list[str]:
    """A candidate's time over that of the dense network on the scoring images."""
    bench = Bench(CASES[name], OUT / 'reconstruction_cost' / name)
    session, evaluator = bench.session, bench.session.evaluator
    target, = bench.targets('macs', [0.5])
    policy = uniform_widths(session.space, bench.costs, target)
    session.score(policy)
    ratios, seconds = [], []
    for _ in range(rounds):
        start = time.perf_counter()
        evaluator.measure(session.model)
        middle = time.perf_counter()
        session.score(policy)
        end = time.perf_counter()
        ratios.append((end - middle) / (middle - start))
        seconds.append(middle - start)
    return [name, evaluator.images, f'{median(seconds):.1f}', f'{median(ratios):.2f}',
            f'{min(ratios):.2f} to {max(ratios):.2f}']


def main() -> None:
    """Run one command."""
    options = parser(__doc__)
    options.add_argument('command', choices=['before', 'candidate'])
    options.add_argument('names', nargs='+')
    options.add_argument('--images', type=int, default=64, help='of the statistic')
    options.add_argument('--measured', type=int, default=2, help='of the prices')
    options.add_argument('--rounds', type=int, default=7, help='of a candidate')
    args = options.parse_args()
    print(machine())
    if args.command == 'before':
        show(f'{args.images} images of full size, {args.measured} for distances', (
            'network', 'units', 'statistic and order s', 'prices s', 'both min',
            'GB before', 'GB at most'),
            [before(name, args.images, args.measured) for name in args.names])
    else:
        show('A candidate of half the MACs', (
            'network', 'images scored', 'dense s', 'candidate / dense', 'range'),
            [candidate(name, args.rounds) for name in args.names])


if __name__ == '__main__':
    main()
