"""What a policy costs."""

from .functions import activation_bytes, bops, macs, params, size_bytes
from .table import Costs, CostTable
from .targets import Target, parse_targets

__all__ = [
    'CostTable', 'Costs', 'Target', 'activation_bytes', 'bops', 'macs', 'params',
    'parse_targets', 'size_bytes',
]
