"""Measuring what policies achieve."""

from .dynamic_bn import dynamic_bn, recalibrate
from .finetune import Finetuning, finetune
from .policy_evaluator import PolicyEvaluator, Score

__all__ = [
    'Finetuning', 'PolicyEvaluator', 'Score', 'dynamic_bn', 'finetune', 'recalibrate',
]
