"""The trade-off as a table: in the terminal, in a log, in markdown."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from .formats import UNKNOWN, format_cost, format_score, format_share, score_decimals
from .tradeoff import Tradeoff, TradeoffRow

if TYPE_CHECKING:
    from rich.console import Console


@dataclass(frozen=True)
class TextTable:
    """Cells ready to print.

    Args:
        title (str): One line above the table.
        header (tuple[str, ...]): Column names.
        rows (tuple[tuple[str, ...], ...]): Cells.
        left (int): Number of leading columns that hold text, not numbers.
    """

    title: str
    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    left: int = 1

    def text(self) -> str:
        """Render as aligned plain text, e.g. for a log file."""
        lines = [self.header, *self.rows]
        widths = [max(len(line[i]) for line in lines) for i in range(len(self.header))]

        def align(line: Sequence[str]) -> str:
            return '  '.join(
                c.ljust(w) if i < self.left else c.rjust(w)
                for i, (c, w) in enumerate(zip(line, widths))).rstrip()

        rule = '  '.join('-' * w for w in widths)
        return '\n'.join(
            [self.title, align(self.header), rule, *map(align, self.rows)])

    def markdown(self) -> str:
        """Render as a GitHub table, without the title."""
        marks = ['---' if i < self.left else '---:' for i in range(len(self.header))]
        lines = [self.header, marks, *self.rows]
        return '\n'.join(
            '| ' + ' | '.join(c.replace('|', '\\|') for c in line) + ' |'
            for line in lines)

    def print(self, console: Console | None = None) -> None:
        """Print with rich; as plain text where the terminal is too narrow."""
        from rich import box
        from rich.console import Console
        from rich.table import Table
        from rich.text import Text

        console = console or Console()
        if max(map(len, self.text().splitlines()[1:])) + 4 > console.width:
            # A folded number or name is worse than a line the terminal wraps.
            console.print(Text(self.text()), soft_wrap=True)
            return
        table = Table(
            title=Text(self.title), title_justify='left', box=box.SIMPLE_HEAD)
        for i, name in enumerate(self.header):
            table.add_column(
                Text(name), justify='left' if i < self.left else 'right', no_wrap=True)
        for row in self.rows:
            # Text, so that a name with brackets is not taken for markup.
            table.add_row(*map(Text, row))
        console.print(table)


def _columns(tradeoff: Tradeoff) -> list[tuple[str, str]]:
    """Attribute and heading of every cost worth a column."""
    rows = tradeoff.all_rows
    columns = [('macs', 'MACs'), ('macs_ratio', 'of dense'), ('params', 'params')]
    # Without quantisation BOPs are the MACs times a constant.
    factors = {round(r.bops / r.macs, 6) for r in rows if r.bops and r.macs}
    if len(factors) > 1:
        columns.append(('bops', 'BOPs'))
    columns += [('size_bytes', 'size'), ('latency_ms', 'latency')]
    return [c for c in columns if any(getattr(r, c[0]) is not None for r in rows)]


def _render(row: TradeoffRow, name: str) -> str:
    value = getattr(row, name)
    return format_share(value) if name == 'macs_ratio' else format_cost(name, value)


def tradeoff_table(tradeoff: Tradeoff) -> TextTable:
    """Lay out a trade-off; columns that nothing is known about are left out."""
    columns = _columns(tradeoff)
    decimals = score_decimals(
        [r.score for r in tradeoff.all_rows] + [tradeoff.dense_score])
    tested = [f'test {tradeoff.test_name}'] if tradeoff.test_name else []
    test_decimals = score_decimals([r.test for r in tradeoff.all_rows])
    rows = []
    for row in tradeoff.all_rows:
        known = row.score is not None and row.dense_score is not None
        change = row.score - row.dense_score if known and row.policy else None
        rows.append((
            row.target, row.policy or UNKNOWN,
            *(_render(row, name) for name, _ in columns),
            format_score(row.score, decimals),
            UNKNOWN if change is None else f'{change:+.{decimals}f}',
            *(format_score(row.test, test_decimals) for _ in tested)))
    parts = [f'Trade-off by {tradeoff.score_name}', tradeoff.searcher,
             f'{tradeoff.evaluations} evaluations']
    if tradeoff.failures:
        parts.append(f'{tradeoff.failures} failed')
    return TextTable(
        ', '.join(p for p in parts if p),
        ('target', 'policy', *(h for _, h in columns), 'score', 'vs dense', *tested),
        tuple(rows), left=2)


def table_text(tradeoff: Tradeoff) -> str:
    """Trade-off as plain text."""
    return tradeoff_table(tradeoff).text()


def table_markdown(tradeoff: Tradeoff) -> str:
    """Trade-off as a markdown table."""
    return tradeoff_table(tradeoff).markdown()


def print_table(tradeoff: Tradeoff, console: Console | None = None) -> None:
    """Print the trade-off with rich."""
    tradeoff_table(tradeoff).print(console)
