"""What every searcher is: a pure function from history to the next policy."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from ..costs import Costs, Target
from ..policy import Policy, SearchSpace


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


class Searcher(ABC):
    """Proposes policies from the history of evaluated ones. Pure, no I/O.

    Everything a searcher knows is in its arguments and in the history, so a
    search that was killed continues as if nothing had happened, and several
    workers can share one study.

    Args:
        space (SearchSpace): Allowed widths and bits.
        costs (Costs): Costs of the model over rows of the space.
        targets (Sequence[Target]): Budgets to serve.
        evaluations (int): Evaluations the whole search may use.
        seed (int): Seed of every draw. Defaults to 0.

    Attributes:
        needs (tuple[str, ...]): What else the searcher takes, as data that the
            search loop derives from the model: ``'scores'``, the
            :class:`ChannelScores` that the channels were sorted by, or
            ``'prices'``, a :class:`PriceTable`.
    """

    needs: tuple[str, ...] = ()

    def __init__(
        self,
        space: SearchSpace,
        costs: Costs,
        targets: Sequence[Target],
        evaluations: int = 100,
        seed: int = 0,
    ) -> None:
        self.space = space
        self.costs = costs
        self.targets = tuple(targets)
        self.evaluations = evaluations
        self.seed = seed

    def rng(self, number: int) -> np.random.Generator:
        """Generator for evaluation ``number``, the same in every process."""
        return np.random.default_rng([self.seed, number])

    @abstractmethod
    def propose(
        self,
        history: Sequence[Evaluated],
        number: int,
        pending: Sequence[Policy] = (),
    ) -> Policy | None:
        """Return the policy to evaluate next.

        Args:
            history (Sequence[Evaluated]): Finished evaluations in order of their
                number; failed ones are missing.
            number (int): Number of the evaluation asked for, counted from 0.
            pending (Sequence[Policy]): What other workers are evaluating right now;
                it is not to be proposed again.

        Returns:
            Policy | None: A policy of the space, or None if there is nothing
            left to evaluate.
        """

    def answers(
        self, history: Sequence[Evaluated], targets: Sequence[Target]
    ) -> tuple[Policy, ...]:
        """Derive a policy for each target from what the search has learned.

        They are evaluated and written after the search. A searcher that proposes
        every policy it ends with has none to add, and the best evaluated policy
        within each budget is written.

        Args:
            history (Sequence[Evaluated]): Finished evaluations.
            targets (Sequence[Target]): Any budgets, not only the searcher's own.

        Returns:
            tuple[Policy, ...]: One per target, or none. Defaults to none.
        """
        return ()

    def artefacts(self, history: Sequence[Evaluated]) -> dict[str, dict | bytes]:
        """What else to keep of the search: file name to JSON data or content."""
        return {}
