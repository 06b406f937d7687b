"""Write how many networks of the model zoo count, into the README and the documents.

.venv/bin/python -m tools.dev.reach [--lists FOLDER]

The lists say which networks there are, the CSV of `make zoo` which of them were checked
and what was found. The text goes between two comments of each page.
"""

from __future__ import annotations

import argparse
import csv
import re
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from tools.zoo.check import ZooResult
from tools.zoo.table import counts

ROOT = Path(__file__).resolve().parents[2]
RESULTS = ROOT / 'docs/measurements/zoo.csv'
LISTS = {'mmdet': ('mmdet_3.5.1.csv', ''),
         'mmpretrain': ('mmpretrain_1.3.6.csv', '_base_/models/')}
"""By package, the list of its networks, and the folder that its paths are in."""
PAGES = {'README.md': 'docs/measurements/zoo.md', 'docs/measurements/zoo.md': ''}
"""Pages with the text, and where they send those who want to know more."""
PLACE = re.compile(r'(?<=<!-- reach -->\n).*?(?=<!-- end of reach -->)', re.DOTALL)


@dataclass(frozen=True)
class Reach:
    """How far the networks of one package can be compressed.

    Args:
        package (str): ``'mmdet'`` or ``'mmpretrain'``.
        networks (int): How many there are.
        checked, counting (int): How many of them were checked, and do count.
    """

    package: str
    networks: int
    checked: int
    counting: int


def reach(lists: Path, results: Path) -> list[Reach]:
    """Read what was found, of the networks in the lists alone.

    Args:
        lists (Path): Folder of :data:`LISTS`.
        results (Path): CSV file of tools/check_zoo.py; an absent one has no rows.
    """
    rows = _rows(results) if results.exists() else []
    found = []
    for package, (name, prefix) in LISTS.items():
        networks = {prefix + row['config'] for row in _rows(lists / name)}
        checked = [r for r in map(_result, rows)
                   if r.package == package and r.config in networks]
        found.append(
            Reach(package, len(networks), len(checked), sum(map(counts, checked))))
    return found


def _rows(path: Path) -> list[dict[str, str]]:
    with open(path, newline='') as file:
        return list(csv.DictReader(file))


def _result(row: dict[str, str]) -> ZooResult:
    """What decides whether a network counts; further columns do not."""
    return ZooResult(row['package'], row['config'], row['family'], row['stage'],
                     governed=float(row['governed']))


def text(found: Sequence[Reach], link: str = '') -> str:
    """One paragraph.

    Args:
        found (Sequence[Reach]): By package.
        link (str): A page that says what counts. Defaults to none.
    """
    networks = sum(r.networks for r in found)
    checked = sum(r.checked for r in found)
    counting = sum(r.counting for r in found)
    if not checked:
        were = f'[were]({link})' if link else 'were'
        return (f'**Reach**: none of the {networks} networks of the model zoo is '
                f'checked by `make zoo` yet; samples {were}.\n')
    parts = ', '.join(f'{r.package} {r.counting} of {r.checked}' for r in found
                      if r.checked)
    count = f'[count]({link})' if link else 'count'
    return (f'**Reach**: {checked} of the {networks} networks of the model zoo are '
            f'checked; {counting} of these {count} ({counting / checked:.1%}): '
            f'{parts}.\n')


def write(pages: Iterable[str], found: Sequence[Reach], root: Path = ROOT) -> None:
    """Put the text into pages, between their comments.

    Raises:
        SystemExit: A page has no such place.
    """
    for page in pages:
        path = root / page
        before = path.read_text(encoding='utf-8')
        new = text(found, PAGES[page])
        after, places = PLACE.subn(lambda _, new=new: new, before)
        if not places:
            sys.exit(f'{page} has no lines <!-- reach --> and <!-- end of reach -->')
        if after != before:
            path.write_text(after, encoding='utf-8')


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--lists', type=Path, default=ROOT / '../shared/zoo',
                        help='folder of the lists of networks')
    args = parser.parse_args()
    if not args.lists.is_dir():
        sys.exit(f'There is no folder {args.lists}; name the one that has the lists of '
                 'networks with --lists.')
    found = reach(args.lists, RESULTS)
    write(PAGES, found)
    print(text(found), end='')


if __name__ == '__main__':
    main()
