"""Searching a prepared model."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from torch import nn

from ..errors import CompressionError
from ..options import Count, Natural, Positive, checking
from ..policy.files import PolicyFile
from ..session import Session
from ..study.storage import STORAGE, STUDY
from ..study.worker import STALE_AFTER
from .family import Family
from .listener import Listener, ProgressBar
from .run import SearchRun


@checking
def search(
    session: Session,
    searcher: str | Mapping[str, Any] = 'Evolution',
    evaluations: Count = 100,
    work_dir: str | Path = 'work_dirs/search',
    *,
    targets: Mapping[str, Any] | None = None,
    prices: Mapping[str, Any] | None = None,
    latency: Mapping[str, Any] | None = None,
    storage: str = STORAGE,
    study: str = STUDY,
    seed: Natural | None = None,
    time_limit: Positive | None = None,
    stale_after: Positive = STALE_AFTER,
    listener: Listener | None = None,
    **costs: float | Sequence[float],
) -> Family:
    """Search one network for every budget; all of them share the evaluations.

    Every scored policy is on disk before the next is proposed. The same call continues
    a search that was interrupted, and several processes that make it at once share it.

    Args:
        session: Of :func:`mmcompress.prepare` or ``Session.from_config``.
        searcher: Name of a searcher, or its config: ``searcher='TwoStage'``,
            ``searcher=dict(type='SeerNet', acquisition='active')``.
        evaluations: Policies that are scored, for all budgets together:
            ``evaluations=60``.
        work_dir: Where the study, the policies and the report are written:
            ``work_dir='out'``.
        targets: Budgets that are no keyword, e.g. on several costs at once:
            ``targets=dict(together=dict(bops=0.05, size_bytes=0.2))``.
        prices: Config of the source of prices, for searchers that need them:
            ``prices=dict(type='MeasuredPrices')``.
        latency: For budgets in milliseconds: ``latency=dict(threads=2)``.
        storage: Where the study lives: ``storage='postgresql://host/db'`` lets several
            machines share it.
        study: Name of the study in the storage: ``study='second'``.
        seed: Of the searcher: ``seed=1``. Defaults to the session's.
        time_limit: Seconds that one evaluation may take: ``time_limit=600``. One that
            takes longer has failed, and the search goes on.
        stale_after: Seconds without a sign of life after which a worker on another
            machine, or one that was stopped, counts as dead: ``stale_after=900``.
        listener: Is told about the progress. Defaults to a progress bar.
        costs: Budgets by cost, up to 1 as a share of the dense network:
            ``macs=[0.75, 0.5]``, ``bops=0.05``, ``latency_ms=4.0`` or ``'70%'``.

    Returns:
        Family: The networks by name, e.g. ``family['macs_0.5'].model``.

    Raises:
        TargetError: A budget is malformed or cannot be reached.
        StudyError: The work dir belongs to another search.

    Example:
        >>> family = mmc.search(session, macs=[0.75, 0.5], searcher='TwoStage',
        ...                     evaluations=60, work_dir='out')
        >>> slim = family['macs_0.5'].model
    """
    options = dict(type=searcher) if isinstance(searcher, str) else dict(searcher)
    options.setdefault('evaluations', evaluations)
    options.setdefault('seed', session.evaluator.seed if seed is None else seed)
    budgets = {**(targets or {}), **costs}
    if not budgets:
        raise CompressionError(
            'A search needs a budget, e.g. macs=[0.75, 0.5] or latency_ms=4.0.')
    run = SearchRun(
        session, options, budgets, Path(work_dir), storage, study, prices, latency,
        time_limit, stale_after, listener=listener or ProgressBar())
    run.run()

    def builder(path: Path) -> Callable[[], nn.Module]:
        return lambda: run.session.materialise(PolicyFile.load(path).policy)

    images = [batch.inputs for batch in session.evaluator.calibration]
    return Family(run.work_dir, builder, images)
