"""Making a live model behave as a policy says."""

from .channel import ChannelMutator, permute
from .importance import channel_scores, importance

__all__ = ['ChannelMutator', 'channel_scores', 'importance', 'permute']
