"""Open the storage of a study: a file or a database, through Optuna."""

from __future__ import annotations

import json
import os
import random
import re
import time
from pathlib import Path
from typing import Any, BinaryIO

import optuna
from optuna.storages import BaseStorage, InMemoryStorage, JournalStorage, RDBStorage
from optuna.storages import get_storage as with_cache
from optuna.storages.journal import JournalFileBackend
from sqlalchemy import event
from sqlalchemy.engine import Engine, make_url
from sqlalchemy.exc import IntegrityError, SQLAlchemyError

from ..errors import StudyError

STORAGE, STUDY = 'sqlite:///search.db', 'search'
"""Where a study is, and how it is called, unless the config says otherwise."""
JOURNAL = 'journal:///'
LOCK_TIMEOUT = 120
"""Seconds a worker waits for another one to release the SQLite file."""
ATTEMPTS = 8


def open_storage(url: str | None) -> BaseStorage:
    """Open a storage and create it if it does not exist.

    Args:
        url (str | None): ``sqlite:///file.db``, ``journal:///file.log`` (for network
            file systems) or the URL of a database server. Three slashes start a
            relative path, four an absolute one. None keeps all in memory.

    Returns:
        BaseStorage: A storage of Optuna.

    Raises:
        StudyError: If it cannot be opened.
    """
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    if url is None:
        return InMemoryStorage()
    try:
        if url.startswith(JOURNAL):
            path = Path(url.removeprefix(JOURNAL))
            path.parent.mkdir(parents=True, exist_ok=True)
            return JournalStorage(Journal(str(path)))
        return with_cache(_open_database(url))
    except (SQLAlchemyError, ImportError, OSError, RuntimeError, ValueError) as error:
        reason = str(error).splitlines()[0].rstrip('.')
        raise StudyError(
            f'The storage {shown(url)!r} cannot be opened: {reason}. Use '
            'sqlite:///file.db, journal:///file.log, or the URL of a running '
            'database server whose Python driver is installed.') from error


class Journal(JournalFileBackend):
    """A journal that outlives writers who died, or ran out of disk, within a line.

    Optuna would write on behind the part of a line, which makes both unreadable.
    """

    def append_logs(self, logs: list[dict[str, Any]]) -> None:
        """See Optuna."""
        lines = [json.dumps(log, separators=(',', ':')) + '\n' for log in logs]
        self._lock.acquire()
        try:
            with open(self._file_path, 'r+b') as file:
                _drop_partial_line(file)
                file.write(''.join(lines).encode())
                file.flush()
                os.fsync(file.fileno())
        finally:
            self._lock.release()


def _drop_partial_line(file: BinaryIO) -> None:
    """Cut a file after its last complete line, and go to its end."""
    end = file.seek(0, os.SEEK_END)
    if end:
        file.seek(-1, os.SEEK_END)
        if file.read() != b'\n':
            file.seek(0)
            file.truncate(file.read().rfind(b'\n') + 1)
    file.seek(0, os.SEEK_END)


def placed(url: str, folder: str | Path) -> str:
    """The URL of a storage, with a relative file placed in a folder."""
    scheme, separator, path = url.partition(':///')
    if separator and scheme in ('sqlite', 'journal') and not path.startswith('/'):
        return f'{scheme}:///{(Path(folder) / path).absolute()}'
    return url


def is_begun(url: str) -> bool:
    """Whether a storage may hold something: its file is there, or it is a server's."""
    scheme, separator, path = url.partition(':///')
    return not (separator and scheme in ('sqlite', 'journal')) or Path(path).exists()


def shown(url: str | None) -> str:
    """Return the URL without its password, for messages."""
    return 'memory' if url is None else re.sub(r'(://[^:/@]+):[^@]+@', r'\1:***@', url)


def _open_database(url: str) -> RDBStorage:
    parsed = make_url(url)
    is_sqlite = parsed.get_backend_name() == 'sqlite'
    options = {}
    if is_sqlite:
        if parsed.database in (None, '', ':memory:'):
            raise ValueError('a database in memory cannot be resumed')
        Path(parsed.database).parent.mkdir(parents=True, exist_ok=True)
        options = {'connect_args': {'timeout': LOCK_TIMEOUT}}
    for attempt in range(ATTEMPTS):
        try:
            storage = RDBStorage(url, engine_kwargs=options)
            break
        except SQLAlchemyError as error:
            # Workers that start together may create the same tables and rows.
            same = isinstance(error, IntegrityError) or 'exist' in str(error)
            if attempt == ATTEMPTS - 1 or not same:
                raise
            time.sleep(random.random())
    if is_sqlite:
        _lock_whole_transactions(storage.engine)
    return storage


def _lock_whole_transactions(engine: Engine) -> None:
    """Let a SQLite transaction own the file from its first read on.

    Python's sqlite3 begins a transaction at the first write only. Optuna reads a
    trial's state and then writes it, and numbers trials by counting them; both
    would be races between processes.
    """
    @event.listens_for(engine, 'connect')
    def _manual(connection, _record) -> None:
        connection.isolation_level = None

    @event.listens_for(engine, 'begin')
    def _begin(connection) -> None:
        connection.exec_driver_sql('BEGIN IMMEDIATE')

    engine.dispose()  # Connections from before would keep the old behaviour.
