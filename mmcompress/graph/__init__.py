"""Tracing a model into units and costs, and verifying what was found."""

from .attention import Heads, register_heads
from .trace import fingerprint, trace
from .verify import verify

__all__ = ['Heads', 'fingerprint', 'register_heads', 'trace', 'verify']
