"""Searchers: pure functions from the history of a search to the next candidates.

They know a model as a space, costs and data about it (channel scores, prices). What
needs the model itself lives in other rooms, and so does the history on disk (`study`).
"""

from .base import Searcher
from .budget import fit_to_budget
from .evaluated import Evaluated
from .evolution import Evolution
from .front import best_per_target, pareto_front
from .islands import Islands
from .ladder import Ladder
from .legr import LeGR
from .listed import Listed
from .random import Random
from .ranking import Ranking
from .seernet import SeerNet
from .starts import uniform_row
from .two_stage import TwoStage
from .uniform import Uniform

__all__ = [
    'Evaluated', 'Evolution', 'Islands', 'Ladder', 'LeGR', 'Listed', 'Random',
    'Ranking', 'Searcher', 'SeerNet', 'TwoStage', 'Uniform', 'best_per_target',
    'fit_to_budget', 'pareto_front', 'uniform_row',
]
