"""Making a live model behave as a policy says."""

from .base import Calibration, Mutator
from .channel import ChannelMutator
from .importance import channel_scores, importance
from .joint import JointMutator
from .quant import QuantMutator
from .reconstruct import ReconstructMutator

__all__ = [
    'Calibration', 'ChannelMutator', 'JointMutator', 'Mutator', 'QuantMutator',
    'ReconstructMutator', 'channel_scores', 'importance',
]
