"""Rules for mmdet's own layers; imported when a detector is traced."""

from __future__ import annotations

from functools import partial

import numpy as np
import torch
from mmdet.models.backbones.resnest import RSoftmax, SplitAttentionConv2d
from mmdet.models.layers.normed_predictor import NormedConv2d, NormedLinear
from mmdet.models.roi_heads.roi_extractors import SingleRoIExtractor
from torch import Tensor, nn

from ...arithmetic.labels import LabelTracer
from ...graph.verify import masked
from ...layers.follow import EVEN, _emit, follow, follow_radix
from ...layers.slicing import Kept, shadowed, sliced
from ...policy import OUT

EVEN[SplitAttentionConv2d] = ('conv', 'fc1', 'fc2')
follow.register(RSoftmax, follow_radix)


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


@masked.register(NormedLinear)
@masked.register(NormedConv2d)
def _(module: nn.Module, gone: np.ndarray):
    """Each row of the weight is divided by the norm of what remains of it."""
    return partial(_masked_rows, module, torch.as_tensor(gone))


def _masked_rows(module: nn.Module, gone: Tensor, x: Tensor) -> Tensor:
    dim = -1 if isinstance(module, nn.Linear) else 1
    weight = module.weight.detach().index_fill(1, gone, 0.0)
    with shadowed([(module, dict(weight=weight))]):
        return type(module).forward(module, x.index_fill(dim, gone, 0.0))
