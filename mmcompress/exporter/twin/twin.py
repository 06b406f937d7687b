"""The torch model that computes what a quantised file computes.

A file has 8-bit points between layers, and biases corrected for them. Its twin is the
model with both: its metric is the file's, it can be trained with the points in place,
and exporting it again measures nothing anew.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import onnx_ir as ir
import torch
from torch import nn

from ...policy.points import POINTS, PointSite
from ...quant.points import BITS, add_file_points, file_points, is_own, own_number
from ...surgery.copies import copy_of
from ..passes.layers import layer_of
from ..quantise.correction import calls_of
from ..quantise.placement import Placement, moves
from ..quantise.plan import LayerPlan, QuantPoint, point_of
from .locate import Output


@dataclass(frozen=True)
class FileLayout:
    """What a file has that the model it was exported from has not.

    Args:
        points (Mapping[PointSite, QuantPoint]): Between layers.
        shifts (Mapping[str, np.ndarray]): By module, what is added to its bias.
        lost (tuple[str, ...]): Tensors of the graph with a point that no module
            returns: a model cannot have it.
    """

    points: Mapping[PointSite, QuantPoint] = field(default_factory=dict)
    shifts: Mapping[str, np.ndarray] = field(default_factory=dict)
    lost: tuple[str, ...] = ()


# -- what a file has -----------------------------------------------------------------
def known_points(
    model: nn.Module, outputs: Mapping[ir.Value, Output]
) -> dict[ir.Value, QuantPoint]:
    """Points that a model has between its layers, by tensor of the graph.

    Args:
        model (nn.Module): Perhaps a twin of an earlier export.
        outputs (Mapping[ir.Value, Output]): See :func:`.locate.locate`.
    """
    points = file_points(model)
    if points is None:
        return {}
    quantizers = {(site.module, site.call): points[own_number(site)]
                  for site in points.sites if is_own(site) and not site.sigmoid}
    return {value: point_of(quantizers[output.module, output.call])
            for value, output in outputs.items()
            if (output.module, output.call) in quantizers}


def layout_of(
    graph: ir.Graph, plan: Mapping[str, LayerPlan], placement: Placement,
    outputs: Mapping[ir.Value, Output], shifts: Mapping[str, np.ndarray],
    first: int = 0,
) -> FileLayout:
    """What a file has and its model has not.

    Args:
        graph (ir.Graph): The network in float.
        plan (Mapping[str, LayerPlan]): Of its layers.
        placement (Placement): Of the file, all points known.
        outputs (Mapping[ir.Value, Output]): See :func:`.locate.locate`.
        shifts (Mapping[str, np.ndarray]): By name of the constant, what was added to a
            bias.
        first (int): Number of the first quantiser that is not a layer's.
    """
    points, lost, own = {}, [], {}
    for value in placement.points:
        root = placement.root(value)
        point = placement.resolve(value)
        if _only_read_by_layers(plan, placement, value):
            continue  # the layers' own quantisers do it
        producer = value.producer()
        sigmoid = producer is not None and producer.op_type == 'Sigmoid'
        output = outputs.get(_product(value) if sigmoid else value)
        if output is None or (sigmoid and not output.silu):
            lost.append(value.name)
            continue
        layer = _reader(graph, plan, root, point)
        quantizer = f'{layer}.input_quantizer' if layer else \
            f'{POINTS}.{own.setdefault(root, first + len(own))}'
        points[PointSite(output.module, quantizer, output.call, sigmoid)] = point
    modules = {}
    for bias, nodes in calls_of(graph).items():
        if bias.name not in shifts:
            continue
        output = outputs.get(nodes[0].outputs[0])
        if output is None:
            lost.append(bias.name)
        else:
            modules[output.module] = shifts[bias.name]
    return FileLayout(points, modules, tuple(lost))


def count_own(layout: FileLayout) -> int:
    """Number of quantisers that no layer has."""
    return len({site.quantizer for site in layout.points if is_own(site)})


def _only_read_by_layers(
    plan: Mapping[str, LayerPlan], placement: Placement, value: ir.Value
) -> bool:
    """Whether a tensor's readers have its point themselves: layers in their quantisers,
    and what only moves values in what they become."""
    root, point = placement.root(value), placement.resolve(value)
    for node in value.consumers():
        layer = plan.get(layer_of(node) or '')
        if layer is not None and layer.input == point:
            continue
        if not moves(node) or not all(
                output in placement.points and placement.root(output) == root
                for output in node.outputs):
            return False
    return True


def _reader(
    graph: ir.Graph, plan: Mapping[str, LayerPlan], value: ir.Value, point: QuantPoint
) -> str | None:
    """The first layer whose quantiser gave a tensor its point."""
    readers = set(value.consumers())  # in no order
    for node in graph:
        layer = layer_of(node) if node in readers else None
        if layer in plan and plan[layer].input == point:
            return layer
    return None


def _product(value: ir.Value) -> ir.Value | None:
    """Of a sigmoid, what it is multiplied into; None unless that is all it is for."""
    readers = value.consumers()
    return readers[0].outputs[0] if [n.op_type for n in readers] == ['Mul'] else None


# -- the model -----------------------------------------------------------------------
@torch.no_grad()
def twin_of(model: nn.Module, layouts: Sequence[FileLayout]) -> nn.Module:
    """A copy of a model that has what its files have.

    Args:
        model (nn.Module): The model that was exported.
        layouts (Sequence[FileLayout]): Of all its files.

    Returns:
        nn.Module: Of the same class; its points between layers are in the state dict.
    """
    twin = copy_of(model)
    modules = dict(twin.named_modules())
    for layout in layouts:
        for name, shift in layout.shifts.items():
            bias = modules[name].bias
            bias.add_(torch.from_numpy(shift).to(bias))
    points = {site: p for layout in layouts for site, p in layout.points.items()}
    if file_points(twin) is None and points:
        added = add_file_points(twin, list(points))
        for site, point in points.items():
            if is_own(site):
                assert point.bits == BITS
                added[own_number(site)].assign(
                    point.scale, float(point.zero_point))
    return twin
