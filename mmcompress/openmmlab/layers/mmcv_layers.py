"""Rules for mmcv's compiled layers, which no dispatcher sees into."""

from __future__ import annotations

from mmcv.ops import (
    DeformConv2d,
    ModulatedDeformConv2d,
    RoIAlign,
    RoIPool,
)
from torch import Tensor, nn

from ...arithmetic.labels import LabelTracer
from ...layers.follow import _consume, _emit, follow
from ...layers.slicing import Kept, sliced, take
from ...policy import IN, OUT

CLOSED = (DeformConv2d, ModulatedDeformConv2d)
"""Layers that are followed as a whole although a layer inside computes offsets."""


@follow.register(RoIAlign)
@follow.register(RoIPool)
def _(module: nn.Module, tracer: LabelTracer, name: str, x: Tensor, out: Tensor):
    labels = tracer.vector(x, 1)
    if labels is not None:
        _emit(tracer, out, 1, labels)


@follow.register(DeformConv2d)
@follow.register(ModulatedDeformConv2d)
def _(module: nn.Module, tracer: LabelTracer, name: str, x: Tensor, out: Tensor):
    into = _consume(tracer, name, x, 1, IN)
    made = tracer.block(name, OUT, module.out_channels)
    if module.groups > 1 or module.deform_groups > 1:
        # Offsets are per deformable group: its inputs cannot leave one by one.
        tracer.pin(into.atoms)
    if module.groups > 1:
        tracer.pin(made.atoms)
    _emit(tracer, out, 1, made.atoms)


@sliced.register(DeformConv2d)
@sliced.register(ModulatedDeformConv2d)
def _(module: nn.Module, out: Kept, into: Kept) -> dict:
    weight = take(take(module.weight, 0, out), 1, into)
    return dict(
        weight=weight if weight is None else weight.contiguous(),
        bias=take(getattr(module, 'bias', None), 0, out),
        in_channels=module.in_channels if into is None else len(into),
        out_channels=module.out_channels if out is None else len(out))
