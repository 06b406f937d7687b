"""What each layer type does to channel labels.

``follow(module, tracer, name, args, out)`` ties the axes of one layer to the
labels of its input and labels its output. Layers without a rule are not leaves:
the operators inside them are followed instead.
"""

from __future__ import annotations

from functools import singledispatch

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase
from torch.nn.modules.conv import _ConvNd

from ..arithmetic.labels import LabelTracer
from ..policy import IN, OUT
from .pad import ChannelPad

EVEN: dict[type, tuple[str, ...]] = {}
"""By class, its convs whose groups are added up and must stay alike."""


def even_convs(model: nn.Module) -> frozenset[str]:
    """Names of the convs whose groups all lose the same channels."""
    return frozenset(f'{name}.{conv}' for name, module in model.named_modules()
                     for conv in EVEN.get(type(module), ()))


def follow_radix(
    module: nn.Module, tracer: LabelTracer, name: str, x: Tensor, out: Tensor
) -> None:
    """Follow ResNeSt's softmax over the splits of a channel, which stay alike.

    From ``(cardinality, radix, channels)`` to ``(radix, cardinality, channels)``.
    """
    labels = tracer.vector(x, 1)
    if labels is not None:
        splits = labels.reshape(module.groups, module.radix, -1)
        tracer.tie(splits, splits[:, :1])
        _emit(tracer, out, 1, splits[:, 0].flatten().repeat(module.radix))


@singledispatch
def follow(
    module: nn.Module, tracer: LabelTracer, name: str, x: Tensor, out: Tensor
) -> None:
    """Tie the axes of ``module`` and label its output.

    Args:
        module (nn.Module): The layer that has just run.
        tracer (LabelTracer): Holds the labels.
        name (str): Dotted path of the layer.
        x (Tensor): Its (first) input.
        out (Tensor): Its output.

    Raises:
        TypeError: No rule is registered for this type.
    """
    raise TypeError(f'No rule for {type(module).__name__}.')


def has_rule(module: nn.Module) -> bool:
    """Whether ``module`` is followed as a whole."""
    return follow.dispatch(type(module)) is not follow.dispatch(object)


def _consume(tracer: LabelTracer, name: str, x: Tensor, dim: int, side: str):
    """Tie one axis of a layer to the labels along ``dim`` of its input."""
    block = tracer.block(name, side, x.shape[dim])
    labels = tracer.vector(x, dim)
    if labels is None:
        # A constant input (the image) has a fixed number of channels.
        tracer.pin(block.atoms)
    else:
        tracer.tie(block.atoms, labels)
    return block


def _emit(tracer: LabelTracer, out: Tensor, dim: int, atoms: Tensor) -> None:
    shape = [1] * out.dim()
    shape[dim] = len(atoms)
    tracer.set(out, atoms.reshape(shape))


@follow.register(_ConvNd)
def _(module: _ConvNd, tracer: LabelTracer, name: str, x: Tensor, out: Tensor):
    dim = -(len(module.kernel_size) + 1)
    into = _consume(tracer, name, x, dim, IN)
    made = tracer.block(name, OUT, module.out_channels)
    atoms = made.atoms
    if module.groups > 1:
        pairs = [b.atoms.reshape(module.groups, -1) for b in (into, made)]
        if name in tracer.even:
            # The same channels of all groups go together. They carry one label, so that
            # sums over groups keep it.
            for pair in pairs:
                tracer.tie(pair, pair[:1])
            atoms = pairs[1][0].repeat(module.groups)
        else:
            # All channels of one group, inputs and outputs, go together.
            tracer.tie(pairs[0], pairs[0][:, :1])
            tracer.tie(pairs[1], pairs[0][:, :1])
    _emit(tracer, out, dim, atoms)


@follow.register(nn.Linear)
def _(module: nn.Linear, tracer: LabelTracer, name: str, x: Tensor, out: Tensor):
    _consume(tracer, name, x, -1, IN)
    made = tracer.block(name, OUT, module.out_features)
    _emit(tracer, out, -1, made.atoms)


def _norm(tracer: LabelTracer, name: str, x: Tensor, dim: int, out: Tensor, owns: bool):
    labels = tracer.vector(x, dim)
    if labels is None:
        return
    if owns:
        block = tracer.block(name, OUT, x.shape[dim])
        tracer.tie(block.atoms, labels)
    _emit(tracer, out, dim, labels)


@follow.register(_NormBase)
def _(module: _NormBase, tracer: LabelTracer, name: str, x: Tensor, out: Tensor):
    owns = module.affine or module.running_mean is not None
    _norm(tracer, name, x, 1, out, owns)


@follow.register(nn.GroupNorm)
def _(module: nn.GroupNorm, tracer: LabelTracer, name: str, x: Tensor, out: Tensor):
    labels = tracer.vector(x, 1)
    if labels is not None:
        groups = labels.reshape(module.num_groups, -1)
        tracer.tie(groups, groups[:, :1])
    block = tracer.block(name, OUT, module.num_channels)
    if labels is not None:
        tracer.tie(block.atoms, labels)
        _emit(tracer, out, 1, labels)


@follow.register(nn.LayerNorm)
def _(module: nn.LayerNorm, tracer: LabelTracer, name: str, x: Tensor, out: Tensor):
    if len(module.normalized_shape) != 1:
        tracer.pin(tracer.get(x))
        return
    # mmpretrain's LayerNorm2d is a LayerNorm over axis 1 of an image.
    dim = 1 if hasattr(module, 'num_channels') and x.dim() == 4 else x.dim() - 1
    _norm(tracer, name, x, dim, out, module.elementwise_affine)


@follow.register(nn.PReLU)
def _(module: nn.PReLU, tracer: LabelTracer, name: str, x: Tensor, out: Tensor):
    if module.num_parameters > 1:
        _norm(tracer, name, x, 1, out, True)
    else:
        tracer.set(out, tracer.get(x))


@follow.register(ChannelPad)
def _(module: ChannelPad, tracer: LabelTracer, name: str, x: Tensor, out: Tensor):
    into = _consume(tracer, name, x, 1, IN)
    made = tracer.block(name, OUT, module.out_channels)
    source = torch.tensor(module.source)
    copied = source >= 0
    tracer.tie(made.atoms[copied], into.atoms[source[copied]])
    _emit(tracer, out, 1, made.atoms)
