"""Time of the two-stage framework's solvers, time and memory of its prices.

    python benchmarks/two_stage_speed.py retinanet
    python benchmarks/two_stage_speed.py resnet50 --images 1024
"""

from __future__ import annotations

import resource
import time
from types import SimpleNamespace

import numpy as np
import torch
from harness import NETWORKS, machine, parser, show
from mmpretrain.structures import DataSample

from mmcompress.costs import Costs, CostTable
from mmcompress.data.images import Batch
from mmcompress.graph import trace
from mmcompress.mutators import Calibration, JointMutator
from mmcompress.policy import SearchSpace
from mmcompress.prices import Layout, Subject, mean_square
from mmcompress.prices.gradient import GradientPrices
from mmcompress.prices.table import PriceTable
from mmcompress.searchers.solvers import exact, greedy, sweep


def retinanet() -> None:
    """Time the solvers on RetinaNet-R50's joint space with synthetic prices."""
    network = NETWORKS['RetinaNet-R50']
    graph = trace(network.build(), network.shape)
    space = SearchSpace.from_graph(
        graph, divisor=16, weight_bits=(2, 4, 6, 8), activation_bits=(4, 6, 8))
    costs = Costs(CostTable.from_graph(graph), space)
    table = synthetic(space)
    dense, rows = costs.dense(), []
    for shares in ({'bops': 0.03}, {'bops': 0.01}, {'bops': 0.005},
                   {'size_bytes': 0.15}, {'size_bytes': 0.1}, {'macs': 0.5},
                   {'bops': 0.01, 'size_bytes': 0.12, 'macs': 0.6}):
        limits = {name: share * dense[name] for name, share in shares.items()}
        (cost, limit), *others = limits.items()
        start = time.process_time()
        picks = greedy(table, costs, cost, limit, sweep(table, costs, cost))
        middle = time.process_time()
        best = exact(table, costs, limits, None if others else picks)
        end = time.process_time()
        gap = '' if others else \
            f'{100 * (table.price[picks].sum() / best.price - 1):.2f} %'
        used = ', '.join(f'{100 * best.costs[n] / limits[n]:.2f} %' for n in limits)
        name = ', '.join(f'{n} {s:g}' for n, s in shares.items())
        rows.append([name, f'{middle - start:.3f}', f'{end - middle:.2f}', best.rounds,
                     gap, used])
    show(f'{machine()}\nRetinaNet-R50: {len(space.units)} units, {len(space.layers)} '
         f'layers, {len(table.groups)} groups, {len(table.price)} choices; seconds of '
         'processor time.', [
             'budget', 'sweep + greedy s', 'exact s', 'linearisations',
             'greedy / exact - 1', 'exact uses of the budget'], rows)


def resnet50(images: int, size: int, batch: int) -> None:
    """Time and memory of prices for ResNet-50's joint space.

    Neither depends on the weights or on what the images show: both are random.
    """
    model = NETWORKS['ResNet-50'].build()
    graph = trace(model, (3, size, size))
    generator = torch.Generator().manual_seed(0)

    def load(part: slice) -> list[Batch]:
        numbers = range(images)[part]
        found = torch.randn((len(numbers), 3, size, size), generator=generator)
        samples = [DataSample().set_gt_label(i % 1000) for i in numbers]
        return [Batch(found[i:i + batch], samples[i:i + batch])
                for i in range(0, len(numbers), batch)]

    mutator = JointMutator.from_config(dict(
        channel=dict(divisor=16, min_ratio=0.5), quant=dict(bits=[2, 4, 6, 8])))
    mutator.prepare(model, graph, Calibration(load(slice(0, batch))))
    space = SearchSpace.from_graph(graph, **mutator.space_options)
    subject = Subject(model, graph, space, mutator, None,
                      lambda line: print(line, flush=True))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    store = SimpleNamespace(get=lambda _: None, put=lambda *_: None)
    start, used = time.perf_counter(), time.process_time()
    terms = GradientPrices(images, batch).sample_terms(subject, load, store)
    used, start = time.process_time() - used, time.perf_counter() - start
    after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    table = Layout(graph, space).table(mean_square(terms))
    print(f'\nResNet-50, {len(space.units)} units, {len(space.layers)} layers, '
          f'{len(table.price)} choices: {images} images of {size} px in batches of '
          f'{batch}: {used:.0f} s of processor time ({start:.0f} s on the clock), '
          f'{1000 * used / images:.0f} ms an image; peak memory '
          f'{after / 1024:.0f} MiB, {before / 1024:.0f} MiB before.\n{machine()}')


def synthetic(space: SearchSpace) -> PriceTable:
    """Random prices that fall with width and, fourfold, with every bit."""
    rng = np.random.default_rng(0)
    prices = {}
    for column, choice in enumerate(space.choices):
        values, scale = np.array(choice, float), np.exp(rng.normal())
        if column < len(space.units):
            noise = np.exp(0.1 * rng.normal(size=len(values)))
            prices[column] = scale * (1 - values / values[-1]) ** 2 * noise
        else:
            prices[column] = 4 * scale * 4.0 ** -values
    return PriceTable.from_columns(space, prices)


def main() -> None:
    """Run one command."""
    options = parser(__doc__)
    options.add_argument('command', choices=['retinanet', 'resnet50'])
    for name, default in (('images', 128), ('size', 112), ('batch', 16)):
        options.add_argument(
            f'--{name}', type=int, default=default, help='of resnet50; size in pixels')
    args = options.parse_args()
    if args.command == 'retinanet':
        retinanet()
    else:
        resnet50(args.images, args.size, args.batch)


if __name__ == '__main__':
    main()
