"""Batches of a user's own loader, whatever their structure."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.utils._pytree import TreeSpec, tree_flatten, tree_map, tree_unflatten

from ..errors import DataError
from .images import Batch


@dataclass(frozen=True, eq=False)
class Rest:
    """What a batch holds besides its first tensor.

    Args:
        leaves (list): All leaves of the batch; the first tensor is replaced by None.
        first (int): Position of the first tensor.
        structure (TreeSpec): How the leaves are nested.
    """

    leaves: list
    first: int
    structure: TreeSpec

    def __getitem__(self, part: slice) -> Rest:
        """The same of some samples: tensors are sliced along their first axis."""
        return Rest([leaf[part] if isinstance(leaf, Tensor) and leaf.dim() else leaf
                     for leaf in self.leaves], self.first, self.structure)

    def __add__(self, other: Rest) -> Rest:
        """The same of two batches together."""
        return Rest([torch.cat([a, b]) if isinstance(a, Tensor) and a.dim() else a
                     for a, b in zip(self.leaves, other.leaves, strict=True)],
                    self.first, self.structure)

    def joined(self, inputs: Tensor) -> Any:
        """The batch as the loader gave it, with ``inputs`` as its first tensor."""
        leaves = list(self.leaves)
        leaves[self.first] = inputs
        return tree_unflatten(leaves, self.structure)


def as_batch(item: Any, device: torch.device) -> Batch:
    """Take a batch of any structure apart: its first tensor and the rest.

    Args:
        item: A tensor, or tensors and other things in nested tuples, lists and dicts;
            the first axis of tensors counts samples.
        device (torch.device): Where the tensors go.

    Raises:
        DataError: There is no tensor in it.
    """
    item = tree_map(lambda x: x.to(device) if isinstance(x, Tensor) else x, item)
    leaves, structure = tree_flatten(item)
    first = next((i for i, x in enumerate(leaves) if isinstance(x, Tensor)), None)
    if first is None:
        raise DataError(
            f'A batch of type {type(item).__name__} holds no tensor; give batches as '
            'tensors, or as tuples, lists and dicts of them.')
    inputs, leaves[first] = leaves[first], None
    return Batch(inputs, Rest(leaves, first, structure))


def read_batches(loader: Iterable, device: torch.device, limit: int) -> list[Batch]:
    """The first batches of a loader, until they hold ``limit`` samples."""
    found: list[Batch] = []
    count = 0
    for item in loader:
        if count >= limit:
            break
        found.append(as_batch(item, device))
        count += len(found[-1].inputs)
    return found
