"""Ask a searcher for the policy of a claim, beside other workers that do the same."""

from __future__ import annotations

from ...policy import Policy
from ..base import Searcher
from .study import Claim, Study


def choose(searcher: Searcher, study: Study, claim: Claim) -> Policy | None:
    """Return the policy to evaluate for a claim; it is in the study by then.

    Two workers may ask at the same moment, before either has recorded its policy.
    Whoever finds its policy taken after recording it asks again.

    Args:
        searcher (Searcher): Proposes.
        study (Study): Holds the history and the other workers' policies.
        claim (Claim): The evaluation. If a worker that died had chosen its policy,
            that one stays.

    Returns:
        Policy | None: None if there is nothing left to evaluate.

    Raises:
        PolicyError: The searcher left its space.
    """
    policy = claim.policy
    while policy is None:
        # In this order: what is finished in between is in both, not in neither.
        pending = study.pending(claim)
        history = study.history()
        proposed = searcher.propose(history, claim.number, pending)
        if proposed is None:
            return None
        searcher.space.check(proposed)
        study.record_policy(claim, proposed)
        known = {entry.number for entry in history}
        taken = study.pending(claim) + [
            entry.policy for entry in study.history() if entry.number not in known]
        if proposed not in taken:
            policy = proposed
    return policy
