"""Editing an ONNX graph."""

from __future__ import annotations

from collections.abc import Collection, Sequence

import numpy as np
import onnx
from onnx import NodeProto, TensorProto, helper, numpy_helper


class OnnxGraph:
    """A graph with its tensors' producers, consumers and constants at hand.

    Nodes that are put behind a tensor or in front of everything appear in the model
    when :meth:`finish` is called.

    Args:
        proto (onnx.ModelProto): Changed in place.
    """

    def __init__(self, proto: onnx.ModelProto) -> None:
        self.proto, self.graph = proto, proto.graph
        self._first: list[NodeProto] = []
        self._behind: dict[str, list[NodeProto]] = {}
        self.index()

    def index(self) -> None:
        """Look at the graph again after nodes or constants were changed."""
        self.nodes = list(self.graph.node)
        self.constants = {x.name: x for x in self.graph.initializer}
        self.outputs = [x.name for x in self.graph.output]
        self.producers = {o: n for n in self.nodes for o in n.output}
        self.consumers: dict[str, list[NodeProto]] = {}
        for node in self.nodes:
            for name in dict.fromkeys(node.input):
                self.consumers.setdefault(name, []).append(node)

    def array(self, name: str) -> np.ndarray:
        """Value of a constant."""
        return numpy_helper.to_array(self.constants[name])

    def data_inputs(self, node: NodeProto) -> list[str]:
        """Inputs of a node that are not constants."""
        return [x for x in node.input if x and x not in self.constants]

    def set_constant(self, name: str, value: np.ndarray | TensorProto) -> str:
        """Add a constant, or replace the value of one; returns its name."""
        tensor = value if isinstance(value, TensorProto) else \
            numpy_helper.from_array(np.asarray(value, order='C'), name)
        if name in self.constants:
            self.constants[name].CopyFrom(tensor)
        else:
            self.graph.initializer.append(tensor)
            self.constants[name] = self.graph.initializer[-1]
        return name

    def put_first(self, node: NodeProto) -> None:
        """Add a node that reads constants only."""
        self._first.append(node)

    def put_behind(self, tensor: str, nodes: list[NodeProto]) -> None:
        """Add nodes right after the node that produces ``tensor``."""
        self._behind.setdefault(tensor, []).extend(nodes)

    def finish(self) -> None:
        """Put the new nodes in and drop what nothing reads."""
        nodes = list(self._first)
        for name in (x.name for x in self.graph.input):
            nodes += self._behind.get(name, [])
        for node in self.nodes:
            nodes.append(node)
            for name in node.output:
                nodes += self._behind.get(name, [])
        kept, read = _needed(nodes, self.outputs)
        del self.graph.node[:]
        self.graph.node.extend(kept)
        del self.graph.value_info[:]  # shapes of tensors that may be others now
        for name in [x for x in self.constants if x not in read]:
            self.graph.initializer.remove(self.constants[name])
        self._first, self._behind = [], {}
        self.index()


def part_of(
    graph: OnnxGraph, outputs: Sequence[str], known: Collection[str]
) -> tuple[onnx.ModelProto, list[str]]:
    """What computes some tensors from others.

    Args:
        graph (OnnxGraph): The whole.
        outputs (Sequence[str]): Tensors to compute.
        known (Collection[str]): Float tensors to compute them from.

    Returns:
        tuple[onnx.ModelProto, list[str]]: The part, and the known tensors that it
        takes, in the order of its inputs.
    """
    nodes, read = _needed(graph.nodes, outputs, known)
    inputs = [name for name in known if name in read]
    own = {x.name: x for x in graph.graph.input}
    part = helper.make_graph(
        nodes, graph.graph.name,
        [own.get(name) or helper.make_tensor_value_info(name, TensorProto.FLOAT, None)
         for name in inputs],
        [helper.make_empty_tensor_value_info(name) for name in outputs],
        [tensor for name, tensor in graph.constants.items() if name in read])
    return helper.make_model(
        part, opset_imports=graph.proto.opset_import,
        ir_version=graph.proto.ir_version), inputs


def _needed(
    nodes: Sequence[NodeProto], outputs: Collection[str], known: Collection[str] = ()
) -> tuple[list[NodeProto], set[str]]:
    """The nodes that compute some tensors from others, and all tensors involved."""
    read, kept = set(outputs), []
    for node in reversed(nodes):
        if any(name in read and name not in known for name in node.output):
            kept.append(node)
            read.update(node.input)
    return kept[::-1], read


def attribute(node: NodeProto, name: str, default: object = None) -> object:
    """Value of an attribute of a node."""
    for item in node.attribute:
        if item.name == name:
            return helper.get_attribute_value(item)
    return default


def set_attribute(node: NodeProto, name: str, value: object) -> None:
    """Set an attribute of a node."""
    for item in node.attribute:
        if item.name == name:
            node.attribute.remove(item)
            break
    node.attribute.append(helper.make_attribute(name, value))
