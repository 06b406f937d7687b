"""Hooks of searches and trainings."""

from .calibration import CalibrationHook
from .checkpoint import WholeCheckpointHook
from .search import SearchLoggerHook, SearchProgressHook
from .seed import EpochSeedHook

__all__ = [
    'CalibrationHook', 'EpochSeedHook', 'SearchLoggerHook', 'SearchProgressHook',
    'WholeCheckpointHook',
]
