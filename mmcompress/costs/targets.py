"""Budgets on a cost."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from ..errors import TargetError
from ..registry import meant
from .table import CostFunction, Costs

SLACK = 1e-9
"""Relative slack of every limit: sums of floats may end a hair above it."""

MEASURED = 'latency_ms'
"""The cost that is measured, and therefore known only where a target asks for it."""

PERCENT = re.compile(r'\s*(\d+\.?\d*)\s*%\s*')

TOGETHER = 'together'
"""Key of targets that limit several costs at once."""


def granted(limit: float | np.ndarray | Tensor) -> float | np.ndarray | Tensor:
    """The largest cost that a limit allows: the limit and its slack."""
    return limit * (1 + SLACK)


def within(
    costs: Costs, limits: Mapping[str, float], rows: Tensor | np.ndarray
) -> np.ndarray:
    """Whether rows of the space ``(..., D)`` meet limits by cost name: ``(...)``."""
    shape, flat = rows.shape[:-1], rows.reshape(-1, rows.shape[-1])
    fits = [costs.of_rows(name, flat).numpy() <= granted(limit)
            for name, limit in limits.items()]
    return np.all(fits, axis=0).reshape(shape)


@dataclass(frozen=True)
class Target:
    """A budget: ``cost <= limit``.

    Args:
        cost (str): Name of the cost.
        value (float): As the user wrote it.
        limit (float): Absolute limit in the unit of the cost.
        parts (tuple): Where the target limits several costs at once, their names
            and absolute limits. The cost is then the largest of them relative to
            its limit.
        percent (bool): Whether the value is a share although the cost's values are
            absolute. Defaults to False.
    """

    cost: str
    value: float
    limit: float
    parts: tuple[tuple[str, float], ...] = ()
    percent: bool = False

    @property
    def name(self) -> str:
        """Name used for files and tables: ``macs_0.5``, ``latency_ms_70pct``."""
        return f'{self.cost}_{100 * self.value:g}pct' if self.percent else \
            f'{self.cost}_{self.value:g}'

    @property
    def limits(self) -> dict[str, float]:
        """The absolute limit of every cost that the target limits."""
        return dict(self.parts) or {self.cost: self.limit}

    def of(self, costs: Mapping[str, float]) -> float:
        """The target's cost of a policy whose other costs are known."""
        if self.cost in costs or not self.parts:
            return costs[self.cost]
        return max(costs[name] / limit for name, limit in self.parts)

    def of_rows(self, costs: Costs, rows: Tensor | np.ndarray) -> Tensor:
        """The target's cost of rows of the space; see :meth:`Costs.of_rows`."""
        return joined(costs, [self]).of_rows(self.cost, rows)

    def met_by(self, costs: Mapping[str, float]) -> bool:
        """Whether a policy with these costs is within the budget."""
        return self.of(costs) <= granted(self.limit)

    def fits(self, costs: Costs, rows: Tensor | np.ndarray) -> np.ndarray:
        """Whether rows of the space ``(..., D)`` are within the budget: ``(...)``."""
        return within(costs, self.limits, rows)


@dataclass(frozen=True)
class Largest:
    """A cost function: the largest of several costs relative to their limits.

    Args:
        parts (tuple): Cost functions and limits.
    """

    parts: tuple[tuple[CostFunction, float], ...]

    def __call__(self, *arguments: object) -> Tensor:
        """See :meth:`Costs.of_rows`."""
        return torch.stack([cost(*arguments) / limit for cost, limit in self.parts]) \
            .amax(0)


def tightest(targets: Iterable[Target]) -> dict[str, float]:
    """Limits by cost name that meet all of the targets."""
    limits: dict[str, float] = {}
    for target in targets:
        for cost, limit in target.limits.items():
            limits[cost] = min(limit, limits.get(cost, limit))
    return limits


def joined(costs: Costs, targets: Iterable[Target]) -> Costs:
    """Costs that also know, by name, the cost of targets that limit several.

    Args:
        costs (Costs): The costs of the model; they are not changed.
        targets (Iterable[Target]): The targets.

    Returns:
        Costs: ``costs`` itself where no target adds any.
    """
    added = {
        t.cost: Largest(tuple((costs.functions[name], v) for name, v in t.parts))
        for t in targets if t.parts}
    return costs.with_(added) if added else costs


