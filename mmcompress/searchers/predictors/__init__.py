"""Predictors of scores from policies, and labels to fit them on."""

from .base import Agreement, Predictor
from .features import PolicyFeatures
from .gp import GPPredictor
from .mlp import MLPEnsemblePredictor
from .ridge import RidgePredictor
from .table import LabelTable, read_label_table

__all__ = [
    'Agreement', 'GPPredictor', 'LabelTable', 'MLPEnsemblePredictor',
    'PolicyFeatures', 'Predictor', 'RidgePredictor', 'read_label_table',
]
