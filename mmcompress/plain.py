"""Settings as plain data, for signatures and files."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from typing import Any


def names_of(value: str | Iterable[str]) -> tuple[str, ...]:
    """Names or patterns of an option; one alone need not be in a list."""
    return (value,) if isinstance(value, str) else tuple(value)


def plain(value: Any) -> Any:
    """Settings as JSON-ready data; what JSON has no word for becomes a string."""
    if isinstance(value, Mapping):
        return {str(k): plain(v) for k, v in value.items()}
    if isinstance(value, (list, tuple, set)):
        return [plain(v) for v in value]
    return value if isinstance(value, (int, float, bool, type(None))) else str(value)


def digest(settings: Any) -> str:
    """Short hash of settings; equal settings have equal hashes."""
    text = json.dumps(plain(settings), sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]
