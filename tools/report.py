"""Draw the report of finished or running searches again, or compare them.

One work directory: writes its tradeoff.csv, tradeoff.png, policies.png and
report.html again. Several: also prints searcher x target and draws one plot.
"""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

from mmcompress.errors import CompressionError
from mmcompress.files import write_text
from mmcompress.report import (
    comparison_table,
    load_outcome,
    make_comparison,
    plot_comparison,
    print_table,
    write_all,
)


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('work_dirs', nargs='+', metavar='WORK_DIR',
                        help='work directory of tools/search.py')
    parser.add_argument(
        '--out', help='folder for comparison.png and comparison.md (default: the '
        'folder that holds all work directories)')
    return parser.parse_args(argv)


def names_of(paths: list[Path]) -> list[str]:
    """Names that tell the work directories apart: their paths below a common one."""
    root = common_folder(paths)
    return [str(path.resolve().relative_to(root)) for path in paths]


def common_folder(paths: list[Path]) -> Path:
    """Deepest folder that holds every work directory."""
    return Path(os.path.commonpath([path.resolve().parent for path in paths]))


def main(argv: list[str] | None = None) -> int:
    """Run the tool and return its exit status."""
    args = parse_args(argv)
    paths = [Path(p) for p in dict.fromkeys(args.work_dirs)]
    try:
        outcomes = dict(zip(names_of(paths), map(load_outcome, paths)))
        for path, outcome in zip(paths, outcomes.values()):
            print_table(outcome.tradeoff)
            written = write_all(outcome, path if path.is_dir() else path.parent)
            print('wrote', ', '.join(map(str, written.values())))
        if len(outcomes) > 1:
            out = Path(args.out) if args.out else common_folder(paths)
            comparison = make_comparison(outcomes)
            table = comparison_table(comparison)
            table.print()
            for note in comparison.notes:
                print('Note:', note)
            lines = [f'{table.title}.', *comparison.notes, '', table.markdown(), '']
            write_text(out / 'comparison.md', '\n'.join(lines))
            plot_comparison(comparison, out / 'comparison.png')
            print('wrote', out / 'comparison.md,', out / 'comparison.png')
    except CompressionError as error:
        print(f'error: {error}', file=sys.stderr)
        return 1
    return 0


if __name__ == '__main__':
    sys.exit(main())
