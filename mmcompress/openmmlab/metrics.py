"""Metrics at full precision.

mmdet's CocoMetric rounds mAP to three decimals, so policies of .3650 and .3654
would tie, and a search on few images would see plateaus everywhere.
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator

from mmengine.evaluator import Evaluator


@contextlib.contextmanager
def full_precision(evaluator: Evaluator) -> Iterator[None]:
    """Let the metrics of ``evaluator`` return unrounded numbers.

    ``round`` is looked up in the globals of the module that defines a metric; for
    the length of the block it is found there as the identity.
    """
    modules = {sys.modules[cls.__module__] for metric in evaluator.metrics
               for cls in type(metric).__mro__ if cls.__module__ != 'builtins'}
    modules = [m for m in modules if 'round' not in vars(m)]
    for module in modules:
        module.round = lambda value, *_: value
    try:
        yield
    finally:
        for module in modules:
            del module.round
