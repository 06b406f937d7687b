"""Files that are either complete or not there."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

LARGEST = 64
"""MiB of the largest JSON file that is read: far more than any of ours has."""


@contextmanager
def replacing(path: str | os.PathLike) -> Iterator[Path]:
    """Yield a temporary name next to ``path``, which takes its place on success.

    The temporary name keeps the suffix, because renderers read the format from it.
    If the body raises, an existing file at ``path`` stays as it was.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(
        dir=path.parent, prefix=f'.{path.stem}.', suffix=path.suffix)
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        # Temporary files are private; results are for everybody.
        temporary.chmod(0o644)
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


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
