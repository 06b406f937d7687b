"""By which rules a study goes on that an earlier version began."""

from __future__ import annotations

from typing import Any

from ..errors import StudyError
from ..mutators.settings import RECONSTRUCT
from ..plain import plain
from ..session import Session
from ..study import Study
from ..study.seed import signature_in
from ..study.storage import is_begun, open_storage, shown


def signature_of_begun(storage: str, study: str) -> dict[str, Any]:
    """What a study was signed with; empty if it has not begun."""
    return signature_in(open_storage(storage), study) if is_begun(storage) else {}


def as_begun(session: Session, begun: dict[str, Any]) -> Session:
    """The session by the rules that an earlier version began a study with."""
    earlier = begun and RECONSTRUCT not in begun.get('compression', {})
    return session.without_repair() \
        if earlier and session.repairs_by_default else session


def signed_as_begun(session: Session, begun: dict[str, Any]) -> dict[str, Any]:
    """The signature of a session, by the rule of the version that began a study.

    Earlier versions signed the path of the checkpoint, which may change as its weights
    are compared, and of the data no more than the evaluator was given.
    """
    found = session.signature
    if 'checkpoint' in begun:
        evaluator = session.evaluator
        given = {name: getattr(evaluator, name, None)
                 for name in ('dataset', 'evaluator')}
        found['checkpoint'] = begun['checkpoint']
        found['evaluator'].pop('data', None)
        found['evaluator'] |= {k: plain(v) for k, v in given.items() if v}
    return found


def check_weights(session: Session, study: Study, storage: str) -> None:
    """A checkpoint may have been trained again under the same name.

    Raises:
        StudyError: The study was made with other weights.
    """
    known = study.get_attr('weights')
    if known is None:
        study.set_attr('weights', session.weights)
    elif known != session.weights:
        raise StudyError(
            f'Study {study.name!r} in {shown(storage)} was made with other weights. '
            'Restore the checkpoint to continue it, or choose another work dir, study '
            'name or storage to start afresh.')
