"""Layers of mmpretrain."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import torch
from mmpretrain.models.backbones.res2net import Bottle2neck
from mmpretrain.models.backbones.resnest import RSoftmax, SplitAttentionConv2d
from mmpretrain.models.utils import GRN, LayerNorm2d
from torch import Tensor

from ...arithmetic.labels import LabelTracer
from ...arithmetic.slices import Kept
from ...layers.norm import ChannelwiseRule, LayerNormRule
from ...layers.rule import register_rule
from . import hornet, mmpretrain_attention, shufflenet  # noqa: F401  (register)
from .res2net import Bottle2neckRule
from .split_attention import RadixSoftmaxRule, SplitAttentionRule


class LayerNorm2dRule(LayerNormRule):
    """A layer norm over the channels of an image."""

    def channel_axis(self, module: LayerNorm2d, x: Tensor) -> int:
        """That of an image; of tokens, the last one."""
        return 1 if x.dim() == 4 else x.dim() - 1

    def slice(self, module: LayerNorm2d, out: Kept, into: Kept) -> dict[str, Any]:
        """Its own count of channels, too."""
        values = super().slice(module, out, into)
        return dict(values, num_channels=values['normalized_shape'][0])


class GRNRule(ChannelwiseRule):
    """The response of every channel is divided by the mean of all of them."""

    outputs = 'in_channels'

    def follow(
        self, module: GRN, tracer: LabelTracer, name: str, x: Tensor, out: Tensor
    ) -> None:
        """Along whichever axis the labels are."""
        labels = tracer.get(x)
        last = labels is not None and labels.shape[-1] == module.in_channels
        dim = x.dim() - 1 if last else 1
        self.follow_along(dim, module, tracer, name, x, out)

    def mask(self, module: GRN, gone: np.ndarray) -> Callable[..., Tensor]:
        """The mean is that of the channels that remain."""
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


register_rule(SplitAttentionConv2d, SplitAttentionRule())
register_rule(Bottle2neck, Bottle2neckRule())
register_rule(RSoftmax, RadixSoftmaxRule())
register_rule(LayerNorm2d, LayerNorm2dRule())
register_rule(GRN, GRNRule())
