"""Which tensors of a network are in integers.

The quantisers of a model sit at the inputs of its layers. A runtime computes a layer
in integers only if its output is in integers too, and so is everything up to the
input of the next layer: activation functions, additions, concatenations. These
further points are found here. Points move through operators that only move values, so
that those copy integers; and a point that no integer operator would use is left out.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from onnx import NodeProto

from ..onnx_graph import OnnxGraph
from .plan import LayerPlan, Point, WeightPlan

LAYERS = ('Conv', 'ConvTranspose', 'Gemm', 'MatMul')
MOVING = ('Concat', 'MaxPool', 'Slice', 'Split', 'Pad', 'Reshape', 'Flatten',
          'Transpose', 'Resize', 'Squeeze', 'Unsqueeze')
"""Operators whose outputs are values of their inputs or 0 (Resize: if it is nearest;
Pad: with 0)."""
COMPUTING = ('Sigmoid', 'Mul', 'Add', 'LeakyRelu', 'AveragePool', 'GlobalAveragePool')
"""Operators that ONNX Runtime has in 8 bits."""
CLIPPING = ('Relu', 'Clip')
"""Operators that fuse into the point behind them."""

SIGMOID = Point(1 / 256, 0)
"""Of a sigmoid's output, whose range is known."""


@dataclass
class Placement:
    """Points by tensor.

    Args:
        points (dict[str, Point | str | None]): A point, the name of another tensor
            that has the same, or None for one whose range is to be measured.
        extra (dict[tuple[str, str], Point]): By layer node and tensor, another point
            on top of the tensor's own, for layers whose quantiser differs.
        weights (dict[str, WeightPlan]): By name of the constant.
    """

    points: dict[str, Point | str | None]
    extra: dict[tuple[str, str], Point]
    weights: dict[str, WeightPlan]

    def root(self, name: str) -> str:
        """The tensor whose point a tensor has."""
        while isinstance(found := self.points[name], str):
            name = found
        return name

    def resolve(self, name: str) -> Point | None:
        """The point of a tensor, if it is known."""
        return self.points[self.root(name)]

    def unknown(self) -> list[str]:
        """Tensors whose range is to be measured."""
        return [name for name, point in self.points.items() if point is None]


def layer_of(node: NodeProto, prefix: str = 'model.') -> str | None:
    """Name of the module whose weight a node uses, from the constant's name."""
    if node.op_type not in LAYERS or len(node.input) < 2:
        return None
    match = re.fullmatch(re.escape(prefix) + r'(.+)\.weight(_\w+)?', node.input[1])
    return match[1] if match else None


def layers_in(graph: OnnxGraph) -> list[str]:
    """Names of the layers that a graph computes, each once."""
    found = (layer_of(node) for node in graph.nodes)
    return list(dict.fromkeys(name for name in found if name is not None))


def place(
    graph: OnnxGraph, plan: Mapping[str, LayerPlan],
    known: Mapping[str, Point] = MappingProxyType({}),
) -> Placement:
    """Decide where points go.

    Args:
        graph (OnnxGraph): The network in float, batch norms folded.
        plan (Mapping[str, LayerPlan]): By layer name; all are in the graph.
        known (Mapping[str, Point]): By tensor, points that the model has between its
            layers. Defaults to none.
    """
    placement = own_points(graph, plan)
    for node in reversed(graph.nodes):
        _want(graph, node, placement.points)
    while _drop_useless(graph, plan, placement.points):
        pass
    for name in list(placement.points):
        if name in known and placement.resolve(name) is None:
            placement.points[placement.root(name)] = known[name]
    for name in placement.unknown():
        if graph.producers[name].op_type == 'Sigmoid':
            placement.points[name] = SIGMOID
    return placement


