"""What the quantisers of a model say, as numbers for a file."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import numpy as np
import onnx_ir as ir
import torch
from torch import nn

from ...arithmetic.quantizers import ActivationQuantizer
from ...layers.quantised import QuantLayer, integer_weight, quantised_layers
from ..passes.focus import laid_out
from ..passes.layers import layer_of


@dataclass(frozen=True)
class QuantPoint:
    """A tensor in integers: ``real = scale * (integer - zero_point)``.

    Args:
        scale (float): Step.
        zero_point (int): Integer that stands for 0.
        bits (int): Integers are ``0 .. 2^bits - 1``. Defaults to 8.
    """

    scale: float
    zero_point: int
    bits: int = 8


@dataclass(frozen=True, eq=False)
class WeightPlan:
    """A weight in integers, symmetric, with one scale per output channel.

    Args:
        integers (np.ndarray): int8, in the shape of the weight.
        scale (np.ndarray): ``(output channels,)``, float32.
        bits (int): Their width.
        axis (int): Axis of the output channels.
        weight (np.ndarray): The float weight of the model, batch norm not folded.
    """

    integers: np.ndarray
    scale: np.ndarray
    bits: int
    axis: int
    weight: np.ndarray

    def laid_out(self, function: Callable[[np.ndarray], np.ndarray]) -> WeightPlan:
        """The plan of the weight that a function lays out anew."""
        return replace(self, integers=function(self.integers),
                       weight=function(self.weight))

    def transposed(self) -> WeightPlan:
        """The plan of a linear layer's weight as a product reads it."""
        return replace(self.laid_out(np.transpose), axis=1 - self.axis)

    def folded(self, weight: np.ndarray) -> WeightPlan:
        """The plan of the weight that a batch norm was folded into.

        Folding multiplies each output channel by a number: the scale is multiplied by
        its magnitude, and a negative one negates the integers.

        Args:
            weight (np.ndarray): The folded weight.
        """
        old = np.moveaxis(self.weight, self.axis, 0).reshape(len(self.scale), -1)
        new = np.moveaxis(weight, self.axis, 0).reshape(len(self.scale), -1)
        power = (old.astype(np.float64) ** 2).sum(1)
        factor = (old.astype(np.float64) * new).sum(1) / np.where(power, power, 1)
        shape = [1] * weight.ndim
        shape[self.axis] = -1
        sign = np.where(factor < 0, -1, 1).astype(np.int8).reshape(shape)
        # A channel that folding made zero has integers of zero, of any scale.
        gone = (factor == 0).reshape(shape)
        scale = np.where(factor == 0, 1.0, self.scale * np.abs(factor))
        return replace(
            self, integers=np.where(gone, 0, self.integers * sign).astype(np.int8),
            scale=scale.astype(np.float32), weight=weight)


@dataclass(frozen=True)
class LayerPlan:
    """How a layer computes; None means float."""

    weight: WeightPlan | None = None
    input: QuantPoint | None = None


def plan_in(graph: ir.Graph, plan: Mapping[str, LayerPlan]) -> dict[str, LayerPlan]:
    """The plans of the layers in a graph, laid out as their weights are there."""
    found: dict[str, LayerPlan] = {}
    for node in graph:
        name = layer_of(node)
        if name not in plan or name in found:
            continue
        layer = plan[name]
        found[name] = layer if layer.weight is None else replace(
            layer, weight=layer.weight.laid_out(laid_out(node)))
    return found


def plan_of(model: nn.Module) -> dict[str, LayerPlan]:
    """Integers, scales and zero points of every layer that is quantised."""
    return {name: layer_plan(layer) for name, layer in quantised_layers(model).items()
            if not layer.bits.is_float}


@torch.no_grad()
def layer_plan(layer: QuantLayer) -> LayerPlan:
    """Numbers of one layer."""
    weight = point = None
    quantizer = layer.weight_quantizer
    if not quantizer.is_float:
        weight = WeightPlan(
            integer_weight(layer).numpy(), quantizer.step.numpy().copy(),
            quantizer.bits, layer.axis, layer.weight.numpy().copy())
    if not layer.input_quantizer.is_float:
        point = point_of(layer.input_quantizer)
    return LayerPlan(weight, point)


def point_of(quantizer: ActivationQuantizer) -> QuantPoint:
    """What a quantiser does."""
    return QuantPoint(
        float(quantizer.step), int(quantizer.rounded_zero_point()), quantizer.bits)
