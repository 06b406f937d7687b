"""HorNet's recursive gated convolutions and its norms."""

from __future__ import annotations

from typing import Any

from mmpretrain.models.backbones.hornet import (
    GlobalLocalFilter,
    HorNetLayerNorm,
    gnConv,
)
from torch import Tensor

from ...arithmetic.labels import LabelTracer
from ...arithmetic.slices import Kept, parts_left, take
from ...layers.norm import LayerNormRule
from ...layers.rule import LayerRule, register_rule
from ...policy import IN, OUT


class HorNetLayerNormRule(LayerNormRule):
    """A layer norm over channels that are first or last."""

    def channel_axis(self, module: HorNetLayerNorm, x: Tensor) -> int:
        return 1 if module.data_format == 'channels_first' else x.dim() - 1

    def owns(self, module: HorNetLayerNorm) -> bool:
        return True


class GatedConvRule(LayerRule):
    """Orders of growing width, ``dims``, one after the other on an axis of its own.

    Every order gates what the projection of the one before it makes, the first what
    the input projection puts in front. So each order loses channels on its own.
    """

    whole = False
    arranges = True

    def out_size(self, module: gnConv) -> int:
        return sum(module.dims)

    def follow(
        self, module: gnConv, tracer: LabelTracer, name: str, x: Tensor, out: Tensor
    ) -> None:
        """Tie each order to the layer whose output it gates."""
        orders = tracer.block(name, OUT, sum(module.dims)).atoms.split(module.dims)
        first = tracer.block(f'{name}.proj_in', OUT, module.proj_in.out_channels)
        tracer.tie(orders[0], first.atoms[:module.dims[0]])
        for i, (order, size) in enumerate(zip(orders[1:], module.dims[1:])):
            made = tracer.block(f'{name}.projs.{i}', OUT, size)
            tracer.tie(order, made.atoms)

    def slice(self, module: gnConv, out: Kept, into: Kept) -> dict[str, Any]:
        return {} if out is None else dict(dims=parts_left(out, module.dims))


class GlobalLocalFilterRule(LayerRule):
    """A depthwise conv on the first half of the channels, Fourier filters on the rest.

    The halves come out alternating. They must stay of one size, so that a channel of
    each leaves together, and with them two neighbours of the output. Fourier transforms
    are over places, and no operator that labels pass: all is tied here.
    """

    closed = True
    parts = ('pre_norm', 'dw', 'post_norm')

    def out_size(self, module: GlobalLocalFilter) -> int:
        return 2 * module.complex_weight.shape[0]

    def follow(
        self, module: GlobalLocalFilter, tracer: LabelTracer, name: str, x: Tensor,
        out: Tensor,
    ) -> None:
        """Tie the halves, and the layers inside to them."""
        size = self.out_size(module)
        own = tracer.block(name, OUT, size).atoms
        labels = tracer.vector(x, 1)
        if labels is None:
            tracer.pin(own)
        else:
            tracer.tie(own, labels)
        half = own[:size // 2]
        tracer.tie(own.reshape(2, -1), half)
        ends = [('pre_norm', OUT, own), ('dw', IN, half), ('dw', OUT, half),
                ('post_norm', OUT, half.repeat_interleave(2))]
        for part, side, atoms in ends:
            tracer.tie(tracer.block(f'{name}.{part}', side, len(atoms)).atoms, atoms)
        tracer.emit(out, 1, half.repeat_interleave(2))

    def slice(self, module: GlobalLocalFilter, out: Kept, into: Kept) -> dict[str, Any]:
        kept = None if out is None else out[:len(out) // 2]
        return dict(complex_weight=take(module.complex_weight, 0, kept))

    def params_per_channel(self, module: GlobalLocalFilter) -> int:
        """Both parts of one number by frequency, for every second channel."""
        return module.complex_weight[0].numel() // 2


register_rule(HorNetLayerNorm, HorNetLayerNormRule())
register_rule(gnConv, GatedConvRule())
register_rule(GlobalLocalFilter, GlobalLocalFilterRule())
