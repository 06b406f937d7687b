"""Numbers and names as people read them."""

from __future__ import annotations

from collections.abc import Iterable

from ..costs import Target

LABELS = {
    'macs': 'MACs',
    'params': 'Parameters',
    'bops': 'BOPs',
    'size_bytes': 'Size',
    'latency_ms': 'Latency',
}
UNKNOWN = '-'


def cost_label(cost: str) -> str:
    """Name of a cost for headings and axes."""
    return LABELS.get(cost, cost)


def format_cost(cost: str, value: float | None) -> str:
    """Render a cost with a unit, e.g. ``1.26 G`` or ``3.66 MB``."""
    if value is None:
        return UNKNOWN
    if cost.endswith('_ms'):
        digits = f'{value:#.3g}' if abs(value) < 999.5 else f'{value:.0f}'
        return digits.rstrip('.') + ' ms'
    prefixes = ('', 'k', 'M', 'G', 'T', 'P', 'E')
    unit = 'B' if cost.endswith('_bytes') else ''
    step = 0
    # 999.5 is where three digits would round up to 1000 and read as 1e+03.
    while abs(value) >= 999.5 and step < len(prefixes) - 1:
        value, step = value / 1000, step + 1
    if step == 0:
        return f'{value:.4g} {unit}'.rstrip()
    # Three digits always, 2.40 as well as 2.41, so that columns line up.
    return f'{value:#.3g}'.rstrip('.') + f' {prefixes[step]}{unit}'


def format_share(share: float | None) -> str:
    """Render a fraction as a percentage with one decimal."""
    return UNKNOWN if share is None else f'{100 * share:.1f} %'


def score_decimals(scores: Iterable[float | None]) -> int:
    """Decimals for a set of scores: 4 for fractions such as mAP, 2 for percent."""
    largest = max((abs(s) for s in scores if s is not None), default=0.0)
    return 4 if largest <= 1 else 2


def format_score(score: float | None, decimals: int = 4) -> str:
    """Render a score."""
    return UNKNOWN if score is None else f'{score:.{decimals}f}'


def limit_label(target: Target, dense: float | None = None) -> str:
    """Say what a budget allows, e.g. ``<= 50 %`` of the dense model.

    Args:
        target (Target): The budget.
        dense (float, optional): Dense cost. The budget reads as a share only if
            its limit is that share of it.
    """
    relative = (dense is not None and target.value <= 1
                and abs(target.limit - target.value * dense) <= 1e-6 * dense)
    limit = (f'{100 * target.value:g} %' if relative
             else format_cost(target.cost, target.limit))
    return f'≤ {limit}'
