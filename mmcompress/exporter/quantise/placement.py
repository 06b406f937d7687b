"""Which tensors of a network are in integers.

The quantisers of a model sit at the inputs of its layers. A runtime computes a layer
in integers only if its output is in integers too, and so is everything up to the
input of the next layer: activation functions, additions, concatenations. These
further points are found here. Points are propagated through operators that only move
values, so that those copy integers; and a point that no integer operator would use is
left out.

Which operators a runtime has in 8 bits is said in :mod:`.runtime_rules`. For one that
has none between layers there are no further points: every layer reads its own.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

import onnx_ir as ir

from ..editing import array, data_inputs
from ..passes.layers import LAYERS, layer_of
from .plan import LayerPlan, QuantPoint, WeightPlan
from .runtime_rules import ONNX_RUNTIME, RuntimeRules

MOVING = ('Concat', 'MaxPool', 'Slice', 'Split', 'Pad', 'Reshape', 'Flatten',
          'Transpose', 'Resize', 'Squeeze', 'Unsqueeze')
"""Operators whose outputs are values of their inputs or 0 (Resize: if it is nearest;
Pad: with 0)."""

SIGMOID = QuantPoint(1 / 256, 0)
"""Of a sigmoid's output, whose range is known."""

Points = dict[ir.Value, 'QuantPoint | ir.Value | None']


@dataclass
class Placement:
    """Points by tensor of a graph.

    Args:
        points (Points): A point, another tensor that has the same, or None for a point
            whose range is to be measured.
        extra (dict[tuple[ir.Node, ir.Value], QuantPoint]): By layer node and tensor,
            a point for this reader alone. It is on top of the tensor's own point, if
            there is one: for layers whose quantiser differs.
        weights (dict[ir.Value, WeightPlan]): By constant.
        rules (RuntimeRules): Of the runtime that it is for.
    """

    points: Points = field(default_factory=dict)
    extra: dict[tuple[ir.Node, ir.Value], QuantPoint] = field(default_factory=dict)
    weights: dict[ir.Value, WeightPlan] = field(default_factory=dict)
    rules: RuntimeRules = ONNX_RUNTIME

    def root(self, value: ir.Value) -> ir.Value:
        """The tensor whose point a tensor has."""
        while isinstance(found := self.points[value], ir.Value):
            value = found
        return value

    def resolve(self, value: ir.Value) -> QuantPoint | None:
        """The point of a tensor, if it is known."""
        return self.points[self.root(value)]

    def unknown(self) -> list[ir.Value]:
        """Tensors whose range is to be measured."""
        return [value for value, point in self.points.items() if point is None]


def place(
    graph: ir.Graph, plan: Mapping[str, LayerPlan],
    known: Mapping[ir.Value, QuantPoint] = MappingProxyType({}),
    rules: RuntimeRules = ONNX_RUNTIME,
) -> Placement:
    """Decide where points go.

    Args:
        graph (ir.Graph): The network in float, batch norms folded.
        plan (Mapping[str, LayerPlan]): By layer name; all are in the graph.
        known (Mapping[ir.Value, QuantPoint]): By tensor, points that the model has
            between its layers. Defaults to none.
        rules (RuntimeRules): Of the runtime that will run it. Defaults to ONNX
            Runtime's.
    """
    if not rules.computing:
        return layer_points(graph, plan, rules)
    placement = own_points(graph, plan, rules)
    for node in reversed(graph):
        _want(node, placement)
    while _drop_useless(plan, placement):
        pass
    for value in list(placement.points):
        if value in known and placement.resolve(value) is None:
            placement.points[placement.root(value)] = known[value]
    for value in placement.unknown():
        if value.producer().op_type == 'Sigmoid':
            placement.points[value] = SIGMOID
    return placement


def layer_points(
    graph: ir.Graph, plan: Mapping[str, LayerPlan], rules: RuntimeRules = ONNX_RUNTIME
) -> Placement:
    """Every layer's own quantiser, for its own reading alone, as the model has them.

    Args:
        graph, plan, rules: See :func:`place`.
    """
    placement = Placement(rules=rules)
    for node in graph:
        layer = plan.get(layer_of(node) or '')
        if layer is None:
            continue
        source, constant = node.inputs[:2]
        if layer.weight is not None and constant not in placement.weights:
            weight = layer.weight
            if node.op_type == 'MatMul':
                weight = weight.transposed()
            placement.weights[constant] = weight.folded(array(constant))
        if layer.input is not None:
            placement.extra[node, source] = layer.input
    return placement


