"""Draw docs/images/tradeoff-{light,dark}.svg from the tables of docs/reconstruction.md.

.venv/bin/python tools/dev/picture.py
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

import matplotlib

matplotlib.use('svg')
from matplotlib import pyplot

DOCS = Path(__file__).resolve().parents[2] / 'docs'
SOURCE = DOCS / 'reconstruction.md'
COLOURS = {'light': ('#1f2328', '#8c959f', '#3f51b5'),
           'dark': ('#e6edf3', '#8b949e', '#8c9eff')}
"""Of text, of the baseline and of the result."""


@dataclass(frozen=True)
class Panel:
    """A picture of one table.

    Args:
        title (str): What is shown.
        start (str): Words before the table in the text.
        result (str): Label of the row that is the result.
    """

    title: str
    start: str
    result: str


PANELS = (
    Panel('ResNet-56, CIFAR-10: top-1 %', 'ResNet-56, all 30 units',
          'as written, three draws'),
    Panel('YOLOX-nano, COCO val128: mAP', 'YOLOX-nano, all 67 units',
          'as written, three draws'))
BASELINE = 'uniform widths, sliced'


def rows(text: str, start: str) -> dict[str, list[float]]:
    """The first table behind some words: numbers of each row by its label."""
    table = re.search(r'(?:^\|.*\n)+', text[text.index(start):], re.MULTILINE)[0]
    found = {}
    for line in table.splitlines():
        label, *cells = (cell.strip(' *') for cell in line.strip('|').split('|'))
        numbers = [re.fullmatch(r'([\d.]+)(?: %| ± [\d.]+)?', cell) for cell in cells]
        if all(numbers):
            found[label] = [float(number[1]) for number in numbers]
    return found


def draw(scheme: str, text: str) -> None:
    """Write the picture in the colours of one scheme."""
    ink, grey, accent = COLOURS[scheme]
    colours = dict.fromkeys(('axes.edgecolor', 'xtick.color', 'ytick.color'), grey)
    with pyplot.rc_context({
            **colours, 'text.color': ink, 'svg.fonttype': 'none',
            'svg.hashsalt': 'mmcompress', 'font.family': 'sans-serif',
            'axes.spines.top': False, 'axes.spines.right': False}):
        figure, axes = pyplot.subplots(1, 2, figsize=(9, 3.2), layout='constrained')
        for axis, panel in zip(axes, PANELS):
            table = rows(text, panel.start)
            shares = table['share of the MACs']
            dense = table['dense'][0]
            axis.axhline(dense, color=grey, linestyle=':', linewidth=1)
            axis.annotate('dense', (100, dense), (7, 0), color=grey,
                          textcoords='offset points', va='center')
            for label, name, colour in (
                    (BASELINE, 'equal widths', grey),
                    (panel.result, 'mmcompress', accent)):
                axis.plot([100, *shares], [dense, *table[label]], 'o-', color=colour,
                          linewidth=2, markersize=5)
                axis.annotate(
                    name, (shares[-1], table[label][-1]), (-7, 0), color=colour,
                    textcoords='offset points', ha='right', va='center')
            axis.set_title(panel.title, loc='left', fontsize=11)
            axis.set_xlabel('MACs kept, %; no training, no labels', color=grey)
            axis.set_xlim(min(shares) - 0.48 * (100 - min(shares)), 101)
            axis.set_ylim(0, None)
        figure.savefig(
            DOCS / f'images/tradeoff-{scheme}.svg', transparent=True,
            metadata={'Date': None, 'Creator': None})
        pyplot.close(figure)


def main() -> None:
    """Draw both schemes."""
    text = SOURCE.read_text(encoding='utf-8')
    for scheme in COLOURS:
        draw(scheme, text)


if __name__ == '__main__':
    main()
