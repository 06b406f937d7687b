"""What a history amounts to: the best policy of every budget, and the front."""

from __future__ import annotations

from collections.abc import Sequence
from math import isfinite

from ..costs import Target
from .evaluated import Evaluated


def best_per_target(
    history: Sequence[Evaluated], targets: Sequence[Target]
) -> tuple[Evaluated | None, ...]:
    """Best evaluated policy within each budget.

    Any policy that meets a budget competes for it, whichever budget it was
    proposed for. Equal scores are decided by the lower cost, then the lower number.

    Args:
        history (Sequence[Evaluated]): Evaluated policies.
        targets (Sequence[Target]): The budgets.

    Returns:
        tuple[Evaluated | None, ...]: One per target, in the order of ``targets``;
        None where no policy meets the budget.
    """
    ranked = [e for e in history if isfinite(e.score)]
    return tuple(
        min((e for e in ranked if target.met_by(e.costs)),
            key=lambda e: (-e.score, target.of(e.costs), e.number), default=None)
        for target in targets
    )


def pareto_front(history: Sequence[Evaluated], cost: str) -> tuple[Evaluated, ...]:
    """Policies that no other one beats in both cost and score.

    Args:
        history (Sequence[Evaluated]): Evaluated policies.
        cost (str): Name of the cost.

    Returns:
        tuple[Evaluated, ...]: Ascending in cost and strictly ascending in score.
    """
    front: list[Evaluated] = []
    ranked = (e for e in history if isfinite(e.score))
    for e in sorted(ranked, key=lambda e: (e.costs[cost], -e.score, e.number)):
        if not front or e.score > front[-1].score:
            front.append(e)
    return tuple(front)
