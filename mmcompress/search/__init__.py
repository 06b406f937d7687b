"""Searchers, and the study that keeps their history on disk."""

from .base import Evaluated, Searcher
from .budget import fit_to_budget, uniform_row
from .choose import choose
from .evolution import Evolution
from .front import best_per_target, pareto_front
from .random import Random
from .study import Claim, Failure, Study
from .uniform import Uniform

__all__ = [
    'Claim', 'Evaluated', 'Evolution', 'Failure', 'Random', 'Searcher', 'Study',
    'Uniform', 'best_per_target', 'choose', 'fit_to_budget', 'pareto_front',
    'uniform_row',
]
