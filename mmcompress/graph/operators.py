"""What each aten operator does to channel labels.

Five kinds cover the operators that treat channels independently; every other
operator pins the labels of its inputs, which is always safe.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_flatten, tree_map

from ..arithmetic.labels import LabelTracer

SAME = frozenset('''
    alias detach clone contiguous _to_copy lift_fresh native_dropout dropout
    _conj resolve_conj resolve_neg'''.split())
"""The output has the labels of the input."""

RESHAPE = frozenset('''
    view _unsafe_view reshape _reshape_alias squeeze unsqueeze'''.split())
"""The output is the input, read in another shape."""

MOVE = frozenset('''
    permute transpose t numpy_T expand slice select split split_with_sizes
    unsafe_split unbind chunk cat stack roll flip repeat index_select narrow unfold
    pixel_shuffle pixel_unshuffle channel_shuffle native_channel_shuffle diagonal
    movedim tile index'''.split())
"""The output holds elements of the inputs: the same operator moves the labels."""

FIXED_SPLIT = 'split_with_sizes'
"""Cuts at sizes that the model's code holds, so that what it cuts must stay, unless
the rule of a container answers for the sizes."""

SPATIAL = frozenset('''
    max_pool2d_with_indices max_pool3d_with_indices avg_pool2d avg_pool3d
    _adaptive_avg_pool2d adaptive_avg_pool2d adaptive_max_pool2d mean sum amax amin
    max min var std _softmax softmax _log_softmax upsample_nearest1d
    upsample_nearest2d upsample_bilinear2d _upsample_bilinear2d_aa upsample_bicubic2d
    _upsample_nearest_exact2d grid_sampler_2d constant_pad_nd reflection_pad2d
    replication_pad2d cumsum norm linalg_vector_norm'''.split())
"""Mixes along some axes; sound where the labels do not vary along those."""

POINTWISE = frozenset('''
    celu elu gelu hardsigmoid hardswish hardtanh leaky_relu mish relu6 selu silu
    threshold'''.split())
"""Activation functions; torch tags some of them, or of their forms in place, not as
pointwise, and which ones depends on the release."""

ORDERED = frozenset({'norm', 'linalg_vector_norm'})
"""Names the order of the norm before the axes."""

SHAPE_ONLY = frozenset('''
    zeros_like ones_like empty_like full_like rand_like randn_like new_zeros
    new_ones new_full new_empty new_empty_strided sym_size sym_stride is_same_size
    arange _local_scalar_dense _has_compatible_shallow_copy_type'''.split())
"""Reads the shape or a scalar; no channel flows through."""


class Following(TorchDispatchMode):
    """Lets every operator hand on the labels of its inputs, for a while.

    Args:
        tracer (LabelTracer): Holds the labels; says when it is paused.
    """

    def __init__(self, tracer: LabelTracer) -> None:
        super().__init__()
        self.tracer = tracer

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        if not self.tracer.paused:
            propagate(self.tracer, func, args, kwargs or {}, out)
        return out


def propagate(tracer: LabelTracer, func: Any, args: tuple, kwargs: dict, out: Any
              ) -> None:
    """Give ``out`` the labels that follow from the labels of the inputs.

    Args:
        tracer (LabelTracer): Holds the labels.
        func: The aten operator that has just run.
        args, kwargs: Its arguments.
        out: What it returned.
    """
    inputs = [x for x in tree_flatten((args, kwargs))[0] if isinstance(x, Tensor)]
    labels = [tracer.get(x) for x in inputs]
    if all(x is None for x in labels):
        return
    name = func._schema.name.removeprefix('aten::')
    name = name if name.startswith('_') else name.removesuffix('_')
    if name in SHAPE_ONLY:
        return
    if name in SAME:
        _assign(tracer, out, labels[0])
    elif name in RESHAPE:
        _reshape(tracer, inputs[0], labels[0], out)
    elif name in MOVE:
        if name == FIXED_SPLIT and not tracer.arranges:
            dim = args[2] if len(args) > 2 else kwargs.get('dim', 0)
            if labels[0].shape[dim] > 1:
                tracer.pin(labels[0])
        _move(tracer, func, args, kwargs, inputs, out)
    elif name in SPATIAL and labels[0] is not None:
        for other in labels[1:]:  # coordinates computed from activations
            tracer.pin(other)
        if name in ORDERED:
            args = (args[0], *args[2:])
        _spatial(tracer, inputs[0], labels[0], args, out)
    elif name in POINTWISE or (
            torch.Tag.pointwise in func.tags and name != 'copy'):
        _pointwise(tracer, inputs, labels, out)
    else:
        tracer.unknown[name] += 1
        for label in labels:
            tracer.pin(label)


def _assign(tracer: LabelTracer, out: Any, labels: Tensor | None) -> None:
    for tensor in tree_flatten(out)[0]:
        if isinstance(tensor, Tensor):
            same_rank = labels is not None and labels.dim() == tensor.dim()
            tracer.set(tensor, labels if same_rank else None)


def _reshape(
    tracer: LabelTracer, source: Tensor, labels: Tensor, out: Tensor
) -> None:
    if labels.numel() == 1:
        tracer.set(out, labels.reshape([1] * out.dim()))
    else:
        tracer.set(out, labels.expand(source.shape).reshape(out.shape))


def _move(
    tracer: LabelTracer, func: Any, args: tuple, kwargs: dict,
    inputs: list[Tensor], out: Any,
) -> None:
    """Run the operator on the labels; constants it mixes in are pinned."""
    data = inputs[:1] if func._schema.name != 'aten::cat' else inputs
    data = inputs if func._schema.name == 'aten::stack' else data
    ids = {id(x) for x in data}
    for other in inputs:
        if id(other) not in ids:  # an index computed from activations
            tracer.pin(tracer.get(other))

    def full(x: Any) -> Any:
        if id(x) not in ids:
            return x
        labels = tracer.get(x)
        if labels is None:
            labels = torch.zeros([1] * x.dim(), dtype=torch.int64)
        return labels.expand(x.shape)

    moved = func(*tree_map(full, args), **tree_map(full, kwargs))
    for tensor, labels in zip(tree_flatten(out)[0], tree_flatten(moved)[0]):
        tracer.set(tensor, labels)


def _spatial(
    tracer: LabelTracer, source: Tensor, labels: Tensor, args: tuple, out: Any
) -> None:
    """Keep the labels if the axes that changed or were reduced carry none."""
    tensors = [x for x in tree_flatten(out)[0] if isinstance(x, Tensor)]
    first = tensors[0]
    varying = {i for i, n in enumerate(labels.shape) if n > 1}
    if first.dim() == source.dim():
        changed = {i for i, n in enumerate(first.shape) if n != source.shape[i]}
        kept = labels
    else:
        changed, kept = _reduced(source, args), None
    # An axis may be mixed without changing size (softmax, same-size pooling).
    changed |= _mixed(source, args, first)
    if changed & varying:
        tracer.pin(labels)
        return
    if kept is None:
        kept = labels.squeeze(tuple(sorted(changed)))
    for tensor in tensors:
        tracer.set(tensor, kept if kept.dim() == tensor.dim() else None)


def _reduced(source: Tensor, args: tuple) -> set[int]:
    dims = args[1] if len(args) > 1 else None
    if isinstance(dims, int):
        dims = [dims]
    if not isinstance(dims, (list, tuple)) or not dims:
        return set(range(source.dim()))
    return {d % source.dim() for d in dims}


def _mixed(source: Tensor, args: tuple, out: Tensor) -> set[int]:
    """Axes named by the operator, or the spatial ones of a pooling-like one."""
    if out.dim() != source.dim():
        return set()
    second = args[1] if len(args) > 1 else None
    if isinstance(second, int) and not isinstance(second, bool):
        return {second % source.dim()}
    if source.dim() >= 4:
        return set(range(2, source.dim()))
    return set(range(source.dim())) if second is None else set()


def _pointwise(
    tracer: LabelTracer, inputs: list[Tensor], labels: list[Tensor | None], out: Any
) -> None:
    """Merge the labels of all operands position by position."""
    shape = tree_flatten(out)[0][0].shape
    rank = len(shape)
    merged: Tensor | None = None
    for label in labels:
        if label is None:
            continue
        label = label.reshape([1] * (rank - label.dim()) + list(label.shape))
        if merged is None:
            merged = label
            continue
        tracer.tie(merged, label)
        merged = torch.broadcast_tensors(merged, label)[0]
    assert merged is not None
    varying = {i for i, n in enumerate(merged.shape) if n > 1}
    for tensor, label in zip(inputs, labels):
        padded = [1] * (rank - tensor.dim()) + list(tensor.shape)
        if label is None and any(padded[i] > 1 for i in varying):
            tracer.pin(merged)  # a constant of full size fixes the shape
            merged = torch.zeros([1] * rank, dtype=torch.int64)
            break
    _assign(tracer, out, merged)
