"""Speed of the foundation: costs, candidates, tracing.

costs: policies of RetinaNet-R50 costed per second. candidates: time to score a policy
at half the MACs relative to the dense model, on the same images. tracing: seconds to
find and to verify the channel units of a network. The share of a search spent outside
its evaluations is in the report that every search writes ("time outside evaluation");
foundation_tradeoff.py lists it.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from statistics import median

import numpy as np
import torch
from common import NETWORKS, OUT, Results, machine

from mmcompress.costs import Costs, CostTable, Target
from mmcompress.evaluation import PolicyEvaluator
from mmcompress.evaluation.dynamic_bn import recalibrate
from mmcompress.graph import trace, verify
from mmcompress.mutators import ChannelMutator
from mmcompress.policy import Policy, SearchSpace
from mmcompress.search import fit_to_budget
from mmcompress.visualization.tables import TextTable

POLICIES = 100_000
CANDIDATES = {
    'CifarResNet-56': dict(metric='accuracy/top1', images=500, calibration_images=250,
                           batch_size=250),
    'YOLOX-nano': dict(metric='coco/bbox_mAP', images=96, calibration_images=32,
                       batch_size=8),
}


def seconds(call: Callable, repeats: int) -> float:
    """Median time of a call, after one that warms up."""
    call()
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        call()
        times.append(time.perf_counter() - start)
    return median(times)


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
    rates = {name: POLICIES / seconds(lambda n=name: costs.of_rows(n, rows), repeats)
             for name in costs.names()}
    return [(name, f'{rate:,.0f}') for name, rate in rates.items()]


def candidate_speed(name: str, repeats: int) -> dict[str, float]:
    """Seconds of each part of a score, dense and at half the MACs.

    Returns:
        dict[str, float]: ``share`` of the MACs; ``dense_*`` and ``half_*`` seconds
        of the whole ``score``, of ``scoring`` the images (inference and metric) and
        of the ``recalibration`` of the batch norms.
    """
    network = NETWORKS[name]
    cfg, model = network.read(), network.build()
    graph = verify(model, trace(model, network.shape))
    mutator = ChannelMutator(divisor=4)
    mutator.prepare(model, graph)
    space = SearchSpace.from_graph(graph, **mutator.space_options)
    costs = Costs(CostTable.from_graph(graph), space)
    dense = costs.dense()['macs']
    row = fit_to_budget(
        space, costs, Target('macs', 0.5, dense / 2), 0.7 * space.highest,
        np.random.default_rng(0))
    half = space.decode(row)[0]
    evaluator = PolicyEvaluator(**CANDIDATES[name])
    evaluator.prepare(model, cfg)
    found = {'share': costs.of(half)['macs'] / dense}
    for kind, policy in (('dense', Policy()), ('half', half)):
        found[f'{kind}_score'] = seconds(
            lambda p=policy: evaluator.evaluate(p, mutator), repeats)
        with torch.no_grad(), mutator.acting(policy):
            found[f'{kind}_recalibration'] = seconds(
                lambda: recalibrate(model, evaluator.calibration), repeats)
            found[f'{kind}_scoring'] = seconds(
                lambda: evaluator.measure(model), repeats)
    return found


def candidate_row(name: str, found: dict[str, float]) -> tuple[str, ...]:
    """Cells of one network: dense seconds, and the candidate's share of them."""
    parts = ('score', 'scoring', 'recalibration')
    ratios = (found[f'half_{p}'] / found[f'dense_{p}'] for p in parts)
    return (name, f'{found["share"]:.3f}', f'{found["dense_score"]:.2f} s',
            *(f'{r:.2f}' for r in ratios))


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
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parts = ('costs', 'candidates', 'tracing')
    parser.add_argument('parts', nargs='*', default=parts, help=f'of: {parts}')
    parser.add_argument('--repeats', type=int, default=3)
    parser.add_argument('--threads', type=int, default=2)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    results = Results(OUT / 'foundation_speed.json', dict(threads=args.threads))
    print(machine(), flush=True)
    tables = []
    if 'costs' in args.parts:
        rows = results.get('costs', lambda: cost_speed(args.repeats))
        tables.append(TextTable(
            'Policies of RetinaNet-R50 per second', ('cost', 'policies / s'),
            tuple(map(tuple, rows))))
    if 'candidates' in args.parts:
        rows = [candidate_row(n, results.get(
            f'candidate {n}', lambda n=n: candidate_speed(n, args.repeats)))
            for n in CANDIDATES]
        tables.append(TextTable(
            'A candidate at half the MACs, relative to dense',
            ('network', 'MACs', 'dense score', 'score', 'scoring only',
             'recalibration only'), tuple(rows)))
    if 'tracing' in args.parts:
        rows = [results.get(f'trace {n}', lambda n=n: trace_speed(n)) for n in NETWORKS]
        tables.append(TextTable(
            'Tracing', ('network', 'input', 'GMACs', 'M params', 'units',
                        'MACs governed', 'trace s', 'verify s'),
            tuple(map(tuple, rows))))
    for table in tables:
        print(f'\n{table.title}\n\n{table.markdown()}')


if __name__ == '__main__':
    main()
