"""The seed of a study, for searches whose config names none."""

from __future__ import annotations

import secrets

import optuna
from optuna.storages import BaseStorage
from optuna.trial import TrialState, create_trial

from .storage import open_storage
from .study import SIGNATURE

SEEDS = 2 ** 31
"""Seeds to draw from, as many as mmengine's."""


def study_seed(storage: str | None, name: str) -> int:
    """The seed that a study was searched with, or a new one for a new study.

    All who ask get the same answer, also workers that start together.

    Args:
        storage (str | None): See :func:`open_storage`.
        name (str): Name of the study in the storage.

    Raises:
        StudyError: If the storage cannot be opened.
    """
    opened = open_storage(storage)
    signed = signature_in(opened, name).get('searcher', {}).get('seed')
    return _drawn(opened, name) if signed is None else signed


def signature_in(storage: BaseStorage, name: str) -> dict:
    """The signature of a study; empty if there is none yet."""
    try:
        study = storage.get_study_id_from_name(name)
    except KeyError:
        return {}
    return storage.get_study_user_attrs(study).get(SIGNATURE, {})


def _drawn(storage: BaseStorage, name: str) -> int:
    """The seed of a study that has not begun; draws it unless another worker has.

    Of attributes of a study the last writer wins, too late for those who have read
    them. Trials are numbered in one order that everybody sees, so the first one
    holds the seed. They are in a study of their own: in the one of the search, the
    numbers of trials and evaluations would differ.
    """
    study = optuna.create_study(
        storage=storage, study_name=f'{name} (seed)', load_if_exists=True)._study_id
    if not storage.get_all_trials(study, deepcopy=False):
        drawn = create_trial(
            state=TrialState.COMPLETE, value=float(secrets.randbelow(SEEDS)))
        storage.create_new_trial(study, template_trial=drawn)
    trials = storage.get_all_trials(study, deepcopy=False)
    return int(min(trials, key=lambda trial: trial.number).value)
