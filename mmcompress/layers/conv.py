"""Convolutions and transposed convolutions, of any number of axes."""

from __future__ import annotations

from math import prod
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.modules.conv import _ConvNd, _ConvTransposeNd

from ..arithmetic.labels import LabelTracer
from ..arithmetic.slices import Kept, groups_left, take, window
from ..policy import IN, OUT
from .quantised import QuantLayer
from .rule import LayerRule, register_rule


class QuantConv2d(QuantLayer, nn.Conv2d):
    """A convolution; see :class:`QuantLayer`."""

    def forward(self, x: Tensor) -> Tensor:
        """Map ``(N, C, H, W)`` as the plain layer does."""
        return self._conv_forward(
            self.input_quantizer(x), self.weight_quantizer(self.weight), self.bias)


class QuantConvTranspose2d(QuantLayer, nn.ConvTranspose2d):
    """A transposed convolution without groups; see :class:`QuantLayer`."""

    axis = 1

    def forward(self, x: Tensor, output_size: list[int] | None = None) -> Tensor:
        """Map ``(N, C, H, W)`` as the plain layer does."""
        padding = self._output_padding(
            x, output_size, self.stride, self.padding, self.kernel_size, 2,
            self.dilation)
        return F.conv_transpose2d(
            self.input_quantizer(x), self.weight_quantizer(self.weight), self.bias,
            self.stride, self.padding, padding, self.groups, self.dilation)


class ConvRule(LayerRule):
    """A convolution. Not in ``even`` or ``balanced``, it loses whole groups."""

    kind = 'conv'

    def __init__(self, quantised: type[QuantLayer] | None = None) -> None:
        self.quantised = quantised

    def channel_axis(self, module: _ConvNd, x: Tensor) -> int:
        return x.dim() - len(module.kernel_size) - 1

    def follow(
        self, module: _ConvNd, tracer: LabelTracer, name: str, x: Tensor, out: Tensor
    ) -> None:
        dim = self.channel_axis(module, x)
        into = tracer.consume(name, IN, x, dim)
        made = tracer.block(name, OUT, module.out_channels)
        atoms = made.atoms
        if module.groups > 1:
            pairs = [b.atoms.reshape(module.groups, -1) for b in (into, made)]
            if name in tracer.even:
                # The same channels of all groups go together. They carry one label, so
                # that sums over groups keep it.
                for pair in pairs:
                    tracer.tie(pair, pair[:1])
                atoms = pairs[1][0].repeat(module.groups)
            elif name in tracer.balanced:
                # What else is tied decides which outputs go (graph/balance.py).
                tracer.tie(pairs[0], pairs[0][:1])
            else:
                # All channels of one group, inputs and outputs, go together.
                tracer.tie(pairs[0], pairs[0][:, :1])
                tracer.tie(pairs[1], pairs[0][:, :1])
        tracer.emit(out, dim, atoms)

    def slice(self, module: _ConvNd, out: Kept, into: Kept) -> dict[str, Any]:
        groups = module.groups
        for kept, dense in ((out, module.out_channels), (into, module.in_channels)):
            if kept is not None:
                groups = groups_left(kept, dense // module.groups)
        within = self.window(module, into)
        return dict(
            self.sizes(module, out, into), groups=groups,
            weight=take(take(module.weight, 0, out), 1, within),
            bias=take(module.bias, 0, out))

    def window_size(self, module: _ConvNd) -> int:
        return prod(module.kernel_size)

    def output(self, module: _ConvNd, x: Tensor) -> Tensor | None:
        """Where the layer is a plain ``nn.Conv2d`` with padding in numbers."""
        if type(module) is not nn.Conv2d or x.dim() != 4 \
                or isinstance(module.padding, str):
            return None
        sizes = [(n + 2 * p - d * (k - 1) - 1) // s + 1 for n, p, d, k, s in zip(
            x.shape[2:], module.padding, module.dilation, module.kernel_size,
            module.stride)]
        return x.new_zeros(x.shape[0], module.out_channels, *sizes)

    def geometry(self, module: _ConvNd, x: Tensor) -> dict[str, tuple[int, ...]]:
        return dict(
            size=tuple(x.shape[2:]), kernel=module.kernel_size, stride=module.stride,
            padding=tuple(module.padding), dilation=module.dilation)

    def is_regular(self, module: _ConvNd) -> bool:
        return module.padding_mode == 'zeros' and not isinstance(module.padding, str)

    def window(self, module: _ConvNd, into: Kept) -> Kept:
        """Groups leave as a whole, or all of them lose the same of their inputs."""
        return window(into, module.in_channels // module.groups)

    def pull(self, module: _ConvNd, weight: Tensor, x: Tensor, gy: Tensor) -> Tensor:
        """By one operator where the layer is plain and pads with zeros."""
        plain = type(module).forward in (
            nn.Conv1d.forward, nn.Conv2d.forward, nn.Conv3d.forward)
        if not plain or not self.is_regular(module):
            return super().pull(module, weight, x, gy)
        return torch.ops.aten.convolution_backward(
            gy, x, weight, None, module.stride, module.padding, module.dilation,
            False, [0] * len(module.stride), module.groups, [True, False, False])[0]


class TransposedConvRule(ConvRule):
    """A transposed convolution, whose weight has the inputs first."""

    kind = 'conv_transpose'

    def slice(self, module: _ConvTransposeNd, out: Kept, into: Kept) -> dict[str, Any]:
        sizes = self.sizes(module, out, into)
        weight, groups = take(module.weight, 0, into), 1
        if module.groups == 1:
            weight = take(weight, 1, out)
        else:
            groups = sizes['in_channels'] * module.groups // module.in_channels
        return dict(sizes, groups=groups, weight=weight, bias=take(module.bias, 0, out))

    def positions(self, read: int, written: int) -> int:
        """Those of the input, each of which adds a window to the output."""
        return read

    def by_output(self, module: _ConvTransposeNd, weight: Tensor) -> Tensor:
        """From ``(groups * in, out, ...)`` to ``(groups * out, in, ...)``."""
        groups = weight.unflatten(0, (module.groups, -1))
        return groups.transpose(1, 2).flatten(0, 1)

    def obstacle(self, module: _ConvTransposeNd) -> str:
        if module.groups > 1:
            return 'output channels of a transposed conv with groups are not one axis'
        return super().obstacle(module)

    def mean_output(
        self, module: _ConvTransposeNd, weight: Tensor, mean: Tensor
    ) -> Tensor:
        """Each output sees one window in ``stride x stride``."""
        return super().mean_output(module, weight, mean) / float(prod(module.stride))


register_rule(_ConvNd, ConvRule())
register_rule(_ConvTransposeNd, TransposedConvRule())
register_rule(nn.Conv2d, ConvRule(QuantConv2d))
register_rule(nn.ConvTranspose2d, TransposedConvRule(QuantConvTranspose2d))
