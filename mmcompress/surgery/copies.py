"""Copies of models that keep what has been noted about the original."""

from __future__ import annotations

import copy
from typing import Any
from weakref import WeakKeyDictionary

from torch import nn

Notes = WeakKeyDictionary[nn.Module, Any]

_NOTES: list[Notes] = []


def notes_on_models() -> Notes:
    """A new dictionary of facts by model, which :func:`copy_of` carries over.

    Facts that are kept beside a model instead of on it leave the user's model alone.
    """
    _NOTES.append(WeakKeyDictionary())
    return _NOTES[-1]


def copy_of(model: nn.Module) -> nn.Module:
    """A deep copy of a model, with the same notes.

    Buffers that were computed from parameters (CLRNet's priors), which PyTorch does not
    copy, are values in it.
    """
    computed = {id(buffer): buffer.detach().clone() for buffer in model.buffers()
                if not buffer.is_leaf}
    copied = copy.deepcopy(model, computed)
    for notes in _NOTES:
        if model in notes:
            notes[copied] = notes[model]
    return copied
