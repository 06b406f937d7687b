"""Compare the speed of exported files: tools/benchmark.py FILE.onnx [FILE.onnx ...].

The first file is the baseline, e.g. the dense network in float.
"""

import argparse
import os
from typing import Annotated

from rich.console import Console
from rich.table import Table

import mmcompress  # noqa: F401
from mmcompress.exporter.runtimes import RUNTIMES, OnnxRuntime
from mmcompress.exporter.timing import ROUNDS, Timing, blame, time_files
from mmcompress.openmmlab.cli import run_tool
from mmcompress.options import Count, Natural, Within, parsed
from mmcompress.report import join_network


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('files', nargs='+', help='ONNX files; the first: the baseline')
    parser.add_argument('--backend', choices=list(RUNTIMES), default=OnnxRuntime.name)
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
        '--warm-up', type=parsed(Natural), default=20,
        help='calls before')
    return parser.parse_args()


def main() -> None:
    args = parse_args()
    threads = args.threads or max(1, (os.cpu_count() or 1) // args.streams)
    timings = time_files(
        args.files, args.backend, threads, args.repeats, args.warm_up, args.streams)
    first = timings[0]
    table = Table(title=f'{args.backend}, {threads} threads in each of '
                        f'{args.streams} streams, batch of the file, {args.repeats} '
                        f'calls after {args.warm_up}')
    for column in (
            'file', 'MB', 'median ms', 'quartiles', 'calls/s', 'of the first'):
        table.add_column(column, justify='left' if column == 'file' else 'right')
    for timing in timings:
        low, high = timing.quartiles
        table.add_row(
            str(timing.path), f'{timing.path.stat().st_size / 1e6:.2f}',
            f'{timing.median:.2f}', f'{low:.2f} - {high:.2f}',
            f'{timing.per_second:.1f}',
            f'{timing.median / first.median:.2f} x')
        join_network(timing.path, ms=timing.median)
    console = Console()
    console.print(table)
    for timing in timings[1:]:
        if timing.median >= first.median:
            explain(console, first, timing, threads)


def explain(
    console: Console, first: Timing, timing: Timing, threads: int
) -> None:
    """Say that a file is not faster, and what is to blame."""
    console.print(
        f'\n[bold]{timing.path} is NOT faster than {first.path}[/bold]: '
        f'{timing.median:.2f} ms against {first.median:.2f} ms. To blame '
        '(ONNX Runtime profile):')
    for item in blame(first.path, timing.path, threads):
        console.print(f'  {item.name}: {item.before:.3f} -> {item.after:.3f} ms')


if __name__ == '__main__':
    run_tool(main)
