"""Searchers, and the study that keeps their history on disk."""

from .base import Evaluated, Searcher
from .budget import fit_to_budget, uniform_row
from .choose import choose
from .evolution import Evolution
from .front import best_per_target, pareto_front
from .islands import Islands
from .ladder import Ladder
from .legr import LeGR
from .listed import Listed
from .random import Random
from .ranking import Ranking
from .seernet import SeerNet
from .study import Claim, Failure, Study
from .two_stage import TwoStage
from .uniform import Uniform

__all__ = [
    'Claim', 'Evaluated', 'Evolution', 'Failure', 'Islands', 'Ladder', 'LeGR',
    'Listed', 'Random', 'Ranking', 'Searcher', 'SeerNet', 'Study', 'TwoStage',
    'Uniform', 'best_per_target', 'choose', 'fit_to_budget', 'pareto_front',
    'uniform_row',
]
