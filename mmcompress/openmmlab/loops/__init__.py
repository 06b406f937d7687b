"""Loops that mmengine's Runner calls: a search, and trainings of supernets."""

from .search import PolicySearchLoop
from .supernet import SupernetIterTrainLoop, SupernetTrainLoop

__all__ = ['PolicySearchLoop', 'SupernetIterTrainLoop', 'SupernetTrainLoop']
