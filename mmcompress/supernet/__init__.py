"""Stage-wise supernets: networks of all widths at once, compared stage by stage.

What trains them is in `openmmlab/loops`; nothing here knows a Runner or a config.
"""

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
