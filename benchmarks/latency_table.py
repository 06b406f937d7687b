"""Predicted against measured latency of random policies.

    python benchmarks/latency_table.py export     # writes the policies' files
    python benchmarks/latency_table.py time       # measures layers and files
    python benchmarks/latency_table.py export ResNet-18 --integer    # W8A8; then time

As in a search, the table is fitted to networks in float that keep the same share of
every unit; the random ones are predicted, in float or in 8 bits.
Kill it and run the same command again: it continues.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from harness import NETWORKS, OUT, machine, parser, put_in_integers, show
from scipy.stats import spearmanr
from torch import nn

from mmcompress.costs import CostTable
from mmcompress.exporter.export import ExportOptions, export_onnx
from mmcompress.exporter.timing import time_files
from mmcompress.graph import trace
from mmcompress.latency.layer_timer import LayerTimer
from mmcompress.latency.measure import FITTED, fitting_rows
from mmcompress.latency.table import LatencyTable, make_latency
from mmcompress.policy import ModelGraph, SearchSpace
from mmcompress.surgery.materialise import materialise
from mmcompress.testing.networks import random_policy

SHAPES = {'ResNet-18': (3, 112, 112), 'YOLOX-nano': (3, 416, 416)}
POLICIES = 20
REPEATS = 40


def rows_of(graph: ModelGraph) -> tuple[SearchSpace, np.ndarray]:
    """Those that the table is fitted to, then the random policies."""
    space = SearchSpace.from_graph(graph)
    random = [random_policy(space, seed) for seed in range(POLICIES)]
    return space, np.concatenate([fitting_rows(space), space.encode(random)])


def files_of(folder: Path, count: int, integer: bool) -> list[Path]:
    """Of every row; those that the table is fitted to are in float."""
    fitted = count - POLICIES
    return [folder / f'{i}{"_W8A8" if integer and i >= fitted else ""}.onnx'
            for i in range(count)]


def export(name: str, folder: Path, integer: bool) -> None:
    """Write the file of every policy."""
    model, shape = NETWORKS[name].build(), SHAPES[name]
    graph = trace(model, shape)
    space, rows = rows_of(graph)
    paths = files_of(folder, len(rows), integer)
    for i, (row, path) in enumerate(zip(rows, paths)):
        if not path.is_file():
            slim = materialise(model, graph, space.decode(row[None])[0])
            images = ()
            if integer and i >= len(rows) - POLICIES:
                images = put_in_integers(slim, graph)
            export_onnx(slim, path, ExportOptions(
                shape, images=images, quantised_tolerance=np.inf))
            print(path, flush=True)


def predict(
    table: LatencyTable, graph: ModelGraph, rows: np.ndarray
) -> np.ndarray:
    """Sums over the layers, in ms."""
    units, layers = len(graph.units), len(graph.layers)
    values = torch.as_tensor(rows, dtype=torch.float64)
    return table.layers(
        CostTable.from_graph(graph), values[:, :units],
        values[:, units:units + layers], values[:, units + layers:]).sum(1).numpy()


def compare(name: str, folder: Path, threads: int, integer: bool) -> tuple[str, ...]:
    """One line of the table."""
    model: nn.Module = NETWORKS[name].build()
    graph = trace(model, SHAPES[name])
    _, rows = rows_of(graph)
    fitted = len(rows) - POLICIES
    if integer:
        rows[fitted:, len(graph.units):] = 8
    timer = LayerTimer(folder / f'layers_{threads}.json', threads=threads)
    table = make_latency(model, graph, timer)
    sums = predict(table, graph, rows)
    timer.save()
    files = files_of(folder, len(rows), integer)
    measured = np.array([x.median for x in time_files(
        files, threads=threads, repeats=REPEATS, warm_up=5)])
    table.fit(sums[:fitted], measured[:fitted])
    predicted = table.constant + table.scale * sums
    kinds = [f'fitted {share:g}' for share in FITTED] + [
        f'random {i}' for i in range(POLICIES)]
    for kind, guess, truth in zip(kinds, predicted, measured):
        print(f'{kind:11} predicted {guess:7.3f} ms  measured {truth:7.3f} ms')
    error = np.abs(predicted[fitted:] / measured[fitted:] - 1)
    return (name, 'x'.join(map(str, SHAPES[name])), str(len(error)),
            f'{measured[fitted:].min():.2f} - {measured[fitted:].max():.2f}',
            f'{spearmanr(predicted[fitted:], measured[fitted:])[0]:.3f}',
            f'{np.median(error):.1%}', f'{error.max():.1%}', f'{table.scale:.3f}',
            f'{table.constant:.3f}', str(timer.measured))


def main() -> None:
    """Export or time what is asked for."""
    options = parser(__doc__)
    options.add_argument('what', choices=['export', 'time'])
    options.add_argument('names', nargs='*', help='networks; all if unset')
    options.add_argument('--threads', type=int, default=2)
    options.add_argument('--integer', action='store_true',
                         help='all layers of the random policies in 8 bits')
    args = options.parse_args()
    found = []
    for name in args.names or SHAPES:
        folder = OUT / 'latency' / name
        folder.mkdir(parents=True, exist_ok=True)
        if args.what == 'export':
            export(name, folder, args.integer)
        else:
            found.append(compare(name, folder, args.threads, args.integer))
    if found:
        show(f'{machine()}\nONNX Runtime, {args.threads} threads, '
             f'{"W8A8" if args.integer else "float"}', (
                 'network', 'shape', 'policies', 'measured ms', 'rank correlation',
                 'median error', 'largest', 'scale', 'constant ms', 'layers measured'),
             found)


if __name__ == '__main__':
    main()
