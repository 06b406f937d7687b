"""Tracing a model into units and costs, and verifying what was found."""

from .trace import fingerprint, trace
from .verify import verify

__all__ = ['fingerprint', 'trace', 'verify']
