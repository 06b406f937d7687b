"""Writing quantisation into an ONNX graph (QDQ form)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np
import onnx_ir as ir
from onnx_ir.passes.common import CheckerPass, RemoveUnusedNodesPass

from ..editing import add_constant, array, set_array
from ..passes.float16 import StoreFloat16
from .correction import calls_of, correct_biases
from .placement import Placement, moves, own_points, place
from .plan import LayerPlan, QuantPoint, WeightPlan
from .ranges import best_point, observe_tensors, silu
from .runtime_rules import MIDDLE, ONNX_RUNTIME, RuntimeRules

CORRECTED = 16
"""Calibration images that biases are corrected on."""


@dataclass(frozen=True)
class Quantised:
    """A network in integers, and what was done to make it.

    Args:
        model (ir.Model): The network.
        placement (Placement): What was put where in the float network.
        shifts (Mapping[str, np.ndarray]): By name of the constant, what was added to a
            bias.
    """

    model: ir.Model
    placement: Placement
    shifts: Mapping[str, np.ndarray]


def quantise_model(
    model: ir.Model, plan: Mapping[str, LayerPlan], images: Sequence[np.ndarray],
    known: Mapping[ir.Value, QuantPoint] = MappingProxyType({}),
    rules: RuntimeRules = ONNX_RUNTIME,
    measured: dict[ir.Value, QuantPoint] | None = None,
    half: bool = False,
) -> Quantised:
    """A network of integers from one in float, which stays as it is.

    Where the file has points that the model has not, biases are corrected for what
    these shift; see :mod:`.correction`. Weights become INT8 constants (INT4 up to 4
    bits, if the runtime has it) with a ``DequantizeLinear``, per output channel; biases
    stay in float, for some runtimes in the steps in which integers are added up.
    Tensors get a ``QuantizeLinear`` and a ``DequantizeLinear`` in 8 bits; narrower ones
    are clipped in integers.

    Args:
        model (ir.Model): The network, batch norms folded.
        plan (Mapping[str, LayerPlan]): Numbers of the quantised layers.
        images (Sequence[np.ndarray]): Preprocessed calibration images, each a batch
            that the network takes.
        known (Mapping[ir.Value, QuantPoint]): By tensor, points that the model has
            between its layers. Defaults to none.
        rules (RuntimeRules): Of the runtime that will run it. Defaults to ONNX
            Runtime's.
        measured (dict[ir.Value, QuantPoint] | None): By tensor, points that were
            measured on the same images before. What is measured now joins them.
        half (bool): Store the weights of layers in float in 16 bits. Defaults to False.
    """
    placement = place(model.graph, plan, known, rules)
    between = placement.unknown()
    if between:
        own = own_points(model.graph, plan, rules)  # the network as it is in torch
        if known:
            own.points |= {value: point for value in placement.points
                           if (point := placement.resolve(value)) is not None}
        _measure(model, placement, images, measured)
    quantised = write_placement(model, placement)
    if between:
        correct_biases(quantised, write_placement(model, own), images[:CORRECTED])
    if rules.integer_biases:
        _round_biases(quantised.graph)
    if half:
        StoreFloat16()(quantised)
    CheckerPass()(quantised)
    biases = quantised.graph.initializers
    shifts = {bias.name: array(biases[bias.name]) - array(bias)
              for bias in calls_of(model.graph)}
    return Quantised(
        quantised, placement, {n: x for n, x in shifts.items() if x.any()})


def _round_biases(graph: ir.Graph) -> None:
    """Write biases as integers stand for them.

    ONNX Runtime adds a bias to sums of products of integers, and rounds it to their
    step, that of the input times that of the weight. This is the value that it has
    anyway, for every runtime and for the model.
    """
    for bias, nodes in calls_of(graph).items():
        if len(nodes) > 1:  # shared, so that inputs have several steps
            continue
        read = [value.producer() for value in nodes[0].inputs[:2]]
        if any(x is None or x.op_type != 'DequantizeLinear' for x in read):
            continue
        step, other = (array(x.inputs[1]).astype(np.float64) for x in read)
        step = step * other
        value = np.rint(array(bias).astype(np.float64) / step) * step
        set_array(bias, value.astype(np.float32))


def measured_placement(
    model: ir.Model, plan: Mapping[str, LayerPlan], images: Sequence[np.ndarray],
    rules: RuntimeRules = ONNX_RUNTIME,
    measured: dict[ir.Value, QuantPoint] | None = None,
) -> Placement:
    """Where points go, all of them known; see :func:`quantise_model`."""
    placement = place(model.graph, plan, rules=rules)
    _measure(model, placement, images, measured)
    return placement


def _measure(
    model: ir.Model, placement: Placement, images: Sequence[np.ndarray],
    measured: dict[ir.Value, QuantPoint] | None,
) -> None:
    """Give every point that has none the best range on the images."""
    measured = {} if measured is None else measured
    unknown = placement.unknown()
    samples = observe_tensors(model, [x for x in unknown if x not in measured], images)
    for value, sample in samples.items():
        kinds = {node.op_type for node in value.consumers()}
        measured[value] = best_point(
            sample, silu if kinds == {'Sigmoid', 'Mul'} else None)
    placement.points |= {value: measured[value] for value in unknown}


def write_placement(model: ir.Model, placement: Placement) -> ir.Model:
    """A copy of a network with the nodes of a placement, all of whose points are known.

    Args:
        model (ir.Model): The network in float.
        placement (Placement): Of its tensors.
    """
    writer = _Writer(model, placement)
    for value, weight in placement.weights.items():
        writer.write_weight(value, weight)
    for value in placement.points:
        writer.write_point(value)
    writer.write_layer_points()
    RemoveUnusedNodesPass()(writer.model)
    return writer.model


class _Writer:
    """Changes a copy of a model by what is said of the original, which is read."""

    def __init__(self, model: ir.Model, placement: Placement) -> None:
        self.placement, self.rules = placement, placement.rules
        self.model = model.clone()
        self.graph = self.model.graph
        self.first = self.graph[0]
        self.nodes = {node.name: node for node in self.graph}
        self.values = ir.convenience.create_value_mapping(self.graph)

    def write_weight(self, value: ir.Value, plan: WeightPlan) -> None:
        """Replace a float weight by integers."""
        name, kind = value.name, None
        if plan.bits <= 4 and self.rules.narrow:
            kind = ir.DataType.INT4
        integers = add_constant(
            self.graph, f'{name}_integers', plan.integers, kind)
        real, uses = ir.val(f'{name}_real'), list(value.uses())
        if kind is None and not any(self._reads_integers(node) for node, _ in uses):
            self._decode_once(integers, plan, real)
        else:
            constants = [
                add_constant(self.graph, f'{name}_scale', plan.scale),
                add_constant(self.graph, f'{name}_zero_point',
                             np.zeros(len(plan.scale), np.int8), kind)]
            self.first.prepend(ir.node(
                'DequantizeLinear', [integers, *constants], dict(axis=plan.axis),
                outputs=[real], name=f'{name}_DequantizeLinear'))
        for node, index in uses:
            self.nodes[node.name].replace_input_with(index, real)

    def _reads_integers(self, node: ir.Node) -> bool:
        """Whether the input of a layer is a point, so that it may run in integers."""
        value = node.inputs[0]
        return value in self.placement.points or (node, value) in self.placement.extra

    def _decode_once(self, integers: ir.Value, plan: WeightPlan, real: ir.Value
                     ) -> None:
        """Write a weight whose layer computes in float.

        Runtimes compute what follows from constants when they open a file, but for a
        ``DequantizeLinear``, which they would repeat in every call.
        """
        shape = [1] * plan.integers.ndim
        shape[plan.axis] = -1
        scale = add_constant(
            self.graph, f'{integers.name}_scale', plan.scale.reshape(shape))
        numbers = ir.val(f'{integers.name}_float')
        self.first.prepend([
            ir.node('Cast', [integers], dict(to=ir.DataType.FLOAT), outputs=[numbers],
                    name=f'{integers.name}_Cast'),
            ir.node('Mul', [numbers, scale], outputs=[real],
                    name=f'{integers.name}_Mul')])

    def write_point(self, value: ir.Value) -> None:
        """Let the readers of a tensor read what its integers stand for."""
        point, name = self.placement.resolve(value), value.name
        assert point is not None
        real = self._quantised(self.values[name], point, f'{name}_real')
        targets: dict[ir.Node, ir.Value] = {}
        for node, index in value.uses():
            other = self.placement.extra.get((node, value)) or self._point_behind(
                node, point)
            if node not in targets:
                targets[node] = real if other is None else self._quantised(
                    real, other, f'{name}_{node.name}_real')
            self.nodes[node.name].replace_input_with(index, targets[node])

    def write_layer_points(self) -> None:
        """Let layers read in integers what is in float for every other reader."""
        made: dict[tuple[ir.Value, QuantPoint], ir.Value] = {}
        for (node, value), point in self.placement.extra.items():
            if value in self.placement.points:
                continue
            if (value, point) not in made:
                made[value, point] = self._quantised(
                    self.values[value.name], point, f'{value.name}_{node.name}_real')
            self.nodes[node.name].replace_input_with(0, made[value, point])

    def _point_behind(self, node: ir.Node, point: QuantPoint) -> QuantPoint | None:
        """Of an operator that moves values, the point of its output if it is another.

        Quantising before or after it is the same, and before it the operator moves
        integers: of a nearest resizing, from a smaller tensor. A ``Concat`` is
        different: the runtime has one that takes inputs of several points.
        """
        if node.op_type == 'Concat' or not moves(node) or len(node.outputs) != 1 \
                or node.outputs[0] not in self.placement.points:
            return None
        found = self.placement.resolve(node.outputs[0])
        return None if found == point else found

    def _quantised(self, source: ir.Value, point: QuantPoint, name: str) -> ir.Value:
        """Quantise, clip if narrower than the container, dequantise."""
        scale = add_constant(self.graph, f'{name}_scale', np.float32(point.scale))
        zero = add_constant(
            self.graph, f'{name}_zero_point', np.int8(point.zero_point - MIDDLE)
            if self.rules.signed else np.uint8(point.zero_point))
        steps = [('QuantizeLinear', [scale, zero], f'{name}_integers')]
        if point.bits < 8:
            ends = [add_constant(self.graph, f'integer_{i}', np.uint8(i))
                    for i in (0, 2 ** point.bits - 1)]
            steps.append(('Clip', ends, f'{name}_clipped'))
        steps.append(('DequantizeLinear', [scale, zero], name))
        nodes, value = [], source
        for kind, constants, output in steps:
            nodes.append(ir.node(
                kind, [value, *constants], outputs=[ir.val(output)],
                name=f'{name}_{kind}'))
            value = nodes[-1].outputs[0]
        if (producer := source.producer()) is None:
            self.first.prepend(nodes)
        else:
            producer.append(nodes)
        return value
