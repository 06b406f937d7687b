"""Whether `compression` says what some mutator reads."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..errors import CompressionError
from ..registry import MUTATORS, check_options, checked
from .joint import DEFAULTS

RECONSTRUCT = 'reconstruct'
"""What repairs candidates; it may also be switched on and off."""

OTHERS = ('input_shape',)
"""What the section may hold besides mutators."""


def check_compression(settings: Mapping[str, Any]) -> None:
    """Refuse settings that nobody would read.

    Args:
        settings (Mapping): Mutators by key; one of no known key names its ``type``.
            ``reconstruct`` may be True or False instead.

    Raises:
        CompressionError: A key or an argument is unknown; names the closest known one.
    """
    for key, entry in settings.items():
        if key in DEFAULTS or (isinstance(entry, Mapping) and 'type' in entry):
            if isinstance(entry, Mapping):
                checked(MUTATORS, {'type': DEFAULTS.get(key), **entry})
            elif entry is not None and (
                    not isinstance(entry, bool) or key != RECONSTRUCT):
                raise CompressionError(
                    f'compression.{key} is a dict of options, not {entry!r}.')
        else:
            check_options('compression', [key], [*DEFAULTS, *OTHERS])
