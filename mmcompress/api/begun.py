"""By which rules a study goes on that an earlier version began."""

from __future__ import annotations

from ..mutators.settings import RECONSTRUCT
from ..session import Session
from ..study.seed import signature_in
from ..study.storage import is_begun, open_storage


def as_begun(session: Session, storage: str, study: str) -> Session:
    """The session by the rules that an earlier version began the study with."""
    if not session.repairs_by_default or not is_begun(storage):
        return session
    begun = signature_in(open_storage(storage), study)
    earlier = begun and RECONSTRUCT not in begun.get('compression', {})
    return session.without_repair() if earlier else session