def own_points(graph: OnnxGraph, plan: Mapping[str, LayerPlan]) -> Placement:
    """The points of the layers' own quantisers, as the model has them.

    Where layers that read one tensor differ, it takes the finest point.

    Args:
        graph, plan: See :func:`place`.
    """
    weights = {}
    for node in graph.nodes:
        layer = plan.get(layer_of(node) or '')
        if layer and layer.weight is not None and node.input[1] not in weights:
            weight = layer.weight
            if node.op_type == 'MatMul':
                weight = weight.transposed()
            weights[node.input[1]] = weight.folded(graph.array(node.input[1]))
    placement = Placement({}, {}, weights)
    wanted: dict[str, list[tuple[NodeProto, Point]]] = {}
    for node in graph.nodes:
        layer = plan.get(layer_of(node) or '')
        if layer is not None and layer.input is not None:
            wanted.setdefault(node.input[0], []).append((node, layer.input))
    for name, asked in wanted.items():
        finest = max((point for _, point in asked), key=lambda point: point.bits)
        placement.points[name] = finest
        placement.extra |= {
            (node.name, name): point for node, point in asked if point != finest}
    return placement


def _want(graph: OnnxGraph, node: NodeProto, points: dict) -> None:
    """Ask for the points that a node between layers needs at its inputs."""
    if not any(_written(graph, name) in points for name in node.output):
        return
    inputs = graph.data_inputs(node)
    if moves(graph, node) and len(node.output) == 1:
        for name in inputs:
            if points.get(name) is None:
                points[name] = node.output[0]
    elif node.op_type in COMPUTING and len(inputs) == len(node.input):
        for name in inputs:
            points.setdefault(name, None)


def _written(graph: OnnxGraph, name: str) -> str:
    """What a runtime writes where a tensor is only clipped: the clipped one."""
    readers = graph.consumers.get(name, [])
    if len(readers) == 1 and readers[0].op_type in CLIPPING \
            and name not in graph.outputs:
        return _written(graph, readers[0].output[0])
    return name


def moves(graph: OnnxGraph, node: NodeProto) -> bool:
    """Whether all values of a node's outputs are values of its inputs, or 0."""
    if node.op_type == 'Resize':
        modes = [a.s for a in node.attribute if a.name == 'mode']
        return modes in ([], [b'nearest'])
    if node.op_type == 'Pad':  # a constant of another value is its third input
        return len(node.input) < 3 and _may_be_integers(graph, node.input[0])
    return node.op_type in MOVING


def _may_be_integers(graph: OnnxGraph, name: str) -> bool:
    """Whether what a tensor's values come from has a kernel in 8 bits.

    If not, its other readers would lose precision for nothing.
    """
    producer = graph.producers.get(name)
    while producer is not None and producer.op_type in MOVING:
        producer = graph.producers.get(producer.input[0])
    return producer is not None and producer.op_type in (
        *LAYERS, *COMPUTING, *CLIPPING)


def _drop_useless(
    graph: OnnxGraph, plan: Mapping[str, LayerPlan], points: dict
) -> bool:
    """Leave out points to be measured that no integer operator reads or writes."""
    before = len(points)
    for name in [n for n, point in points.items() if point is None]:
        producer = graph.producers.get(name)
        read = any(_in_integers(graph, n, plan, points) for n in graph.consumers[name])
        if producer is None or not read or not _in_integers(
                graph, producer, plan, points, name):
            del points[name]
    for name in [n for n, point in points.items()
                 if isinstance(point, str) and point not in points]:
        del points[name]
    return len(points) < before


def _in_integers(
    graph: OnnxGraph, node: NodeProto, plan: Mapping[str, LayerPlan], points: dict,
    output: str | None = None,
) -> bool:
    """Whether a runtime can compute a node in 8 bits, given the points."""
    output = output or _written(graph, node.output[0])
    if node.op_type in CLIPPING:
        producer = graph.producers.get(node.input[0])
        return producer is not None and _in_integers(
            graph, producer, plan, points, output)
    if output not in points:
        return False
    if node.op_type in LAYERS:
        layer = plan.get(layer_of(node) or '')
        return layer is not None and None not in (layer.weight, layer.input)
    return (moves(graph, node) or node.op_type in COMPUTING) and all(
        name in points for name in graph.data_inputs(node))
