"""Published policies as a table."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from ..policy.published import PublishedPolicy
from .formats import format_score, format_share, score_decimals
from .tables import TextTable

CLOSE = 1e-6
"""Shares of MACs and BOPs that differ by less are the same: no layer has bits."""


def published_table(policies: Sequence[PublishedPolicy]) -> TextTable:
    """Lay published policies out; BOPs have a column only where layers have bits."""
    with_bits = any(
        abs(policy.shares.get('bops', 0) - policy.shares.get('macs', 0)) > CLOSE
        for policy in policies)
    costs = ('macs', 'bops') if with_bits else ('macs',)
    rows = []
    for policy in policies:
        decimals = score_decimals([policy.score, policy.dense_score])
        rows.append((
            policy.name, policy.network, policy.dataset, policy.metric,
            *(format_share(policy.shares.get(cost)) for cost in costs),
            format_score(policy.score, decimals),
            format_score(policy.dense_score, decimals), _shown(policy.path)))
    return TextTable(
        'Published policies; costs are shares of the dense network\'s',
        ('name', 'network', 'data', 'metric', 'MACs', *(['BOPs'] if with_bits else []),
         'score', 'dense', 'policy file'),
        tuple(rows), left=4)


def _shown(path: Path) -> str:
    """A path from here, if it is below."""
    here = Path.cwd()
    return str(path.relative_to(here) if path.is_relative_to(here) else path)
