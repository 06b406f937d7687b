"""Means over all pixels under the name that runtimes have in 8 bits."""

from __future__ import annotations

from .onnx_graph import OnnxGraph, attribute

PIXELS = ([-2, -1], [2, 3])
"""Axes of height and width of ``(N, C, H, W)``."""


def name_global_pooling(graph: OnnxGraph) -> None:
    """Turn every ``ReduceMean`` over the pixels into a ``GlobalAveragePool``, in place.

    torch exports adaptive pooling to one pixel as the former, which ONNX Runtime
    computes in float only.

    Args:
        graph (OnnxGraph): The network.
    """
    for node in graph.nodes:
        if node.op_type != 'ReduceMean' or attribute(node, 'keepdims', 1) != 1 \
                or len(node.input) != 2 or node.input[1] not in graph.constants \
                or sorted(graph.array(node.input[1]).tolist()) not in PIXELS:
            continue
        node.op_type = 'GlobalAveragePool'
        del node.input[1:], node.attribute[:]
    graph.finish()
