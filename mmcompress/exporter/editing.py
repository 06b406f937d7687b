"""What passes ask of the values of an ONNX model, and do to its constants.

From torch's exporter to the file a network is an :class:`onnx_ir.Model`: its values
know their producer and their uses, its nodes keep the exporter's metadata.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx_ir as ir


def array(value: ir.Value) -> np.ndarray:
    """Content of a constant."""
    return value.const_value.numpy()


def set_array(value: ir.Value, content: np.ndarray) -> None:
    """Replace the content of a constant."""
    value.const_value = ir.tensor(np.asarray(content, order='C'), name=value.name)
    value.shape = ir.Shape(np.shape(content))


def add_constant(
    graph: ir.Graph, name: str, content: np.ndarray | np.generic,
    dtype: ir.DataType | None = None,
) -> ir.Value:
    """The constant of a name; a new one unless the graph has it.

    Args:
        graph (ir.Graph): Changed in place.
        name (str): Says what the content is: a constant of this name is taken as is.
        content (np.ndarray | np.generic): Its value.
        dtype (ir.DataType | None): A type that numpy lacks. Defaults to the array's.
    """
    if name not in graph.initializers:
        tensor = ir.tensor(np.asarray(content, order='C'), dtype, name)
        graph.initializers.add(ir.val(name, const_value=tensor))
    return graph.initializers[name]


def is_constant(value: ir.Value | None) -> bool:
    """Whether a value is a constant of its graph."""
    return value is not None and value.is_initializer()


def data_inputs(node: ir.Node) -> list[ir.Value]:
    """Inputs of a node that are not constants."""
    return [x for x in node.inputs if x is not None and not x.is_initializer()]


def part_of(
    model: ir.Model, outputs: Sequence[ir.Value], known: Sequence[ir.Value]
) -> ir.Model:
    """A copy of what computes some values from others.

    Args:
        model (ir.Model): The whole.
        outputs (Sequence[ir.Value]): Values to compute.
        known (Sequence[ir.Value]): Float values to compute them from. Those that are
            not needed are no inputs of the part.
    """
    graph = ir.convenience.extract(model.graph, known, outputs)
    for value in list(graph.inputs):
        if not value.uses():
            graph.inputs.remove(value)
        elif value.dtype is None:
            value.dtype = ir.DataType.FLOAT
    return ir.Model(graph, ir_version=model.ir_version)


def to_bytes(model: ir.Model) -> bytes:
    """A model as a file has it; the shapes between inputs and outputs are left out."""
    proto = ir.to_proto(model)
    del proto.graph.value_info[:]
    return proto.SerializeToString()
