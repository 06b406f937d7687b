"""Open the storage of a study: a file or a database, through Optuna."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path
from typing import Any, BinaryIO

import optuna
from optuna.exceptions import StorageInternalError
from optuna.storages import BaseStorage, InMemoryStorage, JournalStorage
from optuna.storages.journal import JournalFileBackend
from sqlalchemy.exc import SQLAlchemyError

from ..errors import StudyError
from .database import open_database

STORAGE, STUDY = 'sqlite:///search.db', 'search'
"""Where a study is, and how it is called, unless the config says otherwise."""
JOURNAL = 'journal:///'
_WITH_PASSWORD: dict[str, str] = {}
"""What :func:`concealed` has returned, and what it stands for."""


def open_storage(url: str | None) -> BaseStorage:
    """Open a storage and create it if it does not exist.

    Args:
        url (str | None): ``sqlite:///file.db``, ``journal:///file.log`` (for network
            file systems) or the URL of a database server. Three slashes start a
            relative path, four an absolute one; it is taken as it is written. None
            keeps all in memory.

    Returns:
        BaseStorage: A storage of Optuna.

    Raises:
        StudyError: If it cannot be opened.
    """
    optuna.logging.set_verbosity(optuna.logging.ERROR)  # Warnings come from here.
    if url is None:
        return InMemoryStorage()
    url = _WITH_PASSWORD.get(url, url)
    try:
        if url.startswith(JOURNAL):
            path = Path(url.removeprefix(JOURNAL))
            path.parent.mkdir(parents=True, exist_ok=True)
            return JournalStorage(Journal(str(path)))
        return open_database(url, shown(url))
    except (SQLAlchemyError, StorageInternalError, ImportError, OSError, RuntimeError,
            ValueError) as error:
        reason = shown(str(error.__cause__ or error).splitlines()[0].rstrip('.'))
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
    if scheme == 'sqlite' and '?' in path:
        raise StudyError(
            f'The storage {url!r} has options after a question mark, which files do '
            'not take. Leave them out.')
    if separator and scheme in ('sqlite', 'journal') and not path.startswith('/'):
        return f'{scheme}:///{(Path(folder) / path).absolute()}'
    return url


def is_begun(url: str) -> bool:
    """Whether a storage may hold something: its file is there, or it is a server's."""
    scheme, separator, path = url.partition(':///')
    return not (separator and scheme in ('sqlite', 'journal')) or Path(path).exists()


def shown(url: str | None) -> str:
    """Return the URL without its password, for messages."""
    # A password that should have been quoted may hold an @, a colon or a slash.
    hidden = re.sub(r'(://[^:/@]*):.*@', r'\1:***@', url or 'memory')
    return re.sub(r'(password=)[^&\s]+', r'\1***', hidden)


def concealed(url: str) -> str:
    """The URL without its password, which this process can open all the same.

    For configs: they are printed, and written to logs, work dirs and checkpoints.
    """
    if shown(url) != url:
        _WITH_PASSWORD[shown(url)] = url
    return shown(url)
