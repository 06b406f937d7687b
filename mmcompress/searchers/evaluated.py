"""Scored policies, and which policies nobody needs to score again."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from ..costs import Costs, Target
from ..policy import Policy


@dataclass(frozen=True)
class Evaluated:
    """A policy with its measured score; higher is better.

    Args:
        number (int): Position of the evaluation in its study.
        policy (Policy): The policy.
        score (float): Measured score at full precision.
        costs (Mapping[str, float]): Every analytic cost of the policy.
        metrics (Mapping[str, float]): All metrics measured with the score.
        seconds (float): Time the evaluation took.
    """

    number: int
    policy: Policy
    score: float
    costs: Mapping[str, float]
    metrics: Mapping[str, float] = field(default_factory=dict)
    seconds: float = 0.0


class Taken:
    """Policies that are evaluated or being evaluated.

    Equal policies have equal costs, so only the few evaluated policies of equal
    cost need comparing; that keeps a long history cheap.

    Args:
        costs (Costs): Costs of the model.
        target (Target): Its cost is compared first.
        history (Sequence[Evaluated]): Finished evaluations.
        pending (Sequence[Policy]): Policies that are being evaluated.
    """

    def __init__(
        self, costs: Costs, target: Target, history: Sequence[Evaluated],
        pending: Sequence[Policy],
    ) -> None:
        self._space, self._costs, self._target = costs.space, costs, target
        self._history = history
        self._known = np.array([target.of(e.costs) for e in history], dtype=float)
        self._pending = self._space.encode(pending)

    def first_new(self, rows: np.ndarray) -> Policy | None:
        """The first of some rows ``(N, D)`` that is not taken; None if all are."""
        cost = self._target.of_rows(self._costs, rows)
        for row, value in zip(rows, cost.tolist()):
            alike = np.flatnonzero(np.isclose(self._known, value, rtol=1e-9, atol=0))
            evaluated = self._space.encode(self._history[i].policy for i in alike)
            taken = np.concatenate([evaluated, self._pending])
            if not (taken == row).all(1).any():
                return self._space.decode(row)[0]
        return None
