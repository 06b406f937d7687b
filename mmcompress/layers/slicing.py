"""How each layer type slices: from kept channels to its smaller attributes.

``sliced(module, out, into)`` returns the values that the attributes of ``module``
take when only the positions ``out`` of its output axis and ``into`` of its input
axis are kept. Acting as a policy puts these values in front of the layer's own
(:class:`Shadow`); materialising writes them for good (:func:`overwrite`). One
function serves both, so the two cannot disagree. A new layer type is one function
registered here and one in ``layers/follow.py``.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from functools import singledispatch
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase
from torch.nn.modules.conv import _ConvNd, _ConvTransposeNd

from .pad import ChannelPad
from .quantised import QuantConv2d, QuantConvTranspose2d, QuantLayer, QuantLinear

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


@singledispatch
def sliced(module: nn.Module, out: Kept, into: Kept) -> dict[str, Any]:
    """Attributes of ``module`` when only some channels are kept.

    Args:
        module (nn.Module): A dense layer.
        out (np.ndarray | None): Kept positions of the output axis.
        into (np.ndarray | None): Kept positions of the input axis.

    Returns:
        dict[str, Any]: Attribute name to its new value; tensors may be views.

    Raises:
        TypeError: No rule is registered for this layer type.
    """
    raise TypeError(f'No slicing rule for {type(module).__name__}.')


def can_slice(module: nn.Module) -> bool:
    """Whether a slicing rule is registered for the type of ``module``."""
    return sliced.dispatch(type(module)) is not sliced.dispatch(object)


def _size(kept: Kept, dense: int) -> int:
    return dense if kept is None else len(kept)


def window(module: _ConvNd, into: Kept) -> Kept:
    """Kept inputs of one group of a conv, None for all.

    Groups leave as a whole, or all of them lose the same of their inputs.
    """
    if into is None:
        return None
    size = module.in_channels // module.groups
    within = into[:len(into) // _groups(into, size)] % size
    return None if np.array_equal(within, np.arange(size)) else within


def _groups(kept: np.ndarray, size: int) -> int:
    """How many groups of ``size`` the kept positions are in."""
    return len(np.unique(kept // size))


@sliced.register(_ConvNd)
def _(module: _ConvNd, out: Kept, into: Kept) -> dict[str, Any]:
    groups = module.groups
    for kept, dense in ((out, module.out_channels), (into, module.in_channels)):
        if kept is not None:
            groups = _groups(kept, dense // module.groups)
    return dict(
        weight=take(take(module.weight, 0, out), 1, window(module, into)),
        bias=take(module.bias, 0, out), groups=groups,
        in_channels=_size(into, module.in_channels),
        out_channels=_size(out, module.out_channels))


@sliced.register(_ConvTransposeNd)
def _(module: _ConvTransposeNd, out: Kept, into: Kept) -> dict[str, Any]:
    into_size = _size(into, module.in_channels)
    weight = take(module.weight, 0, into)
    if module.groups == 1:
        weight, groups = take(weight, 1, out), 1
    else:
        groups = into_size * module.groups // module.in_channels
    return dict(
        weight=weight, bias=take(module.bias, 0, out), groups=groups,
        in_channels=into_size, out_channels=_size(out, module.out_channels))


@sliced.register(nn.Linear)
def _(module: nn.Linear, out: Kept, into: Kept) -> dict[str, Any]:
    return dict(
        weight=take(take(module.weight, 0, out), 1, into),
        bias=take(module.bias, 0, out),
        in_features=_size(into, module.in_features),
        out_features=_size(out, module.out_features))


def _with_scales(module: QuantLayer, values: dict, out: Kept) -> dict[str, Any]:
    """The scales of a quantised weight go with its output channels."""
    if out is not None and not module.weight_quantizer.is_float:
        values['weight_quantizer'] = module.weight_quantizer.narrowed(out)
    return values


@sliced.register(QuantConv2d)
def _(module: QuantConv2d, out: Kept, into: Kept) -> dict[str, Any]:
    return _with_scales(module, sliced.dispatch(nn.Conv2d)(module, out, into), out)


@sliced.register(QuantConvTranspose2d)
def _(module: QuantConvTranspose2d, out: Kept, into: Kept) -> dict[str, Any]:
    values = sliced.dispatch(nn.ConvTranspose2d)(module, out, into)
    return _with_scales(module, values, out)


@sliced.register(QuantLinear)
def _(module: QuantLinear, out: Kept, into: Kept) -> dict[str, Any]:
    return _with_scales(module, sliced.dispatch(nn.Linear)(module, out, into), out)


@sliced.register(_NormBase)
def _(module: _NormBase, out: Kept, into: Kept) -> dict[str, Any]:
    names = ['weight', 'bias', 'running_mean', 'running_var']
    # See mmcompress.evaluation.dynamic_bn.pair.
    names += [n for n in ('calibration_shift', 'calibration_ratio')
              if hasattr(module, n)]
    values = {n: take(getattr(module, n), 0, out) for n in names}
    return dict(values, num_features=_size(out, module.num_features))


@sliced.register(nn.GroupNorm)
def _(module: nn.GroupNorm, out: Kept, into: Kept) -> dict[str, Any]:
    channels = _size(out, module.num_channels)
    return dict(
        weight=take(module.weight, 0, out), bias=take(module.bias, 0, out),
        num_channels=channels,
        num_groups=channels * module.num_groups // module.num_channels)


@sliced.register(nn.LayerNorm)
def _(module: nn.LayerNorm, out: Kept, into: Kept) -> dict[str, Any]:
    values = dict(
        weight=take(module.weight, 0, out), bias=take(module.bias, 0, out),
        normalized_shape=(_size(out, module.normalized_shape[0]),))
    if hasattr(module, 'num_channels'):  # mmpretrain's LayerNorm2d
        values['num_channels'] = values['normalized_shape'][0]
    return values


@sliced.register(nn.PReLU)
def _(module: nn.PReLU, out: Kept, into: Kept) -> dict[str, Any]:
    return dict(
        weight=take(module.weight, 0, out),
        num_parameters=_size(out, module.num_parameters))


@sliced.register(ChannelPad)
def _(module: ChannelPad, out: Kept, into: Kept) -> dict[str, Any]:
    source = np.asarray(module.source)[slice(None) if out is None else out]
    if into is not None:
        # Where each kept input channel moved to; removed ones read as zero.
        moved = np.full(module.in_channels + 1, -1)
        moved[into] = np.arange(len(into))
        source = moved[source]
    return dict(
        source=tuple(source.tolist()),
        in_channels=_size(into, module.in_channels), out_channels=len(source))


class Shadow:
    """Values that stand in front of a module's own until they are lifted.

    An instance attribute is found before a registered parameter or buffer, so the
    layer computes with the small tensor while ``state_dict``, ``parameters`` and
    optimisers keep seeing the dense one.

    Args:
        module (nn.Module): The layer.
        values (Mapping[str, Any]): Attribute name to value.
    """

    def __init__(self, module: nn.Module, values: Mapping[str, Any]) -> None:
        self._module = module
        own = module.__dict__
        self._saved = {name: own[name] for name in values if name in own}
        self._added = [name for name in values if name not in own]
        own.update(values)

    def lift(self) -> None:
        """Bring the module's own attributes back, exactly."""
        own = self._module.__dict__
        own.update(self._saved)
        for name in self._added:
            own.pop(name, None)


@contextmanager
def shadowed(pairs: Iterable[tuple[nn.Module, Mapping[str, Any]]]) -> Iterator[None]:
    """Put values in front of those of some modules for a while.

    Args:
        pairs (Iterable): Modules, each with its values, see :class:`Shadow`; each pair
            is asked for when the ones before it are in force.
    """
    shadows = []
    try:
        for module, values in pairs:
            shadows.append(Shadow(module, values))
        yield
    finally:
        for shadow in reversed(shadows):
            shadow.lift()


def overwrite(module: nn.Module, values: Mapping[str, Any]) -> None:
    """Make ``values`` the module's own: parameters and buffers shrink for good."""
    for name, value in values.items():
        if name in module._parameters:
            old = module._parameters[name]
            if old is not None:
                data = value.detach().clone(memory_format=torch.contiguous_format)
                module._parameters[name] = nn.Parameter(data, old.requires_grad)
        elif name in module._buffers:
            if value is not None:
                value = value.detach().clone(memory_format=torch.contiguous_format)
            module._buffers[name] = value
        elif name in module._modules:
            module._modules[name] = value
        else:
            module.__dict__[name] = value
