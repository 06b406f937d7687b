"""One scored policy: what a history consists of."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

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
