"""Check configs of the model zoo, one process each: tools/check_zoo.py LIST --out CSV.

LIST is a CSV file with a column ``config`` (and ``family``), or config paths and
globs inside the package's configs. Run again to continue; rows there are kept. Further
checks (--checks, --all-checks) have columns of their own.
"""

import argparse
import csv
import importlib
import multiprocessing
import os
import random
import resource
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import IO

import torch
from zoo.check import ZooResult, family_of, results_of
from zoo.further import FURTHER, RUNNING
from zoo.table import zoo_table

import mmcompress  # (must precede mmdet and mmpretrain)
from mmcompress.errors import CompressionError
from mmcompress.openmmlab.cli import run_tool
from mmcompress.options import Count, Positive, parsed

GRACE = 60
"""Seconds that a further check has to end after its limit."""


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
        help='limit for the first checks of a config, and for each further one')
    parser.add_argument('--gigabytes', type=parsed(Positive), default=8,
                        help='limit per config')
    parser.add_argument(
        '--checks', type=parsed_checks, default=(), dest='further', metavar='NAMES',
        help=f'further checks, separated by commas: {", ".join(sorted(FURTHER))}')
    parser.add_argument('--all-checks', action='store_const', const=tuple(FURTHER),
                        dest='further', help='make all further checks')
    for name in ('fake_quant', 'export'):
        parser.add_argument(
            f'--{name.replace("_", "-")}', action='append_const', const=name,
            dest='single', help=f'the same as --checks {name}, besides others')
    return parser.parse_args()


def parsed_checks(text: str) -> tuple[str, ...]:
    """Names of further checks."""
    names = tuple(filter(None, text.split(',')))
    if unknown := set(names) - FURTHER.keys():
        raise argparse.ArgumentTypeError(
            f'no check is called {min(unknown)}, but {", ".join(sorted(FURTHER))} are')
    return names


def main() -> None:
    args = parse_args()
    args.further = (*args.further, *(args.single or ()))
    args.revision = revision()
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


def revision() -> str:
    """The revision of the code that checks, or its version outside a repository."""
    found = subprocess.run(
        ['git', 'describe', '--always', '--dirty', '--exclude=*'],
        cwd=Path(__file__).parent, capture_output=True, text=True, check=False)
    return found.stdout.strip() or mmcompress.__version__


@dataclass
class Child:
    """A process that checks one config, and where its result and messages go.

    Args:
        results (list[ZooResult]): What it has sent; the last one says the most.
        since (float): When it sent that, or began.
    """

    process: multiprocessing.Process
    pipe: Connection
    messages: IO[str]
    config: str
    family: str
    start: float
    since: float
    results: list[ZooResult] = field(default_factory=list)

    def listen(self) -> bool:
        """Take what it has sent; whether it has ended."""
        try:
            while self.pipe.poll():
                self.results.append(ZooResult(**self.pipe.recv()))
                self.since = time.monotonic()
        except EOFError:
            return True
        return False


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
            ended = child.listen()
            # A further check stops itself; this is for one that cannot.
            limit = args.seconds + GRACE * bool(child.results)
            if ended or time.monotonic() - child.since > limit:
                running.remove(child)
                yield finish(args, child, ended)


def start(args: argparse.Namespace, config: str, family: str) -> Child:
    """Begin to check one config."""
    context = multiprocessing.get_context('fork')
    receive, send = context.Pipe(duplex=False)
    messages = tempfile.TemporaryFile('w+')  # noqa: SIM115  (closed by finish)
    process = context.Process(target=work, args=(send, messages, args, config, family))
    process.start()
    send.close()
    now = time.monotonic()
    return Child(process, receive, messages, config, family, now, now)


def work(
    send: Connection, messages: IO[str], args: argparse.Namespace, config: str,
    family: str,
) -> None:
    """Check one config; the results go into the pipe, all else into a file."""
    limit = int(args.gigabytes * 2**30)
    resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))
    for stream in (1, 2):
        os.dup2(messages.fileno(), stream)
    for result in results_of(
            args.package, config, family, args.further, args.seconds):
        send.send(asdict(result))


def finish(args: argparse.Namespace, child: Child, ended: bool) -> ZooResult:
    """The result of a process that has ended or is stopped now.

    Of one that was stopped or has crashed, what it had sent is kept.
    """
    seconds = time.monotonic() - child.start
    try:
        stage, reason = 'time', f'over {args.seconds} s'
        if ended:
            child.process.join()
            stage, reason = last_words(child)
        if not child.results:
            return ZooResult(args.package, child.config, child.family, stage, reason,
                             seconds=seconds, revision=args.revision)
        found = child.results[-1]
        broken = [n for n in FURTHER if getattr(found, n) == RUNNING]
        status = dict.fromkeys(broken, f'{stage}: {reason}')
        if broken:  # and those that would have come
            later = list(FURTHER)[list(FURTHER).index(broken[0]) + 1:]
            status |= {n: f'not reached: {broken[0]} ended the process'
                       for n in later if n in args.further}
        return replace(found, revision=args.revision, **status)
    finally:
        child.process.kill()
        child.process.join()
        child.pipe.close()
        child.messages.close()


def last_words(child: Child) -> tuple[str, str]:
    """Why a process ended: a stage of :class:`ZooResult`, and a reason."""
    child.messages.seek(0)
    text = child.messages.read().strip()
    last = (text.splitlines() or ['no message'])[-1]
    memory = 'MemoryError' in text or "can't allocate memory" in text
    return ('memory' if memory else 'crash',
            f'exit code {child.process.exitcode}: {last[:200]}')


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
