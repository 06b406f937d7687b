"""Layers that a compressed network is made of."""

from .channel_pad import ChannelPad

__all__ = ['ChannelPad']
