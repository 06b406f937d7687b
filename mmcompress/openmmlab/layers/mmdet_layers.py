"""Layers of mmdet."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import torch
from mmdet.models.backbones.res2net import Bottle2neck
from mmdet.models.backbones.resnest import RSoftmax, SplitAttentionConv2d
from mmdet.models.layers.normed_predictor import NormedConv2d, NormedLinear
from mmdet.models.roi_heads.roi_extractors import SingleRoIExtractor
from torch import Tensor, nn

from ...arithmetic.labels import LabelTracer
from ...arithmetic.slices import Kept, size_of
from ...layers.conv import ConvRule
from ...layers.linear import LinearRule
from ...layers.rule import LayerRule, register_rule, with_weight
from ...policy import OUT
from . import mmdet_attention  # noqa: F401  (registers)
from .res2net import Bottle2neckRule
from .split_attention import RadixSoftmaxRule, SplitAttentionRule


class RoIExtractorRule(LayerRule):
    """Gathers the boxes of all levels in one tensor of ``out_channels``."""

    def follow(
        self, module: SingleRoIExtractor, tracer: LabelTracer, name: str,
        x: tuple[Tensor, ...], out: Tensor,
    ) -> None:
        made = tracer.block(name, OUT, module.out_channels)
        for level in x:
            labels = tracer.vector(level, 1)
            if labels is None:
                tracer.pin(made.atoms)
            else:
                tracer.tie(made.atoms, labels)
        tracer.emit(out, 1, made.atoms)

    def slice(self, module: SingleRoIExtractor, out: Kept, into: Kept
              ) -> dict[str, Any]:
        return dict(out_channels=size_of(out, module.out_channels))


class NormedLinearRule(LinearRule):
    """Each row of the weight is divided by the norm of what remains of it."""

    def mask(self, module: nn.Module, gone: np.ndarray) -> Callable[..., Tensor]:
        """Zeros in the input and in the weight."""
        return partial(_masked_rows, self, module, torch.as_tensor(gone))


class NormedConvRule(ConvRule):
    """As :class:`NormedLinearRule`."""

    mask = NormedLinearRule.mask


def _masked_rows(rule: LayerRule, module: nn.Module, gone: Tensor, x: Tensor) -> Tensor:
    weight = module.weight.detach().index_fill(1, gone, 0.0)
    return type(module).forward(
        with_weight(module, weight),
        x.index_fill(rule.channel_axis(module, x), gone, 0.0))


register_rule(SplitAttentionConv2d, SplitAttentionRule())
register_rule(Bottle2neck, Bottle2neckRule())
register_rule(RSoftmax, RadixSoftmaxRule())
register_rule(SingleRoIExtractor, RoIExtractorRule())
register_rule(NormedLinear, NormedLinearRule(quantised=None))
register_rule(NormedConv2d, NormedConvRule())
