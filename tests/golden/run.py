"""Golden runs: the same results before and after a change of the code.

run.py record --checkout DIR --out DIR [--only NAME ...]   runs the code of a checkout
run.py compare OUT_A OUT_B [--only NAME ...]               exits with 1 if they differ
run.py against BASE [--only NAME ...]                      both, with a commit as base
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path

from cases import Case, chosen
from comparing import compare_cases
from recording import GOLDEN, GoldenError, Recorder

REPO = GOLDEN.parents[1]


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest='command', required=True)
    record = commands.add_parser('record', help='run the code of a checkout')
    record.add_argument('--checkout', type=Path, default=REPO, help='its folder')
    record.add_argument('--out', type=Path, required=True, help='where to write')
    compare = commands.add_parser('compare', help='compare two recordings')
    compare.add_argument('a', type=Path)
    compare.add_argument('b', type=Path)
    against = commands.add_parser('against', help='compare a checkout with a commit')
    against.add_argument('base', help='the commit')
    against.add_argument('--checkout', type=Path, default=REPO, help='its folder')
    against.add_argument(
        '--cache', type=Path, default=REPO / '.golden',
        help='recordings by commit; those of it are not made again')
    for command in (record, compare, against):
        command.add_argument('--only', nargs='+', metavar='NAME', help='these cases')
    return parser.parse_args()


def main() -> int:
    args = parse_args()
    cases = chosen(args.only)
    try:
        if args.command == 'record':
            record(args.checkout, args.out, cases)
            return 0
        if args.command == 'compare':
            return report(args.a, args.b, cases)
        base = record_commit(args.checkout, args.base, args.cache, cases)
        commit = commit_of(args.checkout)
        out = args.cache / (commit or 'worktree')
        record(args.checkout, out, cases)
        return report(base, out, cases)
    except GoldenError as error:
        sys.exit(str(error))


def record(
    checkout: Path, out: Path, cases: tuple[Case, ...], commit: str | None = None
) -> None:
    """Record cases with the code of a folder, at ``commit`` if that is known."""
    checkout = checkout.resolve()
    commit = commit or commit_of(checkout)
    print(f'Recording {commit or checkout} in {out}', flush=True)
    Recorder(checkout, commit, out.resolve()).record(cases)


def record_commit(
    checkout: Path, base: str, cache: Path, cases: tuple[Case, ...]
) -> Path:
    """Record a commit in a temporary copy of it; return the recording."""
    commit = git(checkout, 'rev-parse', '--verify', f'{base}^{{commit}}')
    with tempfile.TemporaryDirectory(prefix='golden_') as folder:
        # A copy rather than a worktree: nothing stays in git if this is killed.
        archive = Path(folder, 'base.tar')
        git(checkout, 'archive', '--output', str(archive), commit)
        code = Path(folder, 'checkout')
        code.mkdir()
        subprocess.run(['tar', '-xf', archive, '-C', code], check=True)
        record(code, cache / commit, cases, commit)
    return cache / commit


def report(a: Path, b: Path, cases: tuple[Case, ...]) -> int:
    """Print the differences; 1 if there are any."""
    found = compare_cases(a, b, [case.name for case in cases])
    print('\n'.join(found) or f'{len(cases)} golden runs are equal.')
    return int(bool(found))


def commit_of(checkout: Path) -> str | None:
    """The commit of a checkout, None if what is run has been changed since."""
    changed = git(
        checkout, 'status', '--porcelain', '--', 'mmcompress', 'tools', 'configs')
    return None if changed else git(checkout, 'rev-parse', 'HEAD')


def git(checkout: Path, *arguments: str) -> str:
    """Output of a git command.

    Raises:
        GoldenError: It failed.
    """
    done = subprocess.run(
        ['git', '-C', str(checkout), *arguments], capture_output=True, text=True)
    if done.returncode:
        raise GoldenError(f'git {" ".join(arguments)}: {done.stderr.strip()}')
    return done.stdout.strip()


if __name__ == '__main__':
    sys.exit(main())
