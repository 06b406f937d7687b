"""The history of a search on disk, shared by any number of workers."""

from __future__ import annotations

import json
import logging
import secrets
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from math import isfinite
from typing import Any

import optuna
from optuna.exceptions import UpdateFinishedTrialError
from optuna.trial import TrialState, create_trial

from ..errors import StudyError
from ..policy import Policy
from ..searchers.base import Evaluated
from .signature import check_signature
from .standing import Attempt, Standing
from .storage import open_storage, shown
from .worker import STALE_AFTER, Heartbeat, is_alive, this_worker

SIGNATURE = 'signature'
FREE = ('searcher.evaluations',)
"""Settings that a study may be continued with another value of: a search that has
ended goes on where ``evaluations`` is raised."""

DEATHS = 3
"""Workers that may die of one policy before it counts as failed."""


@dataclass(frozen=True)
class Claim:
    """The right to make one evaluation.

    Args:
        number (int): Position of the evaluation in the study.
        policy (Policy | None): The policy, if a worker that died had already
            chosen it; else the searcher is to be asked.
        trial (int): Identifier of the trial in the storage.
    """

    number: int
    policy: Policy | None
    trial: int


@dataclass(frozen=True)
class Failure:
    """An evaluation that gave no usable score. It keeps its number.

    Args:
        number (int): Position of the evaluation in the study.
        policy (Policy | None): The policy, if one had been chosen.
        reason (str): What went wrong.
    """

    number: int
    policy: Policy | None
    reason: str


