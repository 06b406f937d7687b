"""Pooling in the form that runtimes compute fastest."""

from __future__ import annotations

from onnx import NodeProto

from ..onnx_graph import OnnxGraph, attribute, set_attribute

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


def chain_max_pools(graph: OnnxGraph) -> None:
    """Compute a large max pooling from a smaller one of the same tensor, in place.

    Spatial pyramid pooling takes maxima over windows of 5, 9 and 13 pixels around each
    pixel. The maximum over 5 such maxima of 5 is the one over 9, also at borders, where
    both see what of the window is inside. Runtimes look at every pixel of a window.

    Args:
        graph (OnnxGraph): The network.
    """
    seen: dict[str, dict[int, str]] = {}
    for node in graph.nodes:
        size = _window(node)
        if size is None:
            continue
        known = seen.setdefault(node.input[0], {})
        smaller = max((k for k in known if k < size), default=None)
        known[size] = node.output[0]
        if smaller is not None:
            left = size - smaller + 1
            node.input[0] = known[smaller]
            set_attribute(node, 'kernel_shape', [left, left])
            set_attribute(node, 'pads', [left // 2] * 4)
    graph.finish()


def _window(node: NodeProto) -> int | None:
    """Height and width of the odd window around each pixel that a node takes maxima of.

    None for any other node.
    """
    if node.op_type != 'MaxPool' or len(node.output) != 1:
        return None
    shape = list(attribute(node, 'kernel_shape'))
    size = shape[0]
    around = shape == [size, size] and size % 2 == 1 \
        and list(attribute(node, 'pads', [0] * 4)) == [size // 2] * 4 \
        and set(attribute(node, 'strides', [1, 1])) == {1} \
        and set(attribute(node, 'dilations', [1, 1])) == {1} \
        and attribute(node, 'auto_pad', b'NOTSET') == b'NOTSET'
    return size if around else None
