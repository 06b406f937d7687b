"""The baseline: random policies that use up their budget."""

from __future__ import annotations

from ..registry import SEARCHERS
from .base import Searcher


@SEARCHERS.register_module()
class Random(Searcher):
    """Random rows fitted to the targets in turn: what every searcher falls back to."""
