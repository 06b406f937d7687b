"""Pooling in the form that runtimes compute fastest."""

from __future__ import annotations

import onnx_ir as ir

from ..editing import array, is_constant

PIXELS = ([-2, -1], [2, 3])
"""Axes of height and width of ``(N, C, H, W)``."""


class NameGlobalPooling(ir.passes.InPlacePass):
    """Turn every ``ReduceMean`` over the pixels into a ``GlobalAveragePool``.

    torch exports adaptive pooling to one pixel as the former, which ONNX Runtime
    computes in float only.
    """

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        """Rename the operator; its axes become implicit."""
        found = [node for node in model.graph if _pools_all_pixels(node)]
        for node in found:
            node.op_type = 'GlobalAveragePool'
            node.resize_inputs(1)
            node.attributes.clear()
        return ir.passes.PassResult(model, bool(found))


def _pools_all_pixels(node: ir.Node) -> bool:
    return node.op_type == 'ReduceMean' and len(node.inputs) == 2 \
        and node.attributes.get_int('keepdims', 1) == 1 \
        and is_constant(node.inputs[1]) \
        and sorted(array(node.inputs[1]).tolist()) in PIXELS


class ChainMaxPools(ir.passes.InPlacePass):
    """Compute a large max pooling from a smaller one of the same tensor.

    Spatial pyramid pooling takes maxima over windows of 5, 9 and 13 pixels around each
    pixel. The maximum over 5 such maxima of 5 is the one over 9, also at borders, where
    both see what of the window is inside. Runtimes look at every pixel of a window.
    """

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        """Let every larger window read the largest smaller one."""
        seen: dict[ir.Value, dict[int, ir.Value]] = {}
        chained = False
        for node in model.graph:
            size = _window(node)
            if size is None:
                continue
            known = seen.setdefault(node.inputs[0], {})
            smaller = max((k for k in known if k < size), default=None)
            known[size] = node.outputs[0]
            if smaller is not None:
                left = size - smaller + 1
                node.replace_input_with(0, known[smaller])
                node.attributes.add(ir.AttrInt64s('kernel_shape', [left, left]))
                node.attributes.add(ir.AttrInt64s('pads', [left // 2] * 4))
                chained = True
        return ir.passes.PassResult(model, chained)


def _window(node: ir.Node) -> int | None:
    """Height and width of the odd window around each pixel that a node takes maxima of.

    None for any other node.
    """
    if node.op_type != 'MaxPool' or len(node.outputs) != 1:
        return None
    given = node.attributes
    shape = given.get_ints('kernel_shape')
    size = shape[0]
    around = list(shape) == [size, size] and size % 2 == 1 \
        and list(given.get_ints('pads', [0] * 4)) == [size // 2] * 4 \
        and set(given.get_ints('strides', [1, 1])) == {1} \
        and set(given.get_ints('dilations', [1, 1])) == {1} \
        and given.get_string('auto_pad', 'NOTSET') == 'NOTSET'
    return size if around else None
