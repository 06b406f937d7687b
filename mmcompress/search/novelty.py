"""Keep searchers from proposing a policy twice."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np

from ..costs import Costs
from ..policy import Policy, SearchSpace
from .base import Evaluated


def first_new(
    space: SearchSpace,
    costs: Costs,
    cost: str,
    rows: Iterable[np.ndarray],
    history: Sequence[Evaluated],
    pending: Sequence[Policy] = (),
) -> Policy | None:
    """Return the first row, as a policy, that nobody has taken yet.

    Equal policies have equal costs, so only the few evaluated policies of equal
    cost need comparing; that keeps a long history cheap.

    Args:
        space (SearchSpace): The space of the rows.
        costs (Costs): Costs of the model.
        cost (str): Name of the cost to compare first.
        rows (Iterable[np.ndarray]): Allowed rows in order of preference.
        history (Sequence[Evaluated]): Finished evaluations.
        pending (Sequence[Policy]): Policies that are being evaluated.

    Returns:
        Policy | None: None if every row is evaluated or being evaluated.
    """
    rows = np.atleast_2d(np.asarray(rows))
    known = np.array([e.costs[cost] for e in history], dtype=float)
    busy = space.encode(pending)
    for row, value in zip(rows, costs.of_rows(cost, rows).tolist()):
        alike = np.flatnonzero(np.isclose(known, value, rtol=1e-9, atol=0))
        evaluated = space.encode(history[i].policy for i in alike)
        taken = np.concatenate([evaluated, busy])
        if not (taken == row).all(1).any():
            return space.decode(row)[0]
    return None
