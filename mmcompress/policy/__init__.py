"""Policies, what they decide about, and the space they come from."""

from .policy import FLOAT, Bits, Policy
from .scores import ChannelScores
from .space import SearchSpace, width_choices
from .units import IN, OUT, ChannelUnit, Layer, Member, ModelGraph

__all__ = [
    'FLOAT', 'IN', 'OUT', 'Bits', 'ChannelScores', 'ChannelUnit', 'Layer', 'Member',
    'ModelGraph', 'Policy', 'SearchSpace', 'width_choices',
]
