"""What a policy costs: one function a cost, over rows of a space, and budgets on them.

Costs are arithmetic on a :class:`CostTable`; nothing here runs a model or measures one.
"""

from .functions import activation_bytes, bops, macs, params, size_bytes
from .table import Costs, CostTable, costs_of
from .targets import Target, granted, joined, parse_targets, tightest, within

__all__ = [
    'CostTable', 'Costs', 'Target', 'activation_bytes', 'bops', 'costs_of', 'granted',
    'joined', 'macs', 'params', 'parse_targets', 'size_bytes', 'tightest', 'within',
]
