"""Channel labels: which activations come from, and feed, which channels.

Every activation of a forward pass carries an integer tensor of labels that
broadcasts to its shape. A label names the *atom* (one position on one axis of one
layer) that an element belongs to. Operators that move data move the labels in the
same way, pointwise operators merge the labels of their operands, layers tie their
input axis to the labels they see and emit fresh labels for what they produce.
Whatever an operator does that is not known to treat channels independently pins
the labels it touches: they can never be removed. So the result is sound by
construction for every operator, known or not, and exact through concatenation,
splits, shuffles, space-to-depth and flattening.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components
from torch import Tensor, nn
from torch.utils._pytree import tree_flatten
from torch.utils.weak import WeakTensorKeyDictionary

PINNED = 0
"""Label of elements that must stay."""


@dataclass(frozen=True)
class Block:
    """Consecutive atoms: the positions of one axis of one layer."""

    layer: str
    side: str
    start: int
    size: int

    @property
    def atoms(self) -> Tensor:
        """Labels of the block, shape ``(size,)``."""
        return torch.arange(self.start, self.start + self.size)


class LabelTracer:
    """The labels of one forward pass, and what ties them.

    Layers label their outputs through their rules, operators through
    :class:`mmcompress.graph.operators.Following`.

    Args:
        even (frozenset[str]): Convs whose groups all lose the same channels, by name.
            Of others, groups leave as a whole.
        balanced (frozenset[str]): Convs whose groups stay and lose the same inputs, and
            equally many outputs.

    Attributes:
        params (dict[int, tuple[str, nn.Parameter]]): Parameters by ``id`` with
            their names, so that bare ones used in arithmetic can be labelled.
        blocks (dict[tuple[str, str], Block]): Atoms by layer and side.
        unknown (Counter[str]): Calls of operators that pinned what they touched.
        functional (set[str]): Owners of matrices that arithmetic uses.
        paused (int): Above 0, operators leave no labels.
        arranges (bool): Whether a rule answers for the sizes at which code cuts.
    """

    def __init__(
        self, even: frozenset[str] = frozenset(),
        balanced: frozenset[str] = frozenset(),
    ) -> None:
        self.params: dict[int, tuple[str, nn.Parameter]] = {}
        self.blocks: dict[tuple[str, str], Block] = {}
        self.even, self.balanced = even, balanced
        self.unknown: Counter[str] = Counter()
        self.functional: set[str] = set()
        self.paused = 0
        self.arranges = False
        self._labels = WeakTensorKeyDictionary()
        self._edges: list[tuple[Tensor, Tensor]] = []
        self._size = 1  # label 0 is PINNED

    # -- labels of tensors ---------------------------------------------------
    def get(self, tensor: Tensor) -> Tensor | None:
        """Labels of a tensor, broadcastable to it; None for a constant."""
        found = self._labels.get(tensor)
        if found is None and id(tensor) in self.params:
            found = self._label_parameter(tensor)
        return found

    def set(self, tensor: Tensor, labels: Tensor | None) -> None:
        """Give ``tensor`` its labels."""
        if labels is None:
            self._labels.pop(tensor, None)
        else:
            assert labels.dim() == tensor.dim()
            self._labels[tensor] = compact(labels)

    def _label_parameter(self, param: Tensor) -> Tensor | None:
        """Label a bare parameter: a vector has atoms, a matrix is pinned."""
        name = self.params[id(param)][0]
        axes = [i for i, n in enumerate(param.shape) if n > 1]
        if not axes:  # one number for all channels
            return None
        if len(axes) == 1:
            block = self.block(f'{name}@{axes[0]}', 'out', param.numel())
            labels = block.atoms.reshape(param.shape)
        else:
            self.functional.add(name.rpartition('.')[0])
            labels = torch.zeros([1] * param.dim(), dtype=torch.int64)
        self.set(param, labels)
        return labels

    # -- atoms and what ties them --------------------------------------------
    def block(self, layer: str, side: str, size: int) -> Block:
        """The block of one axis, made at its first use."""
        if (layer, side) not in self.blocks:
            self.blocks[layer, side] = Block(layer, side, self._size, size)
            self._size += size
        return self.blocks[layer, side]

    def tie(self, left: Tensor, right: Tensor) -> None:
        """Atoms that broadcast against each other live and die together."""
        left, right = torch.broadcast_tensors(left, right)
        keep = left != right
        if keep.any():
            # Rows of one number each sort far faster than pairs.
            pairs = (left[keep] << 32 | right[keep]).unique()
            self._edges.append((pairs >> 32, pairs & 0xFFFFFFFF))

    def pin(self, labels: Tensor | None) -> None:
        """Atoms with these labels can never be removed."""
        if labels is not None:
            self.tie(labels, torch.tensor(PINNED))

    def vector(self, tensor: Tensor, dim: int) -> Tensor | None:
        """Labels along ``dim``; all those at one position are tied together.

        Returns:
            Tensor | None: Shape ``(tensor.shape[dim],)``, or None for a constant.
        """
        labels = self.get(tensor)
        if labels is None:
            return None
        size = tensor.shape[dim]
        rows = labels.movedim(dim, 0).flatten(1)
        self.tie(rows, rows[:, :1])
        return rows[:, 0].expand(size)

    def consume(self, layer: str, side: str, tensor: Tensor, dim: int) -> Block:
        """Tie one axis of a layer to the labels along ``dim`` of a tensor it reads.

        Returns:
            Block: The axis of the layer.
        """
        block = self.block(layer, side, tensor.shape[dim])
        labels = self.vector(tensor, dim)
        if labels is None:
            # A constant input (the image) has a fixed number of channels.
            self.pin(block.atoms)
        else:
            self.tie(block.atoms, labels)
        return block

    def emit(self, tensor: Tensor, dim: int, atoms: Tensor) -> None:
        """Label a tensor by ``atoms`` along ``dim``."""
        shape = [1] * tensor.dim()
        shape[dim] = len(atoms)
        self.set(tensor, atoms.reshape(shape))

    @contextmanager
    def attempt(self) -> Iterator[None]:
        """A block that ties nothing if it fails."""
        before, state = len(self._edges), (self.paused, self.arranges)
        try:
            yield
        except BaseException:
            del self._edges[before:]
            self.paused, self.arranges = state
            raise

    def components(self) -> np.ndarray:
        """Component of every label, shape ``(number of labels,)``."""
        edges = [torch.stack(e) for e in self._edges]
        left, right = (torch.cat(edges, 1).numpy() if edges
                       else np.zeros((2, 0), int))
        shape = (self._size, self._size)
        graph = coo_matrix((np.ones(len(left), np.int8), (left, right)), shape)
        return connected_components(graph, directed=False)[1]


def compact(labels: Tensor) -> Tensor:
    """Shrink every axis along which the labels do not vary to size 1."""
    for dim, size in enumerate(labels.shape):
        if size > 1:
            first = labels.narrow(dim, 0, 1)
            if labels.stride(dim) == 0 or bool((labels == first).all()):
                labels = first
    return labels


def tensors_in(tree: object) -> list[Tensor]:
    """All tensors of a nested structure, mmengine data elements included."""
    found: list[Tensor] = []
    leaves: Sequence = tree_flatten(tree)[0]
    for leaf in leaves:
        if isinstance(leaf, Tensor):
            found.append(leaf)
        elif hasattr(leaf, 'all_items'):  # mmengine.structures.BaseDataElement
            found += tensors_in([value for _, value in leaf.all_items()])
    return found
