"""Budgets on a cost."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from ..errors import TargetError
from .table import Costs


@dataclass(frozen=True)
class Target:
    """A budget: ``cost <= limit``.

    Args:
        cost (str): Name of the cost.
        value (float): As the user wrote it.
        limit (float): Absolute limit in the unit of the cost.
    """

    cost: str
    value: float
    limit: float

    @property
    def name(self) -> str:
        """Name used for files and tables, e.g. ``macs_0.5``."""
        return f'{self.cost}_{self.value:g}'

    def met_by(self, costs: Mapping[str, float]) -> bool:
        """Whether a policy with these costs is within the budget."""
        return costs[self.cost] <= self.limit * (1 + 1e-9)


def parse_targets(
    spec: Mapping[str, float | Sequence[float]], costs: Costs
) -> tuple[Target, ...]:
    """Read the ``targets`` of a configuration.

    A value up to 1 is a fraction of the dense cost, a larger one is absolute;
    costs whose name ends in ``_ms`` are always absolute.

    Args:
        spec (Mapping): Cost name to one value or several.
        costs (Costs): The costs of the model.

    Returns:
        tuple[Target, ...]: In the order written.

    Raises:
        TargetError: Unknown cost, malformed value, or a budget that even the
            cheapest policy of the space exceeds.
    """
    targets = []
    dense = costs.dense()
    for cost, values in (spec or {}).items():
        if cost not in costs.functions:
            raise TargetError(
                f'Unknown cost {cost!r} in targets; known: '
                f'{", ".join(costs.names())}.')
        cheapest = float(costs.of_rows(cost, costs.space.lowest))
        for value in values if isinstance(values, Sequence) else [values]:
            number = isinstance(value, (int, float)) and not isinstance(value, bool)
            if not number or not np.isfinite(value) or value <= 0:
                raise TargetError(
                    f'Target {cost}={value!r} is not a positive number.')
            relative = value <= 1 and not cost.endswith('_ms')
            limit = value * dense[cost] if relative else float(value)
            if limit < cheapest * (1 - 1e-9):
                raise TargetError(
                    f'Target {cost}={value:g} ({limit:.6g}) is below the cheapest '
                    f'policy of the search space. Attainable: {cheapest:.6g} '
                    f'({cheapest / dense[cost]:.3f} of dense) to {dense[cost]:.6g}. '
                    'Raise the target or widen the space (min_ratio, bits).')
            targets.append(Target(cost, float(value), limit))
    if not targets:
        raise TargetError('No targets given; write e.g. targets=dict(macs=[0.5]).')
    return tuple(targets)
