"""Names for the weights of linear layers that read more than two axes.

torch's exporter writes such a layer as a ``MatMul`` with a constant of no name: its
weight, transposed. Which layer it belongs to stands in the metadata of the node.
"""

from __future__ import annotations

import ast

import numpy as np
from onnx import NodeProto
from torch import nn

from ...layers.rule import is_layer, rule_of
from ..onnx_graph import OnnxGraph

SCOPES = 'pkg.torch.onnx.name_scopes'
"""Key of the list of the modules that a node is inside, outermost first."""


def name_linear_weights(graph: OnnxGraph, network: nn.Module) -> None:
    """Call the constants ``<path of the layer>.weight_transposed``, one for a layer.

    Args:
        graph (OnnxGraph): As exported; changed in place.
        network (nn.Module): What was exported.
    """
    linears = {name: module for name, module in network.named_modules()
               if is_layer(module) and rule_of(module).kind == 'linear'}
    for node in graph.nodes:
        path = next((x for x in reversed(scopes_of(node)) if x in linears), None)
        if node.op_type != 'MatMul' or path is None \
                or node.input[1] not in graph.constants:
            continue
        value = graph.array(node.input[1])
        if np.array_equal(value, linears[path].weight.detach().cpu().numpy().T):
            node.input[1] = graph.set_constant(f'{path}.weight_transposed', value)
    graph.finish()


def scopes_of(node: NodeProto) -> list[str]:
    """Paths of the modules that a node is inside, outermost first."""
    found = [x.value for x in node.metadata_props if x.key == SCOPES]
    return ast.literal_eval(found[0]) if found else []
