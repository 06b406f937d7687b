"""The analytic costs: each one function of the table and a policy."""

from __future__ import annotations

from torch import Tensor

from ..policy import FLOAT
from ..registry import COSTS
from .table import CostTable


@COSTS.register_module()
def macs(
    table: CostTable, widths: Tensor, weight_bits: Tensor, activation_bits: Tensor
) -> Tensor:
    """Multiply-accumulates of convs and linears on one image.

    A layer that is shared over pyramid levels counts at every level. Bits do not
    matter. Shapes: widths ``(..., U)``, bits ``(..., L)``, result ``(...)``.
    """
    applied = table.applied(table.weights(widths), widths)
    return applied @ table.positions + table.graph.fixed_macs


@COSTS.register_module()
def params(
    table: CostTable, widths: Tensor, weight_bits: Tensor, activation_bits: Tensor
) -> Tensor:
    """Parameters of the whole model; a shared layer counts once."""
    out, into = table.channels(widths)
    layers = (out * (into * table.kernel + table.bias)).sum(-1)
    return layers + _other(table, widths)


@COSTS.register_module()
def bops(
    table: CostTable, widths: Tensor, weight_bits: Tensor, activation_bits: Tensor
) -> Tensor:
    """Bit operations: MACs x weight bits x activation bits, float being 32."""
    per_layer = table.applied(
        table.weights(widths) * weight_bits * activation_bits, widths)
    fixed = table.graph.fixed_macs * FLOAT * FLOAT
    return per_layer @ table.positions + fixed


@COSTS.register_module()
def size_bytes(
    table: CostTable, widths: Tensor, weight_bits: Tensor, activation_bits: Tensor
) -> Tensor:
    """Bytes of the weights at their bits plus everything else in float32."""
    out, _ = table.channels(widths)
    weights = (table.weights(widths) * weight_bits).sum(-1) / 8
    rest = out @ table.bias + _other(table, widths)
    return weights + rest * (FLOAT // 8)


@COSTS.register_module()
def activation_bytes(
    table: CostTable, widths: Tensor, weight_bits: Tensor, activation_bits: Tensor
) -> Tensor:
    """Peak over the layers of the bytes of one layer's input and output.

    For one image; a layer that runs on several pyramid levels counts its largest
    one. Both tensors count at the layer's own activation bits: its output is stored
    at the bits of what reads it, which through norms, sums and concatenations may be
    several layers. Tensors kept for a skip connection meanwhile are not counted.
    """
    per_layer = table.activations(widths) * activation_bits / 8
    return per_layer.amax(-1)


def _other(table: CostTable, widths: Tensor) -> Tensor:
    widths = widths.to(table.other_per_unit.dtype)
    return widths @ table.other_per_unit + table.other_fixed
