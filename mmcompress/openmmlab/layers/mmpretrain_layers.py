"""Rules for mmpretrain's own layers; imported where mmpretrain is loaded."""

from __future__ import annotations

from functools import partial

import numpy as np
import torch
from mmpretrain.models.backbones.resnest import RSoftmax, SplitAttentionConv2d
from mmpretrain.models.utils import GRN
from torch import Tensor

from ...arithmetic.labels import LabelTracer
from ...graph.verify import masked
from ...layers.follow import EVEN, _norm, follow, follow_radix
from ...layers.slicing import Kept, sliced, take

EVEN[SplitAttentionConv2d] = ('conv', 'fc1', 'fc2')
follow.register(RSoftmax, follow_radix)


@follow.register(GRN)
def _(module: GRN, tracer: LabelTracer, name: str, x: Tensor, out: Tensor):
    labels = tracer.get(x)
    last = labels is not None and labels.shape[-1] == module.in_channels
    _norm(tracer, name, x, x.dim() - 1 if last else 1, out, True)


@sliced.register(GRN)
def _(module: GRN, out: Kept, into: Kept) -> dict:
    return dict(
        gamma=take(module.gamma, 0, out), beta=take(module.beta, 0, out),
        in_channels=module.in_channels if out is None else len(out))


@masked.register(GRN)
def _(module: GRN, gone: np.ndarray):
    """The response of every channel is divided by the mean of those that remain."""
    return partial(_masked_response, module, gone)


def _masked_response(
    module: GRN, gone: np.ndarray, x: Tensor, data_format: str = 'channel_first'
) -> Tensor:
    dim = 1 if data_format == 'channel_first' else -1
    rows = x.movedim(dim, -1)
    index = torch.as_tensor(np.setdiff1d(np.arange(rows.shape[-1]), gone))
    kept = rows[..., index]
    power = kept.square().sum((1, 2), keepdim=True).sqrt()
    response = power / (power.mean(-1, keepdim=True) + module.eps)
    out = torch.zeros_like(rows)
    out[..., index] = kept + module.beta[index] + (
        module.gamma[index] * kept * response)
    return out.movedim(-1, dim)
