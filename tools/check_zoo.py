"""Check configs of the model zoo, one process each: tools/check_zoo.py LIST --out CSV.

LIST is a CSV file with a column ``config`` (and ``family``), or config paths and
globs inside the package's configs. Run again to continue; rows there are kept.
"""

import argparse
import csv
import importlib.util
import json
import os
import random
import resource
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import asdict, fields
from pathlib import Path

import mmcompress  # noqa: F401  (must precede mmdet and mmpretrain)
from mmcompress.engine.cli import run_tool
from mmcompress.errors import CompressionError
from mmcompress.testing.zoo import ZooResult, check_config, family_of
from mmcompress.testing.zoo_table import zoo_table


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('configs', nargs='*', help='CSV lists, config paths or globs')
    parser.add_argument('--package', choices=['mmdet', 'mmpretrain'], default='mmdet')
    parser.add_argument('--prefix', default='', help='folder that the paths are in')
    parser.add_argument('--out', default='work_dirs/zoo.csv', help='result CSV')
    parser.add_argument('--sample', type=int, help='check so many, drawn at random')
    parser.add_argument('--seed', type=int, default=0, help='seed of the sample')
    parser.add_argument('--workers', type=int, default=1, help='processes at a time')
    parser.add_argument('--seconds', type=int, default=300, help='limit per config')
    parser.add_argument('--gigabytes', type=float, default=8, help='limit per config')
    parser.add_argument('--one', metavar='CONFIG', help=argparse.SUPPRESS)
    parser.add_argument('--family', default='', help=argparse.SUPPRESS)
    return parser.parse_args()


def main() -> None:
    args = parse_args()
    if args.one:
        print(json.dumps(asdict(check_config(args.package, args.one, args.family))))
        return
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
    with ThreadPoolExecutor(args.workers) as pool:
        jobs = [pool.submit(isolated, args, c, f) for c, f in todo]
        for job in as_completed(jobs):
            result = job.result()
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


def isolated(args: argparse.Namespace, config: str, family: str) -> ZooResult:
    """Check one config in a process of its own, within its limits."""
    command = [sys.executable, __file__, '--package', args.package,
               '--one', config, '--family', family]
    limit = int(args.gigabytes * 2**30)

    def restrict() -> None:
        resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))

    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=args.seconds,
            preexec_fn=restrict, env=dict(os.environ, OMP_NUM_THREADS='1'))
    except subprocess.TimeoutExpired:
        return ZooResult(args.package, config, family, 'time',
                         f'over {args.seconds} s', seconds=args.seconds)
    if done.returncode == 0:
        return ZooResult(**json.loads(done.stdout.splitlines()[-1]))
    last = (done.stderr.strip().splitlines() or ['no message'])[-1]
    memory = 'MemoryError' in done.stderr or "can't allocate memory" in done.stderr
    return ZooResult(args.package, config, family, 'memory' if memory else 'crash',
                     f'exit code {done.returncode}: {last[:200]}')


def read(path: Path) -> list[ZooResult]:
    """Results of earlier runs."""
    if not path.exists():
        return []
    types = {f.name: {'int': int, 'float': float}.get(f.type, str)
             for f in fields(ZooResult)}
    with open(path, newline='') as file:
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
