"""Networks and weights in 16-bit floats."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import onnx_ir as ir

from ..editing import array, is_constant, set_array
from .layers import LAYERS

WIDE = {('Resize', 1), ('Resize', 2)}
"""Inputs that ONNX defines in float32 alone: operator and number of the input."""

WORTH = 256
"""Numbers of a weight from which on a ``Cast`` is shorter than what it saves."""


class ToFloat16(ir.passes.InPlacePass):
    """Weights and arithmetic in float16; inputs and outputs of the network stay as
    they are, with a ``Cast`` behind or before them."""

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        """Change the types of all values, and cast at the borders."""
        graph = model.graph
        for value in list(graph.initializers.values()):
            if value.dtype == ir.DataType.FLOAT and not _is_wide(value):
                _narrow(value)
        for node in graph:
            if node.op_type in ('Cast', 'ConstantOfShape', 'Constant'):
                _narrow_attributes(node)
            for value in node.outputs:
                if value.dtype == ir.DataType.FLOAT:
                    value.dtype = ir.DataType.FLOAT16
        for value in _floats(graph.inputs):
            _cast_input(graph, value)
        for number, value in enumerate(graph.outputs):
            if value.dtype == ir.DataType.FLOAT16:
                graph.outputs[number] = _cast_output(graph, value)
        return ir.passes.PassResult(model, True)


class StoreFloat16(ir.passes.InPlacePass):
    """Weights that layers read in float, stored in 16 bits, for half of their bytes.

    Runtimes compute the ``Cast`` behind them when they open a file.
    """

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        """Store every weight that is worth it."""
        found = dict.fromkeys(
            node.inputs[1] for node in model.graph if node.op_type in LAYERS)
        stored = [value for value in found
                  if is_constant(value) and value.dtype == ir.DataType.FLOAT
                  and value.const_value.size >= WORTH]
        for value in stored:
            cast = _cast(value, ir.DataType.FLOAT, f'{value.name}_real')
            _narrow(value)
            for node, index in list(value.uses()):
                if node is not cast:
                    node.replace_input_with(index, cast.outputs[0])
            model.graph[0].prepend(cast)
        return ir.passes.PassResult(model, bool(stored))


def _narrow(value: ir.Value) -> None:
    """Round a constant."""
    largest = np.finfo(np.float16).max
    set_array(value, array(value).clip(-largest, largest).astype('float16'))
    # Not by setting its dtype: a clone shares the type with its original.
    value.type = ir.TensorType(ir.DataType.FLOAT16)


def _is_wide(value: ir.Value) -> bool:
    """Whether a constant is read as float32 alone."""
    return all((node.op_type, index) in WIDE for node, index in value.uses())


def _floats(values: list[ir.Value]) -> Iterator[ir.Value]:
    return (x for x in list(values)
            if x.dtype == ir.DataType.FLOAT and not x.is_initializer())


def _narrow_attributes(node: ir.Node) -> None:
    """Of an operator that says in an attribute that it gives float32."""
    for name, attribute in list(node.attributes.items()):
        if name == 'to' and attribute.value == ir.DataType.FLOAT:
            node.attributes[name] = ir.AttrInt64(name, int(ir.DataType.FLOAT16))
        elif name == 'value' and attribute.value.dtype == ir.DataType.FLOAT:
            node.attributes[name] = ir.AttrTensor(
                name, ir.tensor(attribute.value.numpy().astype(np.float16)))


def _cast(value: ir.Value, kind: ir.DataType, name: str) -> ir.Node:
    return ir.node(
        'Cast', [value], dict(to=int(kind)), name=f'{name}_Cast',
        outputs=[ir.val(name, kind, value.shape)])


def _cast_input(graph: ir.Graph, value: ir.Value) -> None:
    uses = list(value.uses())
    cast = _cast(value, ir.DataType.FLOAT16, f'{value.name}_float16')
    graph[0].prepend(cast)
    for node, index in uses:
        node.replace_input_with(index, cast.outputs[0])


def _cast_output(graph: ir.Graph, value: ir.Value) -> ir.Value:
    name = value.name
    value.name = f'{name}_float16'
    cast = _cast(value, ir.DataType.FLOAT, name)
    graph.append(cast)
    return cast.outputs[0]
