"""Rules for mmdet's own layers; imported when a detector is traced."""

from __future__ import annotations

from mmdet.models.roi_heads.roi_extractors import SingleRoIExtractor
from torch import Tensor

from ..ops.slicing import Kept, sliced
from ..policy import OUT
from .labels import LabelTracer
from .rules import _emit, follow


@follow.register(SingleRoIExtractor)
def _(
    module: SingleRoIExtractor, tracer: LabelTracer, name: str,
    x: tuple[Tensor, ...], out: Tensor,
):
    # It gathers the boxes of all levels in one tensor of ``out_channels``.
    made = tracer.block(name, OUT, module.out_channels)
    for level in x:
        labels = tracer.vector(level, 1)
        if labels is None:
            tracer.pin(made.atoms)
        else:
            tracer.tie(made.atoms, labels)
    _emit(tracer, out, 1, made.atoms)


@sliced.register(SingleRoIExtractor)
def _(module: SingleRoIExtractor, out: Kept, into: Kept) -> dict:
    return dict(out_channels=module.out_channels if out is None else len(out))
