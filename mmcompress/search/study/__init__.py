"""The study: the history of a search on disk, shared by its workers."""

from .choose import choose
from .study import Claim, Failure, Study

__all__ = ['Claim', 'Failure', 'Study', 'choose']
