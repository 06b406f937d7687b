"""ShuffleNet's units: convs with groups around a shuffle."""

from __future__ import annotations

from mmpretrain.models.backbones.shufflenet_v1 import ShuffleUnit
from torch import Tensor

from ...arithmetic.labels import LabelTracer
from ...layers.rule import LayerRule, register_rule
from ...policy import IN


class ShuffleUnitRule(LayerRule):
    """The code deals the channels of ``g`` groups out to ``g`` groups, one by one.

    Place p of the shuffled channels comes from group p mod g. Each group of the next
    conv reads n places in a row. If each loses g neighbours at the same distance from
    its first one, then every group before the shuffle loses g channels, one to each
    group behind it; and as n changes by g, every place that stays comes from the
    group that it came from, in the same order. So the code's own shuffle of fewer
    channels is right. The last n mod g places of a group stay.
    """

    whole = False
    arranges = True
    balanced = ('g_conv_1x1_compress.conv', 'g_conv_1x1_expand.conv')

    def follow(
        self, module: ShuffleUnit, tracer: LabelTracer, name: str, x: Tensor,
        out: Tensor,
    ) -> None:
        """Tie g neighbours behind the shuffle, in all groups alike."""
        groups, size = module.groups, module.bottleneck_channels
        if groups > 1:
            read = tracer.block(f'{name}.g_conv_1x1_expand.conv', IN, size).atoms
            read = read.reshape(groups, -1)
            end = read.shape[1] - read.shape[1] % groups
            dealt = read[:, :end].reshape(groups, -1, groups)
            tracer.tie(dealt, dealt[:1, :, :1])
            tracer.pin(read[:, end:])


register_rule(ShuffleUnit, ShuffleUnitRule())
