"""The study: the history of a search on disk, shared by its workers.

It decides nothing: which policy is evaluated next is up to a searcher.
"""

from .choose import choose
from .study import Claim, Failure, Study

__all__ = ['Claim', 'Failure', 'Study', 'choose']
