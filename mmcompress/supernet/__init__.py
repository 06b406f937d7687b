"""Stage-wise supernets: training networks of all widths at once, and their search."""

from .stage_losses import StageLossEvaluator
from .stage_prices import StageLossPrices
from .stages import Stage, find_stages, read_stages
from .supernet import Supernet
from .train_loop import SupernetTrainLoop

__all__ = [
    'Stage', 'StageLossEvaluator', 'StageLossPrices', 'Supernet', 'SupernetTrainLoop',
    'find_stages', 'read_stages',
]
