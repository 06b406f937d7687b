"""The convolutions of DetectoRS: weights standardised to a size of their own, switches.

``SAConv2d`` computes one output from two convolutions, near and far, that share a
standardised weight but for a difference. A map that it computes switches between them;
two 1 x 1 convs on image means, and one or two for offsets, stand around them.
"""

from __future__ import annotations

import copy
from functools import partial
from typing import Any

import numpy as np
import torch
from mmcv.cnn import ConvAWS2d
from mmcv.ops import SAConv2d
from torch import Tensor, nn

from ...arithmetic.labels import LabelTracer
from ...arithmetic.slices import Kept, put, take
from ...layers.rule import with_weight
from ...layers.standardised import StandardisedConvRule
from ...policy import IN, OUT

READING = ('pre_context', 'switch', 'offset_s', 'offset_l')
"""Layers of a switchable conv that read its input. Not all have offsets."""

PARTS = (*READING, 'post_context')
"""All its layers."""


class AdaptiveConvRule(StandardisedConvRule):
    """A conv whose rows have a mean and a deviation of their own, which are buffers."""

    def __init__(self) -> None:
        super().__init__(ConvAWS2d._get_weight)

    def slice(self, module: ConvAWS2d, out: Kept, into: Kept) -> dict[str, Any]:
        return dict(
            super().slice(module, out, into),
            weight_gamma=take(module.weight_gamma, 0, out),
            weight_beta=take(module.weight_beta, 0, out))


class SwitchableConvRule(AdaptiveConvRule):
    """One layer of two windows, with the layers around it.

    Whether it computes by a function that no dispatcher sees depends on its options, so
    labels are not followed through its insides: they are tied here.
    """

    closed = True
    parts = PARTS

    def follow(
        self, module: SAConv2d, tracer: LabelTracer, name: str, x: Tensor, out: Tensor
    ) -> None:
        """A context adds to each input and output what it makes of the means of all."""
        super().follow(module, tracer, name, x, out)
        into = tracer.block(name, IN, module.in_channels).atoms
        made = tracer.block(name, OUT, module.out_channels).atoms
        own = dict(module.named_children())
        ends = [(part, IN, into) for part in READING if part in own]
        ends += [('pre_context', OUT, into), ('post_context', IN, made),
                 ('post_context', OUT, made)]
        for part, side, atoms in ends:
            block = tracer.block(f'{name}.{part}', side, len(atoms))
            tracer.tie(block.atoms, atoms)

    def slice(self, module: SAConv2d, out: Kept, into: Kept) -> dict[str, Any]:
        diff = take(module.weight_diff, 0, out)
        return dict(
            super().slice(module, out, into),
            weight_diff=take(diff, 1, self.window(module, into)))

    def window_size(self, module: SAConv2d) -> int:
        """Of both windows, which have the same elements and weights of their own."""
        return 2 * super().window_size(module)

    def hidden_macs(self, module: SAConv2d, out: Tensor) -> int:
        """Of two deformable convs, if it has any."""
        return 2 * out.numel() * module.weight[0].numel() * module.use_deform

    def is_regular(self, module: SAConv2d) -> bool:
        """It has a second window, whose dilation is not in the geometry."""
        return False

    def pull(
        self, module: SAConv2d, weight: Tensor, x: Tensor, gy: Tensor
    ) -> Tensor:
        """Through the windows; what the layers around them read is asked of these."""
        twin = with_weight(module, weight)
        for name, part in module.named_children():
            twin.__dict__[name] = partial(_unhooked, part, name in READING)
        with torch.enable_grad():
            x = x.detach().requires_grad_(True)
            return torch.autograd.grad(type(module).forward(twin, x), x, gy)[0]

    def _masked(self, module: SAConv2d, gone: np.ndarray, x: Tensor) -> Tensor:
        """Zeros in both weights, as the context adds to removed inputs, too."""
        columns = self.columns(module, gone)
        weight = self.standardised_on(module, columns)
        change = torch.zeros_like(weight)
        put(change, 1, columns, take(module.weight_diff, 1, columns))
        twin = copy.copy(module)
        twin.__dict__.update(weight_diff=change, _get_weight=lambda _: weight)
        index = torch.as_tensor(gone, device=x.device)
        return type(module).forward(twin, x.index_fill(1, index, 0.0))


def _unhooked(part: nn.Module, detached: bool, x: Tensor) -> Tensor:
    return part.forward(x.detach() if detached else x)
