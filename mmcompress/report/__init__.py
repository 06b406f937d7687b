"""Reports of a search: first plain objects, then the table, pictures and HTML of them.

Nothing here needs the model, its weights or images, so that a report can be drawn
again from its JSON file alone.
"""

from .compare import Comparison, comparison_table, make_comparison, plot_comparison
from .files import (
    Outcome,
    join_network,
    load_outcome,
    make_outcome,
    save_outcome,
    write_all,
)
from .html import render_report, write_report
from .panels import Panel, make_panels
from .plot import draw_tradeoff, plot_tradeoff
from .policy_chart import PolicyChart, UnitChoice, make_chart, make_charts, plot_charts
from .results import (
    Result,
    Results,
    load_results,
    results_table,
    same_sort,
    save_results,
)
from .summary import GraphSummary, UnitSummary, summarise
from .tables import TextTable, print_table, table_markdown, table_text, tradeoff_table
from .tradeoff import (
    COLUMNS,
    Scored,
    Tradeoff,
    TradeoffRow,
    best_within,
    make_tradeoff,
    read_csv,
    write_csv,
)

__all__ = [
    'COLUMNS', 'Comparison', 'GraphSummary', 'Outcome', 'Panel', 'PolicyChart',
    'Result', 'Results', 'Scored', 'TextTable', 'Tradeoff', 'TradeoffRow',
    'UnitChoice', 'UnitSummary', 'best_within', 'comparison_table', 'draw_tradeoff',
    'join_network', 'load_outcome', 'load_results', 'make_chart', 'make_charts',
    'make_comparison', 'make_outcome', 'make_panels', 'make_tradeoff', 'plot_charts',
    'plot_comparison', 'plot_tradeoff', 'print_table', 'read_csv', 'render_report',
    'results_table', 'same_sort', 'save_outcome', 'save_results', 'summarise',
    'table_markdown', 'table_text', 'tradeoff_table', 'write_all', 'write_csv',
    'write_report',
]
