"""Convs whose groups lose equally many outputs: what leaves together to that end.

Channels that are tied may lie in some groups of such a conv and not in others, e.g.
where a block's output is put behind its input. Those that leave one group wanting are
joined with those that leave the others wanting; what finds no partner stays.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from scipy.sparse.csgraph import connected_components
from torch import nn

from ..arithmetic.labels import PINNED, LabelTracer
from ..layers.rule import rule_of
from ..policy import OUT

Sorts = dict[tuple[int, ...], list[int]]
"""First atoms of tied channels, by what they take more from each group."""


def balance(model: nn.Module, tracer: LabelTracer) -> None:
    """Tie channels so that all groups of each balanced conv lose equally many.

    Args:
        model (nn.Module): The model.
        tracer (LabelTracer): Has followed it.
    """
    blocks = [tracer.blocks[name, OUT] for name in sorted(tracer.balanced)
              if (name, OUT) in tracer.blocks]
    if not blocks:
        return
    component = tracer.components()
    found, first = np.unique(component, return_index=True)
    excess = []
    for block in blocks:
        conv = model.get_submodule(block.layer)
        groups = component[block.start:block.start + block.size].reshape(
            rule_of(conv).groups(conv), -1)
        counts = np.stack([np.bincount(g, minlength=len(found)) for g in groups], 1)
        excess.append(counts - counts[:, :1])
    table = np.concatenate(excess, axis=1)
    sorts: Sorts = {}
    for label in np.flatnonzero(table.any(1)):
        if label != component[PINNED]:
            sorts.setdefault(tuple(table[label]), []).append(first[label])
    for atoms in _joined(sorts):
        tracer.tie(torch.tensor(atoms), torch.tensor(atoms[0]))
    for atoms in filter(len, sorts.values()):
        tracer.pin(torch.tensor(atoms))


def _joined(sorts: Sorts) -> Iterator[list[int]]:
    """Take out, in their order, atoms that are in balance together."""
    for chosen in _related(list(sorts)):
        while chosen and not np.sum(chosen, axis=0).any():
            yield [sorts[sort].pop(0) for sort in chosen]
            chosen = [sort for sort in chosen if sorts[sort]]


def _related(sorts: list[tuple[int, ...]]) -> list[list[tuple[int, ...]]]:
    """Sorts by the groups they share: one sort makes up for related ones only."""
    if not sorts:
        return []
    uneven = np.array(sorts) != 0
    number, family = connected_components(uneven.astype(int) @ uneven.T.astype(int))
    return [[sort for sort, own in zip(sorts, family) if own == i]
            for i in range(number)]
