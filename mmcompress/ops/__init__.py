"""Layers that a compressed network is made of."""

from .channel_pad import ChannelPad
from .quant_layers import (
    QuantConv2d,
    QuantConvTranspose2d,
    QuantLayer,
    QuantLinear,
    make_quantisable,
    quantised_layers,
    uncalibrated,
)
from .quantizers import ActivationQuantizer, Quantizer, WeightQuantizer, fake_quantise

__all__ = [
    'ActivationQuantizer', 'ChannelPad', 'QuantConv2d', 'QuantConvTranspose2d',
    'QuantLayer', 'QuantLinear', 'Quantizer', 'WeightQuantizer', 'fake_quantise',
    'make_quantisable', 'quantised_layers', 'uncalibrated',
]
