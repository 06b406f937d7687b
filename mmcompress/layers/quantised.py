"""Layers that compute with fake-quantised inputs and weights."""

from __future__ import annotations

from collections.abc import Iterable

import mmcv.cnn.bricks.wrappers as mmcv_layers
import torch
import torch.nn.functional as F
from mmengine.logging import print_log
from torch import Tensor, nn

from ..arithmetic.quantizers import ActivationQuantizer, Quantizer, WeightQuantizer
from ..policy import Bits


class QuantLayer:
    """What the quantised layers share; see :func:`make_quantisable`.

    The keys of weight and bias are those of the plain layer; below 32 bits the
    state dict has ``weight_quantizer.scale``, ``input_quantizer.scale`` and
    ``input_quantizer.zero_point`` as well. At 32 bits the layer computes exactly
    what the plain one does.

    Attributes:
        weight_quantizer (WeightQuantizer): Of the weight, per output channel.
        input_quantizer (ActivationQuantizer): Of the input. Layers that read the
            same tensor at the same bits may have the same one.
    """

    axis = 0
    weight: Tensor
    weight_quantizer: WeightQuantizer
    input_quantizer: ActivationQuantizer

    @property
    def bits(self) -> Bits:
        """Bit widths in use."""
        return Bits(self.weight_quantizer.bits, self.input_quantizer.bits)

    def set_bits(self, bits: Bits) -> None:
        """Use other bit widths, with the scales remembered for them."""
        self.weight_quantizer.switch(bits.weight, self.weight.shape[self.axis])
        self.input_quantizer.switch(bits.activation)
        for quantizer in (self.weight_quantizer, self.input_quantizer):
            quantizer.to(self.weight.device)

    def weight_rows(self) -> Tensor:
        """The weight as ``(output channels, everything else)``."""
        return self.weight.detach().movedim(self.axis, 0).flatten(1)


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


class QuantLinear(QuantLayer, nn.Linear):
    """A linear layer; see :class:`QuantLayer`."""

    def forward(self, x: Tensor) -> Tensor:
        """Map ``(N, ..., C)`` as the plain layer does."""
        return F.linear(
            self.input_quantizer(x), self.weight_quantizer(self.weight), self.bias)


# Exact types: a subclass may compute its weight, or forward differently.
TYPES: dict[type[nn.Module], type[QuantLayer]] = {
    nn.Conv2d: QuantConv2d,
    mmcv_layers.Conv2d: QuantConv2d,
    nn.ConvTranspose2d: QuantConvTranspose2d,
    mmcv_layers.ConvTranspose2d: QuantConvTranspose2d,
    nn.Linear: QuantLinear,
    mmcv_layers.Linear: QuantLinear,
}


def make_quantisable(
    model: nn.Module, names: Iterable[str], symmetric: bool = False
) -> tuple[str, ...]:
    """Turn layers into their quantised kind, at 32 bits, in place.

    The module objects stay, with their parameters, hooks and all references to them;
    their class changes. Layers that are quantised already are left as they are.

    Args:
        model (nn.Module): The model.
        names (Iterable[str]): Dotted paths of layers.
        symmetric (bool): See :class:`ActivationQuantizer`. Defaults to False.

    Returns:
        tuple[str, ...]: The layers that can be quantised now. The others stay in
        float, at WARNING.
    """
    modules = dict(model.named_modules())
    ready = []
    for name in names:
        module = modules[name]
        if isinstance(module, QuantLayer):
            ready.append(name)
            continue
        reason = _obstacle(module)
        if reason:
            print_log(f'Layer {name!r} stays in float: {reason}.', 'current', level=30)
            continue
        module.__class__ = TYPES[type(module)]
        module.weight_quantizer = WeightQuantizer(module.axis).train(module.training)
        module.input_quantizer = ActivationQuantizer(symmetric).train(module.training)
        ready.append(name)
    return tuple(ready)


def _obstacle(module: nn.Module) -> str:
    """Why a layer cannot be quantised; empty if it can."""
    if type(module) not in TYPES:
        return f'no quantised kind of {type(module).__module__}.' \
               f'{type(module).__qualname__}'
    if isinstance(module, nn.ConvTranspose2d) and module.groups > 1:
        return 'output channels of a transposed conv with groups are not one axis'
    if module._parameters.get('weight') is None:
        return 'its weight is computed, not a parameter'
    return ''


def quantised_layers(model: nn.Module) -> dict[str, QuantLayer]:
    """Layers of the quantised kind by name (the first one, if shared)."""
    return {n: m for n, m in model.named_modules() if isinstance(m, QuantLayer)}


def uncalibrated(model: nn.Module) -> list[str]:
    """Names of the layers that lack a scale for their bits."""
    def lacks(quantizer: Quantizer) -> bool:
        return not quantizer.is_float and not quantizer.calibrated

    return [n for n, m in quantised_layers(model).items()
            if lacks(m.weight_quantizer) or lacks(m.input_quantizer)]


@torch.no_grad()
def integer_weight(layer: QuantLayer) -> Tensor:
    """The weight of a quantised layer as integers, int8, in its own shape."""
    return layer.weight_quantizer.integers(layer.weight)
