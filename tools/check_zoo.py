"""Check configs of the model zoo, one process each: tools/check_zoo.py LIST --out CSV.

LIST is a CSV file with a column ``config`` (and ``family``), or config paths and
globs inside the package's configs. Run again to continue; rows there are kept.
"""

import argparse
import csv
import importlib
import multiprocessing
import os
import random
import resource
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, fields
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import IO

import torch
from zoo.check import ZooResult, check_config, family_of
from zoo.table import zoo_table

import mmcompress  # noqa: F401  (must precede mmdet and mmpretrain)
from mmcompress.errors import CompressionError
from mmcompress.openmmlab.cli import run_tool
from mmcompress.options import Count, Positive, parsed


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('configs', nargs='*', help='CSV lists, config paths or globs')
    parser.add_argument('--package', choices=['mmdet', 'mmpretrain'], default='mmdet')
    parser.add_argument('--prefix', default='', help='folder that the paths are in')
    parser.add_argument('--out', default='work_dirs/zoo.csv', help='result CSV')
    parser.add_argument(
        '--sample', type=parsed(Count),
        help='check so many, drawn at random')
    parser.add_argument('--seed', type=int, default=0, help='seed of the sample')
    parser.add_argument(
        '--workers', type=parsed(Count), default=1,
        help='processes at a time')
    parser.add_argument(
        '--seconds', type=parsed(Count), default=300,
        help='limit per config')
    parser.add_argument('--gigabytes', type=parsed(Positive), default=8,
                        help='limit per config')
    parser.add_argument('--fake-quant', action='append_const', const='fake_quant',
                        dest='options', help='act as random widths and bits, too')
    parser.add_argument('--export', action='append_const', const='export',
                        dest='options', help='compare an ONNX file of each, too')
    return parser.parse_args()


def main() -> None:
    args = parse_args()
    wanted = list(configs(args))
    if not wanted:
        raise CompressionError('No config to check; name a CSV list, paths or globs.')
    if args.sample:
        wanted = random.Random(args.seed).sample(wanted, min(args.sample, len(wanted)))
    out = Path(args.out)
    done = read(out)
    known = {(r.package, r.config) for r in done}
    todo = [(c, f) for c, f in wanted if (args.package, c) not in known]
    print(f'{len(wanted)} configs, {len(wanted) - len(todo)} of them done')
    for result in isolated(args, todo):
        append(out, result)
        done.append(result)
        print(f'[{len(done)}] {result.config}: {result.stage} {result.reason[:90]} '
              f'({result.units} units, {result.governed:.0%} of MACs, '
              f'{result.seconds:.0f} s)', flush=True)
    print(zoo_table(done))


def configs(args: argparse.Namespace) -> Iterator[tuple[str, str]]:
    """Config paths inside the package's configs, with their families."""
    root = Path(importlib.util.find_spec(args.package).origin).parent / '.mim/configs'
    for item in args.configs:
        if item.endswith('.csv'):
            with open(item, newline='') as file:
                for row in csv.DictReader(file):
                    path = args.prefix + row['config']
                    family = row.get('family', '.')
                    yield path, family if family != '.' else family_of(row['config'])
        else:
            for path in sorted(root.glob(args.prefix + item)):
                name = path.relative_to(root).as_posix()
                yield name, family_of(name.removeprefix(args.prefix))


@dataclass(frozen=True)
class Child:
    """A process that checks one config, and where its result and messages go."""

    process: multiprocessing.Process
    pipe: Connection
    messages: IO[str]
    config: str
    family: str
    start: float


def isolated(
    args: argparse.Namespace, todo: Sequence[tuple[str, str]]
) -> Iterator[ZooResult]:
    """Check each config in a process of its own, within its limits."""
    # Forked from a process that has the libraries, a child need not import them.
    torch.set_num_threads(1)
    for part in ('models', 'datasets'):
        importlib.import_module(f'{args.package}.{part}')
    waiting, running = list(reversed(todo)), []
    while waiting or running:
        while waiting and len(running) < args.workers:
            running.append(start(args, *waiting.pop()))
        wait([child.pipe for child in running], timeout=0.5)
        for child in list(running):
            late = time.monotonic() - child.start > args.seconds
            if child.pipe.poll() or late:
                running.remove(child)
                yield finish(args, child)


def start(args: argparse.Namespace, config: str, family: str) -> Child:
    """Begin to check one config."""
    context = multiprocessing.get_context('fork')
    receive, send = context.Pipe(duplex=False)
    messages = tempfile.TemporaryFile('w+')  # noqa: SIM115  (closed by finish)
    process = context.Process(target=work, args=(
        send, messages, args.gigabytes, args.package, config, family,
        tuple(args.options or ())))
    process.start()
    send.close()
    return Child(process, receive, messages, config, family, time.monotonic())


def work(
    send: Connection, messages: IO[str], gigabytes: float, package: str, config: str,
    family: str, options: tuple[str, ...],
) -> None:
    """Check one config; the result goes into the pipe, all else into a file."""
    limit = int(gigabytes * 2**30)
    resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))
    for stream in (1, 2):
        os.dup2(messages.fileno(), stream)
    send.send(asdict(check_config(package, config, family, options)))


def finish(args: argparse.Namespace, child: Child) -> ZooResult:
    """The result of a process that has ended or is stopped now."""
    seconds = time.monotonic() - child.start
    here = (args.package, child.config, child.family)
    try:
        if not child.pipe.poll():
            return ZooResult(
                *here, 'time', f'over {args.seconds} s', seconds=seconds)
        return ZooResult(**child.pipe.recv())
    except EOFError:
        child.process.join()
        child.messages.seek(0)
        text = child.messages.read().strip()
        last = (text.splitlines() or ['no message'])[-1]
        memory = 'MemoryError' in text or "can't allocate memory" in text
        return ZooResult(
            *here, 'memory' if memory else 'crash',
            f'exit code {child.process.exitcode}: {last[:200]}', seconds=seconds)
    finally:
        child.process.kill()
        child.process.join()
        child.pipe.close()
        child.messages.close()


def read(path: Path) -> list[ZooResult]:
    """Results of earlier runs."""
    if not path.exists():
        return []
    types = {f.name: {'int': int, 'float': float}.get(f.type, str)
             for f in fields(ZooResult)}
    with open(path, newline='') as file:
        header = next(csv.reader(file), None)
        if header != list(types):
            raise CompressionError(
                f'{path} has other columns than this version writes; name another '
                '--out.')
        file.seek(0)
        return [ZooResult(**{k: types[k](v) for k, v in row.items()})
                for row in csv.DictReader(file)]


def append(path: Path, result: ZooResult) -> None:
    """Add one row; it is on disk when this returns."""
    path.parent.mkdir(parents=True, exist_ok=True)
    new = not path.exists()
    with open(path, 'a', newline='') as file:
        writer = csv.DictWriter(file, [f.name for f in fields(ZooResult)])
        if new:
            writer.writeheader()
        writer.writerow(asdict(result))


if __name__ == '__main__':
    run_tool(main)
