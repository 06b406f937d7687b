"""Stage-wise supernets: training networks of all widths at once, and their search."""

from .stage_losses import StageLosses
from .stage_prices import StageLossPrices
from .stages import Stage, find_stages, read_stages
from .supernet import Supernet

__all__ = [
    'Stage',
    'StageLossPrices',
    'StageLosses',
    'Supernet',
    'find_stages',
    'read_stages',
]
