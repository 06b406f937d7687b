"""Writing quantisation into an ONNX graph (QDQ form)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np
import onnx
from onnx import TensorProto, helper

from ..onnx_graph import OnnxGraph
from .correction import calls_of, correct_biases
from .placement import Placement, moves, own_points, place
from .plan import LayerPlan, Point, WeightPlan
from .ranges import best_point, observe_tensors, silu

CORRECTED = 16
"""Calibration images that biases are corrected on."""


@dataclass(frozen=True)
class Quantised:
    """What was done to a network.

    Args:
        placement (Placement): What was put where.
        shifts (Mapping[str, np.ndarray]): By name of the constant, what was added to a
            bias.
    """

    placement: Placement
    shifts: Mapping[str, np.ndarray]


def quantise_graph(
    proto: onnx.ModelProto, plan: dict[str, LayerPlan], images: Sequence[np.ndarray],
    known: Mapping[str, Point] = MappingProxyType({}),
) -> Quantised:
    """Turn a float network into one of integers, in place.

    Where the file has points that the model has not, biases are corrected for what
    these shift; see :mod:`.correction`. Weights become INT8 constants (INT4 up to 4
    bits) with a ``DequantizeLinear``, per output channel; biases stay in float, in the
    steps in which integers are added up.
    Tensors get a ``QuantizeLinear`` and a ``DequantizeLinear`` in unsigned 8 bits;
    narrower ones are clipped in integers.

    Args:
        proto (onnx.ModelProto): The network, batch norms folded.
        plan (dict[str, LayerPlan]): Numbers of the quantised layers.
        images (Sequence[np.ndarray]): Preprocessed calibration images, each a batch
            that the network takes.
        known (Mapping[str, Point]): By tensor, points that the model has between its
            layers. Defaults to none.
    """
    graph = OnnxGraph(proto)
    placement = place(graph, plan, known)
    between = placement.unknown()
    if between:
        model = onnx.ModelProto()  # as it is in torch
        model.CopyFrom(proto)
        own = own_points(graph, plan)
        if known:
            own.points |= {name: point for name in placement.points
                           if (point := placement.resolve(name)) is not None}
        write_placement(OnnxGraph(model), own)
        _measure(graph, placement, images)
    before = {name: graph.array(name) for name in calls_of(graph)}
    write_placement(graph, placement)
    if between:
        correct_biases(proto, model, images[:CORRECTED])
    _round_biases(graph)
    onnx.checker.check_model(proto)
    shifts = {name: graph.array(name) - bias for name, bias in before.items()}
    return Quantised(placement, {n: x for n, x in shifts.items() if x.any()})


def _round_biases(graph: OnnxGraph) -> None:
    """Write biases as integers stand for them.

    ONNX Runtime adds a bias to sums of products of integers, and rounds it to their
    step, that of the input times that of the weight. This is the value that it has
    anyway, for every runtime and for the model.
    """
    for bias, nodes in calls_of(graph).items():
        if len(nodes) > 1:  # shared, so that inputs have several steps
            continue
        read = [graph.producers.get(name) for name in nodes[0].input[:2]]
        if any(x is None or x.op_type != 'DequantizeLinear' for x in read):
            continue
        step, other = (graph.array(x.input[1]).astype(np.float64) for x in read)
        step = step * other
        value = np.rint(graph.array(bias).astype(np.float64) / step) * step
        graph.set_constant(bias, value.astype(np.float32))


def write_placement(graph: OnnxGraph, placement: Placement) -> None:
    """Put the nodes of a placement, all of whose points are known, into the graph."""
    for name, weight in placement.weights.items():
        _write_weight(graph, name, weight)
    for name in placement.points:
        _write_point(graph, name, placement)
    graph.finish()


def _measure(
    graph: OnnxGraph, placement: Placement, images: Sequence[np.ndarray]
) -> None:
    """Give every point that has none the best range on the images."""
    samples = observe_tensors(graph.proto, placement.unknown(), images)
    for name, sample in samples.items():
        kinds = {node.op_type for node in graph.consumers[name]}
        placement.points[name] = best_point(
            sample, silu if kinds == {'Sigmoid', 'Mul'} else None)


def _write_weight(graph: OnnxGraph, name: str, plan: WeightPlan) -> None:
    narrow = plan.bits <= 4
    integers, zeros = plan.integers, np.zeros(len(plan.scale), np.int8)
    if narrow:
        integers = helper.make_tensor(
            f'{name}_integers', TensorProto.INT4, integers.shape,
            integers.ravel().tolist())
        zeros = helper.make_tensor(
            f'{name}_zero_point', TensorProto.INT4, zeros.shape, zeros.tolist())
    inputs = [
        graph.set_constant(f'{name}_integers', integers),
        graph.set_constant(f'{name}_scale', plan.scale),
        graph.set_constant(f'{name}_zero_point', zeros)]
    graph.put_first(helper.make_node(
        'DequantizeLinear', inputs, [f'{name}_real'], f'{name}_DequantizeLinear',
        axis=plan.axis))
    for node in graph.consumers[name]:
        node.input[1] = f'{name}_real'


def _write_point(graph: OnnxGraph, name: str, placement: Placement) -> None:
    point = placement.resolve(name)
    assert point is not None
    graph.put_behind(name, _nodes(graph, name, point, f'{name}_real'))
    for node in graph.consumers.get(name, []):
        other = placement.extra.get((node.name, name)) or _point_behind(
            graph, node, placement, point)
        target = f'{name}_real'
        if other is not None:
            target = f'{name}_{node.name}_real'
            graph.put_behind(name, _nodes(graph, f'{name}_real', other, target))
        for i, source in enumerate(node.input):
            if source == name:
                node.input[i] = target


def _point_behind(
    graph: OnnxGraph, node: onnx.NodeProto, placement: Placement, point: Point
) -> Point | None:
    """Of an operator that moves values, the point of its output if it is another one.

    Quantising before or after it is the same, and before it the operator moves
    integers: of a nearest resizing, from a smaller tensor. A ``Concat`` is different:
    the runtime has one that takes inputs of several points.
    """
    if node.op_type == 'Concat' or not moves(graph, node) or len(node.output) != 1 \
            or node.output[0] not in placement.points:
        return None
    found = placement.resolve(node.output[0])
    return None if found == point else found


def _nodes(
    graph: OnnxGraph, source: str, point: Point, target: str
) -> list[onnx.NodeProto]:
    """Quantise, clip if narrower than the container, dequantise."""
    scale = graph.set_constant(f'{target}_scale', np.float32(point.scale))
    zero = graph.set_constant(f'{target}_zero_point', np.uint8(point.zero_point))
    integers = f'{target}_integers'
    nodes = [helper.make_node(
        'QuantizeLinear', [source, scale, zero], [integers],
        f'{target}_QuantizeLinear')]
    if point.bits < 8:
        low = graph.set_constant('integer_0', np.uint8(0))
        top = 2 ** point.bits - 1
        high = graph.set_constant(f'integer_{top}', np.uint8(top))
        nodes.append(helper.make_node(
            'Clip', [integers, low, high], [f'{target}_clipped'], f'{target}_Clip'))
        integers = f'{target}_clipped'
    nodes.append(helper.make_node(
        'DequantizeLinear', [integers, scale, zero], [target],
        f'{target}_DequantizeLinear'))
    return nodes
