"""Making a live model behave as a policy says."""

from .channel import ChannelMutator, permute
from .importance import importance

__all__ = ['ChannelMutator', 'importance', 'permute']
