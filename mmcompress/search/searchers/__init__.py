"""Searchers: each proposes policies from the history of evaluated ones."""

from .evolution import Evolution
from .islands import Islands
from .legr import LeGR
from .listed import Listed
from .random import Random
from .seernet import SeerNet
from .two_stage import TwoStage
from .uniform import Uniform

__all__ = [
    'Evolution', 'Islands', 'LeGR', 'Listed', 'Random', 'SeerNet', 'TwoStage',
    'Uniform',
]
