"""Speed of the foundation: costs, candidates, tracing.

costs: policies of RetinaNet-R50 costed per second. candidates: time to score random
policies at half the MACs relative to the dense model, on the same images. tracing:
seconds to find and to verify the channel units of a network. The share of a search
spent outside its evaluations is in the report that every search writes ("time outside
evaluation"); foundation_tradeoff.py lists it.
"""

from __future__ import annotations

import time
from dataclasses import replace
from statistics import median

import harness
import numpy as np
import torch
from harness import NETWORKS, OUT, Bench, Case, Results, clock, machine, parser, show

from mmcompress.costs import Costs, CostTable
from mmcompress.evaluation import dynamic_bn
from mmcompress.graph import trace, verify
from mmcompress.policy import Policy, SearchSpace

POLICIES = 100_000
CANDIDATES = {
    'CifarResNet-56': Case(
        config='configs/evolution/evolution_resnet56_cifar10.py', images=500,
        calibration=250),
    'YOLOX-nano': Case(
        config='configs/evolution/evolution_yolox-nano_coco128.py',
        metric='coco/bbox_mAP', images=96, calibration=32),
}
LAYOUTS = {
    'channels last': torch.channels_last, 'default': torch.contiguous_format}


def cost_speed(repeats: int) -> list[tuple[str, ...]]:
    """Policies per second, one row per cost."""
    network = NETWORKS['RetinaNet-R50']
    graph = trace(network.build(), network.shape)
    space = SearchSpace.from_graph(
        graph, weight_bits=(4, 6, 8, 32), activation_bits=(4, 6, 8, 32))
    costs = Costs(CostTable.from_graph(graph), space)
    rng = np.random.default_rng(0)
    rows = np.stack([rng.choice(c, POLICIES) for c in space.choices], axis=1)
    rows = torch.from_numpy(rows)
    rates = {name: POLICIES / clock(lambda n=name: costs.of_rows(n, rows), repeats)
             for name in costs.names()}
    return [(name, f'{rate:,.0f}') for name, rate in rates.items()]


def candidate_speed(name: str, layout: str, candidates: int) -> list[dict]:
    """Times of random policies at half the MACs beside dense times taken in turn.

    The dense model is timed anew for every candidate, so that what else the machine
    does touches both.

    Returns:
        list[dict]: By candidate: ``macs``, its share, and pairs of seconds (dense,
        candidate): of the whole ``score``, of the ``recalibration`` of the batch
        norms, and of the ``rest``, which is inference and metric.
    """
    bench = Bench(CANDIDATES[name], OUT / 'foundation_speed')
    session, costs = bench.session, bench.costs
    model, evaluator = session.model, session.evaluator
    for batches in (evaluator.scoring, evaluator.calibration):
        batches[:] = [replace(b, inputs=b.inputs.contiguous(
            memory_format=LAYOUTS[layout])) for b in batches]

    def times(policy: Policy) -> dict[str, float]:
        start = time.perf_counter()
        with torch.no_grad(), session.mutator.acting(policy), \
                dynamic_bn(model, 'recalibrate', evaluator.calibration):
            middle = time.perf_counter()
            evaluator.measure(model)
        end = time.perf_counter()
        return dict(score=end - start, recalibration=middle - start, rest=end - middle)

    times(Policy())  # warms up
    found, dense = [], costs.dense()['macs']
    for policy in bench.random(candidates, bench.targets('macs', [0.5])):
        pair = times(Policy()), times(policy)
        found.append(dict(macs=costs.of(policy)['macs'] / dense, **{
            part: [t[part] for t in pair] for part in pair[0]}))
    return found


def candidate_row(name: str, layout: str, found: list[dict]) -> tuple[str, ...]:
    """Cells of one network: dense seconds, then candidate / dense, the median."""
    def ratio(part: str) -> str:
        ratios = [slim / dense for dense, slim in (f[part] for f in found)]
        return f'{median(ratios):.2f} ({min(ratios):.2f}-{max(ratios):.2f})'

    return (name, layout, f'{max(f["macs"] for f in found):.3f}',
            f'{median(f["score"][0] for f in found):.2f}',
            *map(ratio, ('score', 'recalibration', 'rest')))


def trace_speed(name: str) -> tuple[str, ...]:
    """Cells of one network; each step once, as a user meets it."""
    network = NETWORKS[name]
    model = network.build()
    start = time.perf_counter()
    found = trace(model, network.shape)
    middle = time.perf_counter()
    graph = verify(model, found)
    end = time.perf_counter()
    macs = sum(layer.macs for layer in graph.layers)
    return (name, 'x'.join(map(str, network.shape)), f'{macs / 1e9:.3f}',
            f'{graph.params / 1e6:.2f}', str(len(graph.units)), f'{graph.governed:.1%}',
            f'{middle - start:.1f}', f'{end - middle:.1f}')


def main() -> None:
    """Measure the parts asked for; print their tables."""
    options = parser(__doc__)
    parts = ('costs', 'candidates', 'tracing')
    options.add_argument('parts', nargs='*', default=parts, help=f'of: {parts}')
    options.add_argument('--repeats', type=int, default=3, help='timings of a cost')
    options.add_argument('--candidates', type=int, default=4)
    options.add_argument(
        '--layouts', nargs='+', choices=LAYOUTS, default=list(LAYOUTS))
    options.add_argument('--threads', type=int, default=2)
    args = options.parse_args()
    torch.set_num_threads(args.threads)
    results = Results(OUT / f'foundation_speed_{args.threads}.json', {})
    print(machine(), flush=True)
    if 'costs' in args.parts:
        show('Policies of RetinaNet-R50 per second', ('cost', 'policies / s'),
             results.get('costs', lambda: cost_speed(args.repeats)))
    if 'candidates' in args.parts:
        rows = [candidate_row(n, layout, results.get(
            f'candidates {n} {layout}',
            lambda n=n, x=layout: candidate_speed(n, x, args.candidates)))
            for n in CANDIDATES for layout in args.layouts]
        show('Candidates at half the MACs, relative to dense: median (range)',
             ('network', 'layout', 'MACs', 'dense, s', 'score', 'recalibration alone',
              'inference and metric alone'), rows, left=2)
    if 'tracing' in args.parts:
        show('Tracing', ('network', 'input', 'GMACs', 'M params', 'units',
                         'MACs governed', 'trace s', 'verify s'), [
            results.get(f'trace {n}', lambda n=n: trace_speed(n)) for n in NETWORKS])


if __name__ == '__main__':
    harness.start(main)
