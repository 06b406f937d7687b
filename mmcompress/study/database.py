"""The database of a study: a SQLite file, or a server that may be away for a while."""

from __future__ import annotations

import logging
import random
import sqlite3
import time
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from itertools import count
from pathlib import Path
from typing import Any

import psutil
from optuna.exceptions import StorageInternalError, UpdateFinishedTrialError
from optuna.storages import BaseStorage, RDBStorage
from optuna.storages import get_storage as with_cache
from optuna.trial import TrialState
from sqlalchemy import event
from sqlalchemy.engine import Engine, make_url
from sqlalchemy.exc import (
    IntegrityError,
    InterfaceError,
    InternalError,
    OperationalError,
    PendingRollbackError,
    SQLAlchemyError,
)

from ..errors import StudyError

LOCK_TIMEOUT = 120
"""Seconds a worker waits for another one to release the SQLite file."""
ATTEMPTS = 8
PATIENCE = 30
"""Times a server that does not answer is asked, within about two minutes. A number, as
a process that was stopped for long has not asked any more often."""
AWAY = OperationalError, InterfaceError, InternalError, PendingRollbackError
"""Errors of connections; one that was idle for too long is an internal one."""
LONGEST_WAIT = 5.0
LONGEST_IDLE = 20
"""Seconds in which PostgreSQL waits for the rest of a transaction: a worker that is
suspended in one would keep all others from their next evaluation."""
LOCAL = {'apfs', 'btrfs', 'ext2', 'ext3', 'ext4', 'f2fs', 'hfs', 'overlay', 'tmpfs',
         'xfs', 'zfs'}
"""File systems of one machine. SQLite's WAL mode needs memory that all share."""


def open_database(url: str, name: str) -> BaseStorage:
    """Open a database, and create its tables if there are none.

    Args:
        url (str): Of a SQLite file, whose path is taken as it is written, or a server.
        name (str): What messages call it.
    """
    is_file = url.startswith('sqlite')
    if is_file:
        path = Path(url.partition(':///')[2])
        if path.name in ('', ':memory:'):
            raise ValueError('a database in memory cannot be resumed')
        path.parent.mkdir(parents=True, exist_ok=True)
        # Not through the URL, in which ? and % have a meaning.
        options: dict[str, Any] = dict(creator=partial(
            sqlite3.connect, path, timeout=LOCK_TIMEOUT, check_same_thread=False))
        url = 'sqlite:///search.db'
    else:
        options = dict(pool_pre_ping=True, connect_args=_connection_of(url))
    for attempt in range(ATTEMPTS):
        try:
            storage = RDBStorage(url, engine_kwargs=options)
            break
        except (SQLAlchemyError, StorageInternalError) as error:
            # Workers that start together may create the same tables and rows. A server
            # may be about to start, but it may as well have another address.
            clash = any(isinstance(e, IntegrityError) for e in (error, error.__cause__))
            passes = clash or 'exist' in str(error) or (
                not is_file and _is_away(error))
            if attempt == ATTEMPTS - 1 or not passes:
                raise
            time.sleep(random.random())
    if is_file:
        _lock_whole_transactions(
            storage.engine, 'WAL' if _is_local(path) else 'DELETE')
    return Patient(with_cache(storage), name, 1 if is_file else PATIENCE)


def _connection_of(url: str) -> dict[str, str]:
    """What the driver of a server is told at every connection."""
    address = make_url(url)
    is_libpq = address.get_backend_name() == 'postgresql' and \
        address.get_driver_name() in ('psycopg', 'psycopg2')
    if not is_libpq or 'options' in address.query:
        return {}
    return dict(options=f'-c idle_in_transaction_session_timeout={LONGEST_IDLE}s')


def _is_away(error: Exception) -> bool:
    """Whether an error tells of the connection, not of what was asked for."""
    return isinstance(error, AWAY) or isinstance(error.__cause__, AWAY)


def _is_local(path: Path) -> bool:
    kinds = {p.mountpoint: p.fstype for p in psutil.disk_partitions(all=True)}
    return next((kinds[str(folder)] in LOCAL for folder in path.resolve().parents
                 if str(folder) in kinds), False)


def _lock_whole_transactions(engine: Engine, journal: str) -> None:
    """Let a SQLite transaction own the file from its first read on.

    Python's sqlite3 begins a transaction at the first write only. Optuna reads a
    trial's state and then writes it, and numbers trials by counting them; both
    would be races between processes.
    """
    @event.listens_for(engine, 'connect')
    def _manual(connection, _record) -> None:
        connection.isolation_level = None
        with suppress(sqlite3.OperationalError):  # Others are at it; it may stay.
            connection.execute(f'PRAGMA journal_mode={journal}')

    @event.listens_for(engine, 'begin')
    def _begin(connection) -> None:
        connection.exec_driver_sql('BEGIN IMMEDIATE')

    engine.dispose()  # Connections from before would keep the old behaviour.


class Patient:
    """A storage whose calls are repeated while its server is away.

    All that a study calls may be repeated although it was done, and only its answer
    lost: attributes are the same again, and a trial that was added twice is taken back
    by its worker (see ``Study``).

    Args:
        storage (BaseStorage): A storage of Optuna, which this one stands for.
        name (str): What messages call it.
        patience (int): Times a call is made.
    """

    def __init__(self, storage: BaseStorage, name: str, patience: int) -> None:
        self._storage, self._name, self._patience = storage, name, patience

    def __getattr__(self, name: str) -> Callable:
        return partial(self._call, getattr(self._storage, name))

    def _call(self, method: Callable, *args: Any, **options: Any) -> Any:
        for attempt in count():
            try:
                return method(*args, **options)
            except UpdateFinishedTrialError:
                # Nobody else completes a trial: the lost answer was a yes.
                if attempt and TrialState.COMPLETE in args and self._storage.get_trial(
                        args[0]).state == TrialState.COMPLETE:
                    return True
                raise
            except (StorageInternalError, SQLAlchemyError) as error:
                reason = str(error.__cause__ or error).splitlines()[0].rstrip('.')
                if not _is_away(error) or attempt + 1 >= self._patience:
                    raise StudyError(
                        f'The storage {self._name!r} failed: {reason}. What was '
                        'recorded is safe; mend this, then run the same command again '
                        'to continue.') from error
                if not attempt:
                    logging.getLogger('mmcompress').warning(
                        'The storage %r does not answer (%s). It is asked again for '
                        'about two minutes.', self._name, reason)
            time.sleep(min(LONGEST_WAIT, 0.2 * 2 ** attempt) * (0.5 + random.random()))
