"""Files that are either complete or not there."""

from __future__ import annotations

import errno
import glob
import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

LARGEST = 64
"""MiB of the largest JSON file that is read: far more than any of ours has."""

try:
    import fcntl
except ImportError:  # not Unix: nothing is swept
    fcntl = None

SPARE = 1 << 20
"""Bytes; a disk with fewer is full."""


@contextmanager
def replacing(path: str | os.PathLike) -> Iterator[Path]:
    """Yield a temporary name next to ``path``, which takes its place on success.

    The temporary name keeps the suffix, because renderers read the format from it.
    If the body raises, an existing file at ``path`` stays as it was.

    Raises:
        OSError: The disk is full, read-only or somebody else's.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    _sweep(path)
    handle, temporary = _locked(path)
    try:
        yield temporary
        # Temporary files are private; results are for everybody.
        temporary.chmod(0o644)
        os.replace(temporary, path)
    except (OSError, RuntimeError) as error:
        # torch and NumPy do not say that a disk is full, the system not for which file.
        code = getattr(error, 'errno', None)
        if code is None and ('free space' in str(error)
                             or shutil.disk_usage(path.parent).free < SPARE):
            code = errno.ENOSPC
        if code is None or getattr(error, 'filename', None) is not None:
            raise
        raise OSError(code, os.strerror(code), str(path)) from error
    finally:
        temporary.unlink(missing_ok=True)
        os.close(handle)


def _locked(path: Path) -> tuple[int, Path]:
    """A new temporary file, open and locked until it is closed or its writer dies."""
    while True:
        handle, name = tempfile.mkstemp(
            dir=path.parent, prefix=f'.{path.stem}.', suffix=path.suffix)
        if fcntl:
            fcntl.flock(handle, fcntl.LOCK_EX)
        if os.path.exists(name):  # else swept by another writer before it was locked
            return handle, Path(name)
        os.close(handle)


def _sweep(path: Path) -> None:
    """Remove what writers of a file have left that were killed: what is not locked."""
    stem, suffix = map(glob.escape, (path.stem, path.suffix))
    for left in path.parent.glob(f'.{stem}.????????{suffix}') if fcntl else ():
        with suppress(OSError), left.open() as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            left.unlink()


def write_text(path: str | os.PathLike, text: str) -> Path:
    """Write a UTF-8 text file that appears complete or not at all."""
    with replacing(path) as temporary:
        temporary.write_text(text, encoding='utf-8', newline='')
    return Path(path)


def read_json(path: str | os.PathLike) -> Any:
    """Read a JSON file from wherever it comes.

    Raises:
        OSError: It cannot be read.
        ValueError: It is not JSON, or no file of ours is as large or as deeply nested.
    """
    if Path(path).stat().st_size > LARGEST << 20:
        raise ValueError(f'it is larger than {LARGEST} MiB')
    try:
        return json.loads(Path(path).read_text(encoding='utf-8'))
    except RecursionError:
        raise ValueError('it is nested too deeply') from None


def write_bytes(path: str | os.PathLike, content: bytes) -> Path:
    """Write a file that appears complete or not at all."""
    with replacing(path) as temporary:
        temporary.write_bytes(content)
    return Path(path)


def shipped(name: str) -> Path:
    """The folder ``configs`` or ``tools``: in the installation, or beside the package.

    Args:
        name (str): Its name; see setup.py, which puts it into ``mmcompress/.mim``.
    """
    package = Path(__file__).resolve().parent
    installed = package / '.mim' / name
    return installed if installed.is_dir() else package.parent / name