def own_points(
    graph: ir.Graph, plan: Mapping[str, LayerPlan], rules: RuntimeRules = ONNX_RUNTIME
) -> Placement:
    """The points of the layers' own quantisers, as points of the tensors they read.

    Where layers that read one tensor differ, it takes the finest point.

    Args:
        graph, plan, rules: See :func:`place`.
    """
    placement = layer_points(graph, plan, rules)
    asked: dict[ir.Value, list[QuantPoint]] = {}
    for (_, value), point in placement.extra.items():
        asked.setdefault(value, []).append(point)
    placement.points |= {
        value: max(points, key=lambda point: point.bits)
        for value, points in asked.items()}
    placement.extra = {
        (node, value): point for (node, value), point in placement.extra.items()
        if point != placement.points[value]}
    return placement


def _want(node: ir.Node, placement: Placement) -> None:
    """Ask for the points that a node between layers needs at its inputs."""
    points, rules = placement.points, placement.rules
    if not any(_written(value, rules) in points for value in node.outputs):
        return
    inputs = data_inputs(node)
    if moves(node) and len(node.outputs) == 1:
        for value in inputs:
            if points.get(value) is None:
                points[value] = node.outputs[0]
    elif node.op_type in rules.computing and len(inputs) == len(node.inputs):
        for value in inputs:
            points.setdefault(value, None)


def _written(value: ir.Value, rules: RuntimeRules) -> ir.Value:
    """What a runtime writes where a tensor is only clipped: the clipped one."""
    readers = value.consumers()
    if len(readers) == 1 and readers[0].op_type in rules.clipping \
            and not value.is_graph_output():
        return _written(readers[0].outputs[0], rules)
    return value


def moves(node: ir.Node) -> bool:
    """Whether all values of a node's outputs are values of its inputs, or 0."""
    if node.op_type == 'Resize':
        return node.attributes.get_string('mode', 'nearest') == 'nearest'
    if node.op_type == 'Pad':  # a constant of another value is its third input
        return len(node.inputs) < 3 and _may_be_integers(node.inputs[0])
    return node.op_type in MOVING


def _may_be_integers(value: ir.Value) -> bool:
    """Whether what a tensor's values come from has a kernel in 8 bits.

    If not, its other readers would lose precision for nothing.
    """
    while (producer := value.producer()) is not None and producer.op_type in MOVING:
        value = producer.inputs[0]
    return producer is not None and producer.op_type in (
        *LAYERS, *ONNX_RUNTIME.computing, *ONNX_RUNTIME.clipping)


def _drop_useless(plan: Mapping[str, LayerPlan], placement: Placement) -> bool:
    """Leave out points to be measured that no integer operator reads or writes."""
    points = placement.points
    before = len(points)
    for value in [v for v, point in points.items() if point is None]:
        producer = value.producer()
        read = any(_in_integers(n, plan, placement) for n in value.consumers())
        if producer is None or not read or not _in_integers(
                producer, plan, placement, value):
            del points[value]
    for value in [v for v, point in points.items()
                  if isinstance(point, ir.Value) and point not in points]:
        del points[value]
    return len(points) < before


def _in_integers(
    node: ir.Node, plan: Mapping[str, LayerPlan], placement: Placement,
    output: ir.Value | None = None,
) -> bool:
    """Whether a runtime can compute a node in 8 bits, given the points."""
    points, rules = placement.points, placement.rules
    output = output or _written(node.outputs[0], rules)
    if node.op_type in rules.clipping:
        producer = node.inputs[0].producer()
        return producer is not None and _in_integers(producer, plan, placement, output)
    if output not in points:
        return False
    if node.op_type in LAYERS:
        layer = plan.get(layer_of(node) or '')
        return layer is not None and None not in (layer.weight, layer.input)
    return (moves(node) or node.op_type in rules.computing) and all(
        value in points for value in data_inputs(node))
