"""Measuring what policies achieve."""

from .dynamic_bn import dynamic_bn, recalibrate
from .images import Batch
from .policy_evaluator import PolicyEvaluator, Score

__all__ = ['Batch', 'PolicyEvaluator', 'Score', 'dynamic_bn', 'recalibrate']
