"""Choose the next policy for a claimed evaluation; safe with several workers."""

from __future__ import annotations

from ..policy import Policy
from ..searchers.base import Searcher
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
    policy, proposed = claim.policy, None
    while policy is None:
        history, pending = study.known(claim)
        before, proposed = proposed, searcher.propose(history, claim.number, pending)
        if proposed is None:
            if before is not None:  # Whoever retries the claim must not evaluate it.
                study.record_policy(claim, None)
            return None
        searcher.space.check(proposed)
        study.record_policy(claim, proposed)
        finished, pending = study.known(claim)
        known = {entry.number for entry in history}
        taken = [*pending, *(e.policy for e in finished if e.number not in known)]
        if proposed not in taken:
            policy = proposed
    return policy
