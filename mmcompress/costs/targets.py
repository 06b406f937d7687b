"""Budgets on a cost."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

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


TOGETHER = 'together'
"""Key of targets that limit several costs at once."""


def parse_targets(
    spec: Mapping[str, float | Sequence], costs: Costs
) -> tuple[Target, ...]:
    """Read the ``targets`` of a configuration.

    A value up to 1 is a fraction of the dense cost, a larger one is absolute;
    costs whose name ends in ``_ms`` are always absolute. Each value is a target of
    its own. Each entry of ``together``, such as ``dict(bops=0.05, size_bytes=0.2)``,
    is one target that limits all its costs: the largest cost relative to its limit,
    itself a cost, may be 1 at most.

    Args:
        spec (Mapping): Cost name to one value or several.
        costs (Costs): The costs of the model; the costs of ``together`` join them.

    Returns:
        tuple[Target, ...]: In the order written.

    Raises:
        TargetError: Unknown cost, malformed value, or a budget that even the
            cheapest policy of the space exceeds.
    """
    targets = []
    dense = costs.dense()
    for cost, values in (spec or {}).items():
        if cost not in (*costs.functions, TOGETHER):
            raise TargetError(_unknown(cost, costs))
        for value in values if isinstance(values, Sequence) else [values]:
            if cost == TOGETHER:
                targets.append(_together(value, costs, dense))
            else:
                limit = _limit(cost, value, costs, dense)
                targets.append(Target(cost, float(value), limit))
    if not targets:
        raise TargetError('No targets given; write e.g. targets=dict(macs=[0.5]).')
    return tuple(targets)


def _unknown(cost: str, costs: Costs) -> str:
    return f'Unknown cost {cost!r} in targets; known: {", ".join(costs.names())}.'


def _limit(
    cost: str, value: float, costs: Costs, dense: Mapping[str, float]
) -> float:
    """The absolute limit of one budget."""
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    if not number or not np.isfinite(value) or value <= 0:
        raise TargetError(f'Target {cost}={value!r} is not a positive number.')
    cheapest = float(costs.of_rows(cost, costs.space.lowest))
    relative = value <= 1 and not cost.endswith('_ms')
    limit = value * dense[cost] if relative else float(value)
    if limit < cheapest * (1 - 1e-9):
        raise TargetError(
            f'Target {cost}={value:g} ({limit:.6g}) is below the cheapest '
            f'policy of the search space. Attainable: {cheapest:.6g} '
            f'({cheapest / dense[cost]:.3f} of dense) to {dense[cost]:.6g}. '
            'Raise the target or widen the space (min_ratio, bits).')
    return limit


def _together(
    spec: Mapping[str, float], costs: Costs, dense: Mapping[str, float]
) -> Target:
    """One target for several costs, through a cost that is made for it."""
    if not isinstance(spec, Mapping) or not spec:
        raise TargetError(
            f'{TOGETHER}={spec!r} in targets is not a list of budgets such as '
            'dict(bops=0.05, size_bytes=0.2).')
    if unknown := [cost for cost in spec if cost not in costs.functions]:
        raise TargetError(_unknown(unknown[0], costs))
    limits = {cost: _limit(cost, value, costs, dense) for cost, value in spec.items()}
    parts = {cost: costs.functions[cost] for cost in limits}

    def largest(*arguments: object) -> Tensor:
        return torch.stack([
            parts[cost](*arguments) / limit for cost, limit in limits.items()
        ]).amax(0)

    # For solvers that handle several budgets: each is a sum, the largest is not.
    largest.limits = limits
    name = '+'.join(f'{cost}_{value:g}' for cost, value in spec.items())
    costs.functions[name] = largest
    return Target(name, 1.0, 1.0)