def parse_targets(
    spec: Mapping[str, float | Sequence], costs: Costs
) -> tuple[Target, ...]:
    """Read the ``targets`` of a configuration.

    A value up to 1 is a fraction of the dense cost, a larger one is absolute;
    costs whose name ends in ``_ms`` are absolute. ``'70%'`` is a share of any cost.
    Each value is a target of
    its own. Each entry of ``together``, such as ``dict(bops=0.05, size_bytes=0.2)``,
    is one target that limits all its costs: the largest cost relative to its limit
    may be 1 at most. :func:`joined` makes that one of the costs.

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
        if cost not in (*costs.functions, TOGETHER):
            raise TargetError(_unknown(cost, costs))
        single = isinstance(values, str) or not isinstance(values, Sequence)
        for value in [values] if single else values:
            if cost == TOGETHER:
                targets.append(_together(value, costs, dense))
            else:
                number, percent = _share(value)
                targets.append(Target(
                    cost, number, _limit(cost, value, costs, dense),
                    percent=percent and cost.endswith('_ms')))
    if not targets:
        raise TargetError('No targets given; write e.g. targets=dict(macs=[0.5]).')
    return tuple(targets)


def names_of(spec: Mapping[str, float | Sequence]) -> set[str]:
    """Names of the costs that the ``targets`` of a configuration limit."""
    together = spec.get(TOGETHER, ())
    parts = [together] if isinstance(together, Mapping) else together
    return {name for part in (spec, *parts) if isinstance(part, Mapping)
            for name in part} - {TOGETHER}


def _unknown(cost: str, costs: Costs) -> str:
    known = sorted({*costs.names(), MEASURED})
    return f'Unknown cost {cost!r} in targets; known: {", ".join(known)}.' \
        f'{meant(cost, known)}' if cost != MEASURED else \
        f'{MEASURED} was not measured in this search; search with a target on it.'


def _share(value: float | str) -> tuple[float, bool]:
    """A number, and whether it was written as a percentage of the dense cost."""
    if isinstance(value, str) and (found := PERCENT.fullmatch(value)):
        return float(found[1]) / 100, True
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    return (float(value) if number else np.nan), False


def _limit(
    cost: str, value: float | str, costs: Costs, dense: Mapping[str, float]
) -> float:
    """The absolute limit of one budget."""
    number, relative = _share(value)
    if not np.isfinite(number) or number <= 0:
        raise TargetError(
            f"Target {cost}={value!r} is not a positive number, or a share such as "
            "'70%'.")
    cheapest = float(costs.of_rows(cost, costs.space.lowest))
    relative = relative or (number <= 1 and not cost.endswith('_ms'))
    limit = number * dense[cost] if relative else number
    if limit < cheapest * (1 - SLACK):
        raise TargetError(
            f'Target {cost}={value} ({limit:.6g}) is below the cheapest '
            f'policy of the search space. Attainable: {cheapest:.6g} '
            f'({cheapest / dense[cost]:.3f} of dense) to {dense[cost]:.6g}. '
            'Raise the target or widen the space (min_ratio, bits).')
    return limit


def _together(
    spec: Mapping[str, float], costs: Costs, dense: Mapping[str, float]
) -> Target:
    """One target for several costs."""
    if not isinstance(spec, Mapping) or not spec:
        raise TargetError(
            f'{TOGETHER}={spec!r} in targets is not a list of budgets such as '
            'dict(bops=0.05, size_bytes=0.2).')
    if unknown := [cost for cost in spec if cost not in costs.functions]:
        raise TargetError(_unknown(unknown[0], costs))
    limits = {cost: _limit(cost, value, costs, dense) for cost, value in spec.items()}
    name = '+'.join(f'{cost}_{value:g}' if not isinstance(value, str) else
                    f'{cost}_{value.rstrip(" %")}pct' for cost, value in spec.items())
    return Target(name, 1.0, 1.0, tuple(limits.items()))
