"""Stage-wise supernets: training networks of all widths at once, and their search."""

from .stage_losses import StageLossEvaluator
from .stage_prices import StageLossPrices
from .stages import Stage, find_stages, read_stages
from .supernet import Supernet

__all__ = [
    'Stage', 'StageLossEvaluator', 'StageLossPrices', 'Supernet', 'find_stages',
    'read_stages',
]