class Study:
    """Scored policies in an Optuna storage: one trial per attempt to score one.

    How workers agree without locks: trials are only ever added, and a storage
    numbers them in one order that everybody sees. The n-th trial that is not a
    retry stands for evaluation n. When the worker of evaluation n died, anybody may
    end its trial and add a retry ``[n, generation]``; of several equal retries the
    first one counts, and the others are void. A trial that has ended cannot be
    changed, so a worker that was only believed dead cannot count twice. A policy of
    which :data:`DEATHS` workers died counts as failed.

    Args:
        storage (str | None): See :func:`open_storage`.
        name (str): Name of the study in the storage.
        signature (Mapping): JSON data of all that must be equal for two runs to
            share the study.
        stale_after (float): Seconds without a heartbeat after which a worker on
            another host, or one that was stopped, counts as dead; clocks of the hosts
            must agree to a fraction of it. Defaults to 300.

    Raises:
        StudyError: If the storage cannot be opened, or the study belongs to
            another search.
    """

    def __init__(
        self,
        storage: str | None,
        name: str,
        signature: Mapping[str, Any],
        stale_after: float = STALE_AFTER,
    ) -> None:
        self.name = name
        self.stale_after = stale_after
        self._storage = open_storage(storage)
        study = optuna.create_study(
            storage=self._storage, study_name=name, direction='maximize',
            load_if_exists=True)
        self._id = study._study_id
        self._worker = dict(this_worker(), study=secrets.token_hex(8))
        self._beats: dict[int, Heartbeat] = {}
        self._recorded: dict[int, Policy] = {}
        self._evaluated: dict[int, Evaluated] = {}
        self._ended = Standing()  # Trials that have ended do not change.
        self._sign(json.loads(json.dumps(signature)), shown(storage))

    def _sign(self, signature: dict, storage: str) -> None:
        known = self.get_attr(SIGNATURE)
        if known is None:
            if self._storage.get_all_trials(self._id, deepcopy=False):
                raise StudyError(
                    f'Study {self.name!r} in {storage} was not made by mmcompress. '
                    'Choose another study name or storage.')
            self.set_attr(SIGNATURE, signature)
            known = self.get_attr(SIGNATURE)
        check_signature(f'Study {self.name!r} in {storage}', known, signature, FREE)

    def discard(self) -> None:
        """Remove the study if it has no evaluation yet, e.g. after a mistyped setting.

        Otherwise the corrected search would find a study of another one.
        """
        if all(self._is_abandoned(a) for a in self._attempts().values()):
            with suppress(KeyError):  # Another worker was faster.
                self._storage.delete_study(self._id)

    # -- taking evaluations ----------------------------------------------------
    def claim(self, evaluations: int) -> Claim | None:
        """Take the next evaluation: first those whose worker died, then new ones.

        A heartbeat keeps the claim alive until it is finished, failed or released.

        Args:
            evaluations (int): Number of evaluations of the whole search.

        Returns:
            Claim | None: None if all evaluations are finished or being worked on.
        """
        while True:
            attempts = self._attempts()
            lost = [n for n, a in attempts.items()
                    if n < evaluations and self._is_abandoned(a)]
            if lost:
                claim = self._retry(attempts[min(lost)])
            elif len(attempts) < evaluations:
                claim = self._begin(evaluations)
            else:
                return None
            if claim is not None:
                self._beats[claim.trial] = Heartbeat(
                    lambda trial=claim.trial: self._beat(trial), self.stale_after / 5)
                return claim

    def _begin(self, evaluations: int) -> Claim | None:
        trial = self._add_trial({})
        number = self._number_of(trial)
        if number is not None and number < evaluations:
            return Claim(number, None, trial)
        # Another worker took the last one meanwhile; this one is for a longer search.
        self._end(trial, TrialState.FAIL)
        return None

    def _retry(self, attempt: Attempt) -> Claim | None:
        """Take over an abandoned evaluation; None if another one did, or it failed."""
        running = attempt.trial.state == TrialState.RUNNING
        if running and not self._end(attempt.trial._trial_id, TrialState.FAIL):
            return None
        attrs: dict[str, Any] = {'retry': [attempt.number, attempt.generation + 1]}
        known = attempt.trial.user_attrs
        if attempt.policy is not None:
            attrs['policy'] = attempt.policy.to_dict()
            died = 'released' not in known and known['worker'] != self._worker
            attrs['deaths'] = known.get('deaths', 0) + died
        if attrs.get('deaths', 0) >= DEATHS:
            reason = f'{DEATHS} workers died of it, e.g. for want of memory'
            self._add_trial({**attrs, 'failure': reason}, TrialState.FAIL)
            logging.getLogger('mmcompress').warning(
                'Evaluation %d failed and is not ranked: %s.', attempt.number, reason)
            return None
        trial = self._add_trial(attrs)
        if self._number_of(trial) == attempt.number:
            return Claim(attempt.number, attempt.policy, trial)
        self._end(trial, TrialState.FAIL)
        return None

    def _add_trial(
        self, attrs: dict[str, Any], state: TrialState = TrialState.RUNNING
    ) -> int:
        # Created together with its attributes: no moment without an owner.
        template = create_trial(
            state=state,
            user_attrs={**attrs, 'worker': self._worker, 'heartbeat': time.time()})
        return self._storage.create_new_trial(self._id, template_trial=template)

    def _number_of(self, trial: int) -> int | None:
        """Number that the trial stands for, None if it is void."""
        standing = self._attempts().values()
        return next((a.number for a in standing if a.trial._trial_id == trial), None)

    def _attempts(self) -> dict[int, Attempt]:
        """The trial that counts, by evaluation number."""
        ended = self._ended
        trials = self._storage.get_all_trials(self._id, deepcopy=False)
        while ended.read < len(trials) and trials[ended.read].state.is_finished():
            ended.add(trials[ended.read])
        standing = replace(ended, attempts=dict(ended.attempts))
        for trial in trials[ended.read:]:
            standing.add(trial)
        return standing.attempts

    def _is_abandoned(self, attempt: Attempt) -> bool:
        attrs, state = attempt.trial.user_attrs, attempt.trial.state
        if state == TrialState.RUNNING and attrs['worker'] == self._worker:
            # Added twice: the storage lost its first answer (see Patient).
            return attempt.trial._trial_id not in self._beats
        if state == TrialState.RUNNING:
            return not is_alive(attrs['worker'], attrs['heartbeat'], self.stale_after)
        return state == TrialState.FAIL and 'failure' not in attrs

    # -- finishing them --------------------------------------------------------
    def record_policy(self, claim: Claim, policy: Policy | None) -> None:
        """Note the policy of a claim before it is evaluated, None if it has none."""
        self._recorded[claim.trial] = policy
        self._set(claim, policy=None if policy is None else policy.to_dict())

    def finish(self, claim: Claim, evaluated: Evaluated) -> bool:
        """Store the result of a claim. A score that is not finite is a failure.

        Returns:
            bool: False if it does not count: not finite, or another worker took
            the evaluation over because this one seemed dead.
        """
        if not isfinite(evaluated.score):
            self.fail(claim, f'the score is {evaluated.score}')
            return False
        assert evaluated.number == claim.number
        if self._recorded.pop(claim.trial, claim.policy) != evaluated.policy:
            self.record_policy(claim, evaluated.policy)
        return self._set(
            claim, costs={k: float(v) for k, v in evaluated.costs.items()},
            metrics={k: float(v) for k, v in evaluated.metrics.items()},
            seconds=float(evaluated.seconds),
        ) and self._end(claim.trial, TrialState.COMPLETE, float(evaluated.score))

    def fail(self, claim: Claim, reason: str) -> bool:
        """Store that a claim gave no usable score; it will not be tried again."""
        return self._set(claim, failure=reason) and self._end(
            claim.trial, TrialState.FAIL)

    def release(self, claim: Claim) -> bool:
        """Give a claim back, for this or another worker to take again."""
        return self._set(claim, released=True) and self._end(
            claim.trial, TrialState.FAIL)

    def _set(self, claim: Claim, **attrs: Any) -> bool:
        try:
            for key, value in attrs.items():
                self._storage.set_trial_user_attr(claim.trial, key, value)
        except UpdateFinishedTrialError:
            return self._end(claim.trial, TrialState.FAIL)
        return True

    def _end(self, trial: int, state: TrialState, score: float | None = None) -> bool:
        """End a trial; exactly one of several workers that try succeeds."""
        ours = self._beats.pop(trial, None)
        if ours is not None:
            ours.stop()
        try:
            values = None if score is None else [score]
            self._storage.set_trial_state_values(trial, state, values)
            return True
        except UpdateFinishedTrialError:
            if ours is not None:
                logging.getLogger('mmcompress').warning(
                    'Study %r: this worker seemed dead, so another one repeats its '
                    'evaluation. If that happens often, raise stale_after of the '
                    'search (search_cfg.stale_after, %g s now) and check the clocks.',
                    self.name, self.stale_after)
            return False

    def _beat(self, trial: int) -> None:
        self._storage.set_trial_user_attr(trial, 'heartbeat', time.time())

    # -- reading ---------------------------------------------------------------
    def history(self) -> list[Evaluated]:
        """Finished evaluations in order of their number."""
        return self._finished(self._attempts())

    def known(self, claim: Claim) -> tuple[list[Evaluated], list[Policy]]:
        """The history, and the policies of all unfinished evaluations but ``claim``.

        The latter belong to other workers, or to ones that died; those are tried again.
        """
        attempts = self._attempts()
        # In this order: what a storage ends in between is in both, not in neither.
        running = (attempts[n] for n in sorted(attempts) if n != claim.number
                   and attempts[n].trial.state == TrialState.RUNNING)
        pending = [policy for a in running if (policy := a.policy) is not None]
        return self._finished(attempts), pending

    def _finished(self, attempts: Mapping[int, Attempt]) -> list[Evaluated]:
        return [self._evaluation(attempts[n]) for n in sorted(attempts)
                if attempts[n].trial.state == TrialState.COMPLETE]

    def _evaluation(self, attempt: Attempt) -> Evaluated:
        """Read one result; finished trials never change, so it is kept."""
        key = attempt.trial._trial_id
        if key not in self._evaluated:
            attrs = attempt.trial.user_attrs
            self._evaluated[key] = Evaluated(
                attempt.number, attempt.policy, attempt.trial.value, attrs['costs'],
                attrs['metrics'], attrs['seconds'])
        return self._evaluated[key]

    def failures(self) -> list[Failure]:
        """Failed evaluations in order of their number."""
        attempts = self._attempts()
        return [
            Failure(n, attempts[n].policy, attempts[n].trial.user_attrs['failure'])
            for n in sorted(attempts)
            if attempts[n].trial.state == TrialState.FAIL
            and 'failure' in attempts[n].trial.user_attrs
        ]

    def running(self) -> list[int]:
        """Numbers of the evaluations that living workers are making right now."""
        return sorted(
            n for n, a in self._attempts().items()
            if a.trial.state == TrialState.RUNNING and not self._is_abandoned(a))

    def get_attr(self, key: str) -> Any:
        """Return a fact about the whole study, None if it is not set."""
        return self._storage.get_study_user_attrs(self._id).get(key)

    def set_attr(self, key: str, value: Any) -> None:
        """Store a fact about the whole study, as JSON."""
        self._storage.set_study_user_attr(self._id, key, value)
