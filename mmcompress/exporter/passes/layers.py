"""Which layer of the model a node computes.

torch's exporter says in a node's metadata which modules the node is inside. Optimising
the graph merges nodes, and with them this metadata: a convolution that a batch norm was
folded into says that it is inside the batch norm. So layers are marked before.
"""

from __future__ import annotations

import ast

import onnx_ir as ir
from torch import nn

from ..editing import is_constant

LAYERS = ('Conv', 'ConvTranspose', 'Gemm', 'MatMul')
"""Operators whose second input is a weight."""

LAYER = 'mmcompress.layer'
"""Key of the path of the layer in the metadata of a node."""

DECODING = ('DequantizeLinear', 'Mul', 'Cast')
"""Operators that make a weight of integers."""

OURS = 'mmcompress.'
"""Beginning of the keys of our own metadata."""

SCOPES = 'pkg.torch.onnx.name_scopes'
"""Key of the paths of the modules that a node is inside, outermost first, and behind
them the node's own name."""

PREFIX = 'model.'
"""Of a model's modules in the network that is exported."""


class MarkLayers(ir.passes.InPlacePass):
    """Write the paths of layers into the metadata of their nodes.

    Args:
        network (nn.Module): What was exported.
    """

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        first = {module: name for name, module in network.named_modules()}
        # A module that is shared goes by its first name.
        self.layers = {
            name: first[module].removeprefix(PREFIX)
            for name, module in network.named_modules(remove_duplicate=False)
            if 'weight' in dict(module.named_parameters(recurse=False))}

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        """Mark every node of a layer."""
        marked = False
        for node in model.graph:
            scopes = ast.literal_eval(node.metadata_props.get(SCOPES, '[]'))
            if node.op_type in LAYERS and len(scopes) > 1 \
                    and scopes[-2] in self.layers:
                node.metadata_props[LAYER] = self.layers[scopes[-2]]
                marked = True
        return ir.passes.PassResult(model, marked)


class NameLinearWeights(ir.passes.InPlacePass):
    """Call weights of products ``<path of the layer>.weight_transposed``.

    A linear layer that reads more than two axes is a ``MatMul`` with a constant of no
    name, one for every call: the layer's weight, transposed.
    """

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        """Name the constants, one for a layer."""
        constants, named = model.graph.initializers, False
        for node in model.graph:
            layer = layer_of(node) if node.op_type == 'MatMul' else None
            if layer is None or not is_constant(node.inputs[1]):
                continue
            name = f'{PREFIX}{layer}.weight_transposed'
            named |= node.inputs[1].name != name
            if name in constants:
                node.replace_input_with(1, constants[name])
            else:
                node.inputs[1].name = name
        return ir.passes.PassResult(model, named)


def layer_of(node: ir.Node) -> str | None:
    """Path of the layer whose constant weight a node uses, in float or integers."""
    name = node.metadata_props.get(LAYER)
    if name is None:
        return None
    weight = node.inputs[1]
    while (source := weight.producer()) is not None and source.op_type in DECODING:
        weight = source.inputs[0]
    return name if is_constant(weight) else None


class ForgetSources(ir.passes.InPlacePass):
    """Leave out what torch notes of every node: most of a small file, and paths."""

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        """Forget it."""
        forgotten = False
        values = (value for node in model.graph for value in node.outputs)
        for owner in (model.graph, *model.graph, *model.graph.inputs, *values):
            notes = [key for key in owner.metadata_props if not key.startswith(OURS)]
            for key in notes:
                del owner.metadata_props[key]
            forgotten |= bool(notes)
        return ir.passes.PassResult(model, forgotten)
