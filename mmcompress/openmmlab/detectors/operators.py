"""Compiled operators of mmcv in torch's own, so that every device and label passes."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager

from torch import Tensor
from torch.nn import functional as F

from ...surgery.shadow import shadowed


def unmasked_conv(
    x: Tensor, mask: Tensor, weight: Tensor, bias: Tensor, padding: int = 0,
    stride: int = 1,
) -> Tensor:
    """``masked_conv2d`` at all places; on a CPU it computes none."""
    return F.conv2d(x, weight, bias, stride, padding)


def reassembled(
    x: Tensor, masks: Tensor, kernel: int, groups: int, scale: int
) -> Tensor:
    """``carafe``: each new place is a sum over a window of the old ones; no CPU has it.

    Args:
        x (Tensor): ``(N, C, H, W)``.
        masks (Tensor): ``(N, groups * kernel ** 2, scale * H, scale * W)``, the weights
            of each new place in the window around the old one that it falls on.
        kernel (int): Side of the window.
        groups (int): Consecutive groups of channels with weights of their own.
        scale (int): New places for one old one, along each axis.
    """
    height, width = x.shape[2:]
    windows = F.pad(x, [kernel // 2] * 4)
    masks = masks.unflatten(1, (groups, -1))
    found: Tensor | int = 0
    for place in range(kernel ** 2):
        top, left = divmod(place, kernel)
        part = windows[:, :, top:top + height, left:left + width]
        part = F.interpolate(part, scale_factor=scale)
        if groups > 1:
            part = part.unflatten(1, (groups, -1)) * masks[:, :, place, None]
            part = part.flatten(1, 2)
        else:  # a label passes a product with one number for all channels
            part = part * masks[:, :, place]
        found = found + part
    return found


PLAIN = {'masked_conv': dict(masked_conv2d=unmasked_conv),
         'carafe': dict(carafe=reassembled)}
"""By module of ``mmcv.ops``, what stands in for its functions."""


@contextmanager
def plain_operators() -> Iterator[None]:
    """Let layers of mmcv compute by operators that torch has everywhere."""
    modules = {name: sys.modules.get(f'mmcv.ops.{name}') for name in PLAIN}
    with shadowed((module, PLAIN[name]) for name, module in modules.items() if module):
        yield
