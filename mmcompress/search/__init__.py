"""Searchers, and the study that keeps their history on disk.

They know a model as a space, costs and data about it (channel scores, prices); what
needs the model itself, to score a policy for instance, lives in other rooms.
"""

from .base import Searcher
from .budget import fit_to_budget
from .evaluated import Evaluated
from .front import best_per_target, pareto_front
from .ladder import Ladder
from .ranking import Ranking
from .searchers import (
    Evolution,
    Islands,
    LeGR,
    Listed,
    Random,
    SeerNet,
    TwoStage,
    Uniform,
)
from .starts import uniform_row
from .study.choose import choose
from .study.study import Claim, Failure, Study

__all__ = [
    'Claim', 'Evaluated', 'Evolution', 'Failure', 'Islands', 'Ladder', 'LeGR',
    'Listed', 'Random', 'Ranking', 'Searcher', 'SeerNet', 'Study', 'TwoStage',
    'Uniform', 'best_per_target', 'choose', 'fit_to_budget', 'pareto_front',
    'uniform_row',
]
