"""ResNeSt's split attention, which mmdet and mmpretrain each have a class for."""

from __future__ import annotations

from torch import Tensor, nn

from ...arithmetic.labels import LabelTracer
from ...layers.rule import LayerRule


class SplitAttentionRule(LayerRule):
    """The splits of a channel are added up: groups lose the same channels."""

    whole = False
    even = ('conv', 'fc1', 'fc2')


class RadixSoftmaxRule(LayerRule):
    """The softmax over the splits of a channel, which stay alike.

    From ``(cardinality, radix, channels)`` to ``(radix, cardinality, channels)``.
    """

    def follow(
        self, module: nn.Module, tracer: LabelTracer, name: str, x: Tensor, out: Tensor
    ) -> None:
        """All splits carry the label of the first."""
        labels = tracer.vector(x, 1)
        if labels is not None:
            splits = labels.reshape(module.groups, module.radix, -1)
            tracer.tie(splits, splits[:, :1])
            tracer.emit(out, 1, splits[:, 0].flatten().repeat(module.radix))
