"""Loops, hooks and the runner of a search."""

from .calibration_hook import CalibrationHook
from .hooks import SearchLoggerHook, SearchProgressHook
from .input_shape import input_shape_of
from .search_loop import PolicySearchLoop
from .seed_hook import EpochSeedHook

__all__ = [
    'CalibrationHook', 'EpochSeedHook', 'PolicySearchLoop', 'SearchLoggerHook',
    'SearchProgressHook', 'input_shape_of',
]
