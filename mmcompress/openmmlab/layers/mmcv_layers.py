"""Layers of mmcv: wrappers of torch's, compiled ones, and its ConvModule."""

from __future__ import annotations

from typing import Any

from mmcv.cnn import ConvAWS2d, ConvModule, ConvWS2d
from mmcv.cnn.bricks.swish import Swish
from mmcv.cnn.bricks.wrappers import Conv2d, ConvTranspose2d, Linear
from mmcv.ops import (
    DeformConv2d,
    ModulatedDeformConv2d,
    RoIAlign,
    RoIPool,
    SAConv2d,
)
from torch import Tensor, nn

from ...arithmetic.labels import LabelTracer
from ...arithmetic.slices import Kept, take
from ...layers.activation import SiLURule
from ...layers.conv import (
    ConvRule,
    QuantConv2d,
    QuantConvTranspose2d,
    TransposedConvRule,
)
from ...layers.linear import LinearRule
from ...layers.norm import ChannelwiseRule
from ...layers.rule import LayerRule, register_rule
from ...layers.standardised import StandardisedConvRule
from ...policy import IN, OUT
from .switchable import AdaptiveConvRule, SwitchableConvRule


class RoIRule(ChannelwiseRule):
    """Cuts boxes out of every channel."""

    def owns(self, module: nn.Module) -> bool:
        return False


class DeformConvRule(ConvRule):
    """A conv whose windows are bent by offsets.

    No dispatcher sees into it, and a layer inside that computes the offsets is not
    followed.
    """

    closed = True

    def follow(
        self, module: nn.Module, tracer: LabelTracer, name: str, x: Tensor, out: Tensor
    ) -> None:
        """Offsets are per deformable group: its inputs cannot leave one by one."""
        into = tracer.consume(name, IN, x, 1)
        made = tracer.block(name, OUT, module.out_channels)
        if module.groups > 1 or module.deform_groups > 1:
            tracer.pin(into.atoms)
        if module.groups > 1:
            tracer.pin(made.atoms)
        tracer.emit(out, 1, made.atoms)

    def hidden_macs(self, module: nn.Module, out: Tensor) -> int:
        return out.numel() * module.weight[0].numel()

    def slice(self, module: nn.Module, out: Kept, into: Kept) -> dict[str, Any]:
        # The kernels want contiguous weights.
        weight = take(take(module.weight, 0, out), 1, into)
        return dict(
            self.sizes(module, out, into),
            weight=weight if weight is None else weight.contiguous(),
            bias=take(getattr(module, 'bias', None), 0, out))


class ConvModuleRule(LayerRule):
    """A conv with its norm and activation."""

    whole = False

    def activation(self, module: ConvModule) -> nn.Module | None:
        return module.activate if module.with_activation else None


def _standardise(module: ConvWS2d, weight: Tensor) -> Tensor:
    rows = weight.flatten(1)
    mean, deviation = rows.mean(1), rows.std(1)
    return ((rows - mean[:, None]) / (deviation + module.eps)[:, None]).reshape(
        weight.shape)


register_rule(Conv2d, ConvRule(QuantConv2d))
register_rule(ConvTranspose2d, TransposedConvRule(QuantConvTranspose2d))
register_rule(Linear, LinearRule())
register_rule(RoIAlign, RoIRule())
register_rule(RoIPool, RoIRule())
register_rule(DeformConv2d, DeformConvRule())
register_rule(ModulatedDeformConv2d, DeformConvRule())
register_rule(ConvWS2d, StandardisedConvRule(_standardise))
register_rule(ConvAWS2d, AdaptiveConvRule())
register_rule(SAConv2d, SwitchableConvRule())
register_rule(ConvModule, ConvModuleRule())
register_rule(Swish, SiLURule())
