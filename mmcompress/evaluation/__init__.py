"""Measuring what policies achieve: scores, distances, batch norms, a few SGD steps.

Images and metrics come from outside: nothing here opens a dataset or reads a config.
"""

from .dynamic_bn import dynamic_bn, recalibrate
from .finetune import Finetuning, finetune
from .policy_evaluator import PolicyEvaluator, Score

__all__ = [
    'Finetuning', 'PolicyEvaluator', 'Score', 'dynamic_bn', 'finetune', 'recalibrate',
]
