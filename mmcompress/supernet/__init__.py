"""Stage-wise supernets: training networks of all widths at once, and their search."""

from .stage_losses import StageLossEvaluator
from .stage_prices import StageLossPrices
from .stages import Stage, find_stages, read_stages
from .supernet import Supernet
from .train_loop import SupernetIterTrainLoop, SupernetTrainLoop

__all__ = [
    'Stage', 'StageLossEvaluator', 'StageLossPrices', 'Supernet',
    'SupernetIterTrainLoop', 'SupernetTrainLoop', 'find_stages', 'read_stages',
]
