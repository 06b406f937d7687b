"""Measuring what policies achieve."""

from .dynamic_bn import dynamic_bn, recalibrate
from .finetune import Finetuning, finetune
from .images import Batch
from .policy_evaluator import PolicyEvaluator, Score
from .prices import GradientPrices, MeasuredPrices

__all__ = [
    'Batch', 'Finetuning', 'GradientPrices', 'MeasuredPrices', 'PolicyEvaluator',
    'Score', 'dynamic_bn', 'finetune', 'recalibrate',
]
