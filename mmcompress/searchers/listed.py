"""Policies that are known before."""

from __future__ import annotations

from collections.abc import Sequence

from ..costs import Costs
from ..policy import Policy, SearchSpace
from .base import Evaluated, Searcher


class Listed(Searcher):
    """Proposes the policies of a list, each once, whatever the number.

    Args:
        space (SearchSpace): Allowed widths and bits.
        costs (Costs): Costs of the model.
        policies (Sequence[Policy]): The policies.
    """

    def __init__(
        self, space: SearchSpace, costs: Costs, policies: Sequence[Policy]
    ) -> None:
        super().__init__(space, costs, (), len(policies))
        self.policies = tuple(policies)

    def propose(
        self,
        history: Sequence[Evaluated],
        number: int = 0,
        pending: Sequence[Policy] = (),
    ) -> Policy | None:
        """See :meth:`Searcher.propose`."""
        taken = [*(e.policy for e in history), *pending]
        return next((p for p in self.policies if p not in taken), None)
