"""Compare the speed of exported files: tools/benchmark.py FILE.onnx [FILE.onnx ...].

The first file is the baseline, e.g. the dense network in float. With several runtimes
(--backend onnxruntime --backend openvino) every file has its turn in each of them.
"""

import argparse
import os
from collections.abc import Iterable, Mapping, Sequence
from typing import Annotated

from rich.console import Console
from rich.table import Table

import mmcompress  # noqa: F401
from mmcompress.exporter.runtimes import RUNTIMES, OnnxRuntime
from mmcompress.exporter.timing import ROUNDS, Timing, blame, time_files
from mmcompress.openmmlab.cli import run_tool
from mmcompress.options import Count, Natural, Within, parsed
from mmcompress.report import join_network

WIDTH = 120
"""Columns of what is written to a file."""


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('files', nargs='+', help='ONNX files; the first: the baseline')
    parser.add_argument(
        '--backend', action='append', choices=list(RUNTIMES),
        help=f'runtime ({OnnxRuntime.name}); given several times, each runs every file')
    parser.add_argument(
        '--threads', type=parsed(Count),
        help='of each stream; all cores together if unset')
    parser.add_argument(
        '--streams', type=parsed(Count), default=1,
        help='calls at a time: 1 for how long an image takes, the number of cores for '
             'how many images they do per second')
    parser.add_argument(
        '--repeats', type=parsed(Annotated[int, Within(ROUNDS)]), default=100,
        help='timed calls of each')
    parser.add_argument(
        '--rounds', type=parsed(Count), default=ROUNDS,
        help='turns of each file; more of them where the machine is busy')
    parser.add_argument(
        '--warm-up', type=parsed(Natural), default=20,
        help='calls before')
    return parser.parse_args()


def main() -> None:
    args = parse_args()
    threads = args.threads or max(1, (os.cpu_count() or 1) // args.streams)
    backends = list(dict.fromkeys(args.backend or [OnnxRuntime.name]))
    timings = time_files(
        args.files, backends, threads, args.repeats, args.warm_up, args.streams,
        rounds=args.rounds)
    firsts = {timing.backend: timing for timing in reversed(timings)}
    console = Console()
    if not console.is_terminal:
        console = Console(width=WIDTH)
    console.print(table_of(timings, firsts, Table(
        title=f'{threads} threads in each of {args.streams} streams, batch of the '
              f'file, {args.repeats} calls after {args.warm_up}')))
    for path in dict.fromkeys(timing.path for timing in timings):
        join_network(path, ms=min(x.median for x in timings if x.path == path))
    if len(timings) > 1:
        name_best(console, timings, firsts)
    for timing in timings:
        first = firsts[timing.backend]
        if timing is not first and timing.share_of(first) >= 1:
            explain(console, first, timing, threads)


def table_of(
    timings: Sequence[Timing], firsts: Mapping[str, Timing], table: Table
) -> Table:
    """A row for every file in every runtime."""
    best = fastest(firsts.values())
    columns = ['file', 'runtime', 'MB', 'median ms', 'quartiles', 'calls/s',
               'of the first', *['of the first, fastest'] * (len(firsts) > 1)]
    for column in columns:
        table.add_column(
            column, justify='left' if column in ('file', 'runtime') else 'right')
    for timing in timings:
        low, high = timing.quartiles
        ratios = [timing.share_of(firsts[timing.backend]),
                  *[timing.share_of(best)] * (len(firsts) > 1)]
        table.add_row(
            str(timing.path), timing.backend,
            f'{timing.path.stat().st_size / 1e6:.2f}', f'{timing.median:.2f}',
            f'{low:.2f} - {high:.2f}', f'{timing.per_second:.1f}',
            *(f'{ratio:.2f} x' for ratio in ratios))
    return table


def fastest(timings: Iterable[Timing]) -> Timing:
    """The one of the smallest median."""
    return min(timings, key=lambda timing: timing.median)


def name_best(
    console: Console, timings: Sequence[Timing], firsts: Mapping[str, Timing]
) -> None:
    """Say which file is fastest, in which runtime."""
    best, base = fastest(timings), fastest(firsts.values())
    console.print(
        f'Fastest: {best.path} in {best.backend}, {best.median:.2f} ms, '
        f'{best.share_of(base):.2f} x {base.path} in {base.backend}.',
        soft_wrap=True)


def explain(
    console: Console, first: Timing, timing: Timing, threads: int
) -> None:
    """Say that a file is not faster, and what is to blame."""
    console.print(
        f'\n[bold]{timing.path} is NOT faster than {first.path}[/bold] in '
        f'{timing.backend}: {timing.median:.2f} ms against {first.median:.2f} ms. To '
        "blame (the runtime's profile):")
    for item in blame(first.path, timing.path, threads, backend=timing.backend):
        console.print(f'  {item.name}: {item.before:.3f} -> {item.after:.3f} ms')


if __name__ == '__main__':
    run_tool(main)
