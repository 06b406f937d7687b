"""Which channels of which units pass through the inputs and outputs of a module."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

from ..arithmetic.labels import LabelTracer
from ..arithmetic.slices import Kept
from ..errors import TraceError
from ..policy import IN, OUT, ModelGraph
from ..surgery.shadow import shadowed
from .trace import inference, trace_labels

Boundary = tuple[str, int, str, int]
"""Module path, number of its call, ``'in'`` or ``'out'``, number of the tensor."""


@dataclass(frozen=True, eq=False)
class Occupancy:
    """Channels of units along one axis of a tensor.

    Args:
        dim (int): The axis.
        units (tuple[str, ...]): Units that occupy positions of it.
        owner (np.ndarray): ``(size,)`` index into ``units``, -1 where no unit is.
        channel (np.ndarray): ``(size,)`` number of the channel within its unit.
    """

    dim: int
    units: tuple[str, ...]
    owner: np.ndarray
    channel: np.ndarray

    def kept(self, widths: Mapping[str, int]) -> Kept:
        """Positions that remain when every unit keeps its first channels.

        Args:
            widths (Mapping[str, int]): Width by unit; one that is absent is dense.

        Returns:
            np.ndarray | None: Ascending positions, None for all of them.
        """
        limit = np.array([widths.get(name, len(self.owner)) for name in self.units])
        keep = (self.owner < 0) | (self.channel < limit[self.owner])
        return None if keep.all() else np.flatnonzero(keep)


@dataclass(frozen=True, eq=False)
class Passed:
    """A call of a module that has just happened.

    Args:
        path (str): Dotted path of the module.
        number (int): How often it had been called before.
        args, kwargs (Any): Its arguments.
        result (Any): What it returned.
        given, returned (tuple[int, ...]): Versions of the tensors among the arguments
            before it ran, and of those it returned: a higher one now means that
            somebody wrote into the tensor.
    """

    path: str
    number: int
    args: tuple
    kwargs: dict
    result: Any
    given: tuple[int, ...]
    returned: tuple[int, ...]


@contextmanager
def calls_watched(
    model: nn.Module, paths: Sequence[str], seen: Callable[[Passed], None]
) -> Iterator[None]:
    """Report every call of some modules, however they are called.

    mmdet calls ``bbox_head.forward`` directly, which forward hooks do not notice.

    Args:
        model (nn.Module): The model.
        paths (Sequence[str]): Dotted paths of the modules to watch.
        seen (Callable): Called after every call.
    """
    count: Counter[str] = Counter()

    def watched(path: str) -> tuple[nn.Module, dict]:
        module = model.get_submodule(path)
        own = module.forward

        def forward(*args, **kwargs):
            given = _versions((args, kwargs))
            result = own(*args, **kwargs)
            count[path] += 1
            seen(Passed(path, count[path] - 1, args, kwargs, result, given,
                        _versions(result)))
            return result

        return module, dict(forward=forward)

    with shadowed(map(watched, paths)):
        yield


def tensors_of(tree: Any) -> list[Tensor]:
    """Tensors among the leaves of nested tuples, lists and dicts, in order."""
    return [leaf for leaf in tree_leaves(tree) if isinstance(leaf, Tensor)]


def _versions(tree: Any) -> tuple[int, ...]:
    return tuple(tensor._version for tensor in tensors_of(tree))


def trace_boundaries(
    model: nn.Module, graph: ModelGraph, paths: Sequence[str]
) -> dict[Boundary, Occupancy]:
    """Find where channels of units enter and leave some modules.

    Positions come from the labels that the activations carry, not from their
    number: behind a concatenation a unit may be anywhere.

    Args:
        model (nn.Module): The dense model.
        graph (ModelGraph): Its units.
        paths (Sequence[str]): The modules.

    Returns:
        dict[Boundary, Occupancy]: Tensors without channels of a unit are absent.

    Raises:
        TraceError: Channels lie along more than one axis of a tensor.
    """
    labels: dict[Boundary, tuple[int, np.ndarray]] = {}

    def during(tracer: LabelTracer):
        labels.clear()

        def seen(call: Passed) -> None:
            for side, tree in (
                (IN, (call.args, call.kwargs)), (OUT, call.result)
            ):
                for i, tensor in enumerate(tensors_of(tree)):
                    found = _along_axis(tracer, tensor, call.path)
                    if found is not None:
                        labels[call.path, call.number, side, i] = found

        return calls_watched(model, paths, seen)

    with inference(model):
        tracer, _ = trace_labels(model, graph.input_shape, during)
    size = max(b.start + b.size for b in tracer.blocks.values())
    owner, channel = np.full(size, -1), np.zeros(size, int)
    for number, unit in enumerate(graph.units):
        for member in unit.members:
            block = tracer.blocks.get((member.layer, member.side))
            if block is None:  # only training calls it
                continue
            atoms = block.start + member.positions
            owner[atoms] = number
            channel[atoms] = np.arange(unit.width)[:, None]
    found = {}
    for boundary, (dim, atoms) in labels.items():
        names, own = np.unique(owner[atoms], return_inverse=True)
        known = names >= 0
        if known.any():
            shift = int((~known).sum())
            found[boundary] = Occupancy(
                dim, tuple(graph.units[i].name for i in names[known]),
                own - shift, channel[atoms])
    return found


def _along_axis(
    tracer: LabelTracer, tensor: Tensor, path: str
) -> tuple[int, np.ndarray] | None:
    """The axis along which the labels of a tensor vary, and the labels."""
    labels = tracer.get(tensor)
    if labels is None:
        return None
    axes = [dim for dim, size in enumerate(labels.shape) if size > 1]
    if not axes:
        return None
    if len(axes) > 1:
        raise TraceError(
            f'A tensor of shape {tuple(tensor.shape)} at the boundary of {path!r} has '
            'channels along several axes; put the boundary elsewhere.')
    return axes[0], labels.flatten().numpy()
