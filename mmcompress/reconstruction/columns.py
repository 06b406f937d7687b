"""What single places of a layer's output are computed from."""

from __future__ import annotations

from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..layers.rule import rule_of

AXES = {'conv': 2, 'linear': 0}
"""Kinds of layers with columns, and the axes of their window."""

LARGEST = 2304
"""Most columns of an output that a solve is worth."""

PER_COLUMN = 10
"""Places for each column that a statistic over columns is taken from."""


def has_columns(module: nn.Module) -> bool:
    """Whether :func:`columns_at` knows the layer: linear or convolution of an image."""
    rule = rule_of(module)
    weight = None if rule is None else rule.weight(module)
    return (weight is not None and rule.is_regular(module)
            and weight.dim() - 2 == AXES.get(rule.kind))


def map_size(geometry: Mapping[str, tuple[int, ...]]) -> tuple[int, ...]:
    """Places of an output along each axis; see :meth:`LayerRule.geometry`."""
    if 'kernel' not in geometry:
        return geometry['size']
    return tuple(
        (size + 2 * padding - dilation * (kernel - 1) - 1) // stride + 1
        for size, padding, dilation, kernel, stride in zip(*(geometry[k] for k in (
            'size', 'padding', 'dilation', 'kernel', 'stride'))))


def columns_at(module: nn.Module, x: Tensor, places: Tensor) -> Tensor:
    """What some places of a layer's output are computed from.

    Args:
        module (nn.Module): One that :func:`has_columns`.
        x (Tensor): Its input.
        places (Tensor): ``(n,)`` numbers of places, images first, then rows.

    Returns:
        Tensor: ``(groups, n, in per group * window)``, in the order of the weight's
        columns; zeros where the window reaches into the padding.
    """
    rule = rule_of(module)
    geometry = rule.geometry(module, x)
    places = places.to(x.device)
    if 'kernel' not in geometry:
        return x.flatten(0, -2)[places][None]
    kernel, stride, dilation = (geometry[k] for k in ('kernel', 'stride', 'dilation'))
    vertical, horizontal = geometry['padding']
    height, width = map_size(geometry)
    if vertical or horizontal:
        x = F.pad(x, (horizontal, horizontal, vertical, vertical))
    image = places // (height * width)
    row, column = places % (height * width) // width, places % width
    parts = [x[image, :, row * stride[0] + i * dilation[0],
               column * stride[1] + j * dilation[1]]
             for i in range(kernel[0]) for j in range(kernel[1])]
    groups = rule.groups(module)
    return torch.stack(parts, 2).reshape(
        len(places), groups, -1).movedim(1, 0)


def rows_of(module: nn.Module, output: Tensor) -> Tensor:
    """A layer's output as ``(places, out)``, in the order of :func:`columns_at`."""
    axis = rule_of(module).channel_axis(module, output)
    return output.movedim(axis, -1).flatten(0, -2)


def drawn(count: int, wanted: int, generator: torch.Generator) -> Tensor:
    """Numbers of places drawn at random, or all if there are no more than wanted."""
    if count <= wanted:
        return torch.arange(count)
    return torch.randint(count, (wanted,), generator=generator)
