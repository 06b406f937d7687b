"""Kept positions of an axis, and tensors of them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

Kept = np.ndarray | None
"""Ascending kept positions of an axis, or None for all of them."""


def take(tensor: Tensor | None, dim: int, kept: Kept) -> Tensor | None:
    """Keep some positions of one axis; a view if they are the first ones."""
    if tensor is None or kept is None:
        return tensor
    if np.array_equal(kept, np.arange(len(kept))):
        return tensor.narrow(dim, 0, len(kept))
    index = torch.as_tensor(kept, device=tensor.device)
    return tensor.index_select(dim, index)


def put(tensor: Tensor, dim: int, kept: Kept, values: Tensor) -> None:
    """Write what :func:`take` gives back to its places, in place."""
    if kept is None:
        tensor.copy_(values)
    else:
        tensor.index_copy_(dim, torch.as_tensor(kept, device=tensor.device), values)


def size_of(kept: Kept, dense: int) -> int:
    """Number of positions kept of an axis of ``dense``."""
    return dense if kept is None else len(kept)


def groups_left(kept: np.ndarray, size: int) -> int:
    """Number of groups of ``size`` that the kept positions are in."""
    return len(np.unique(kept // size))


def parts_left(kept: np.ndarray, sizes: Sequence[int]) -> list[int]:
    """How many positions are kept of each of some parts, one after the other."""
    part = np.searchsorted(np.cumsum(sizes), kept, side='right')
    return np.bincount(part, minlength=len(sizes)).tolist()


def window(kept: Kept, size: int) -> Kept:
    """Kept positions of one group of ``size``, None for all.

    Groups leave as a whole, or all of them lose the same of their positions.
    """
    if kept is None:
        return None
    within = kept[:len(kept) // groups_left(kept, size)] % size
    return None if np.array_equal(within, np.arange(size)) else within
