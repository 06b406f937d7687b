"""What layers share that compute with fake-quantised inputs and weights."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ..arithmetic.quantizers import ActivationQuantizer, WeightQuantizer
from ..policy import Bits


class QuantLayer:
    """What the quantised types share; see :func:`mmcompress.surgery.quantise`.

    A quantised type is a plain layer type behind this class, with a ``forward`` that
    passes input and weight through the quantisers. It has no state of its own: a plain
    layer becomes quantised by a change of its class.

    The keys of weight and bias are those of the plain layer; below 32 bits the
    state dict has ``weight_quantizer.scale``, ``input_quantizer.scale`` and
    ``input_quantizer.zero_point`` as well. At 32 bits the layer computes exactly
    what the plain one does.

    Attributes:
        axis (int): Axis of the output channels in the weight.
        weight_quantizer (WeightQuantizer): Of the weight, per output channel.
        input_quantizer (ActivationQuantizer): Of the input. Layers that read the
            same tensor at the same bits may have the same one.
    """

    axis = 0
    weight: Tensor
    weight_quantizer: WeightQuantizer
    input_quantizer: ActivationQuantizer

    def become_quantised(self, symmetric: bool) -> None:
        """Add the quantisers, at 32 bits, to what was a plain layer."""
        self.weight_quantizer = WeightQuantizer(self.axis).train(self.training)
        self.input_quantizer = ActivationQuantizer(symmetric).train(self.training)

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


def quantised_layers(model: nn.Module) -> dict[str, QuantLayer]:
    """Layers of a quantised type by name (the first one, if shared)."""
    return {n: m for n, m in model.named_modules() if isinstance(m, QuantLayer)}


def uncalibrated(model: nn.Module) -> list[str]:
    """Names of the layers that lack a scale for their bits."""
    return [n for n, m in quantised_layers(model).items()
            if not all(q.is_float or q.calibrated
                       for q in (m.weight_quantizer, m.input_quantizer))]


@torch.no_grad()
def integer_weight(layer: QuantLayer) -> Tensor:
    """The weight of a quantised layer as integers, int8, in its own shape."""
    return layer.weight_quantizer.integers(layer.weight)
