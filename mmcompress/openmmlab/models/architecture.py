"""Changes to the config of a model before it is built."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any


def with_preprocessor(architecture: dict, data_preprocessor: dict | None) -> dict:
    """The config of a model with a data preprocessor, unless it has its own."""
    architecture = copy.deepcopy(architecture)
    if data_preprocessor is not None:
        architecture.setdefault('data_preprocessor', data_preprocessor)
    return architecture


def overridden(architecture: dict, overrides: Mapping[str, Any]) -> dict:
    """The config of a model with other values in some places.

    A dict goes into the dict that it meets, key by key; anything else replaces it.

    Args:
        architecture (dict): The config; it is not changed.
        overrides (Mapping[str, Any]): What is different.
    """
    result = copy.deepcopy(architecture)
    for key, value in overrides.items():
        if isinstance(value, Mapping) and isinstance(result.get(key), Mapping):
            result[key] = overridden(result[key], value)
        else:
            result[key] = copy.deepcopy(value)
    return result
