"""A convolution on interleaved pixels as an ordinary one.

YOLOX and its kin first stack the four pixels of every 2 x 2 block as channels
("Focus"), then convolve. That is the same as one convolution with a kernel of twice
the size and stride 2. Runtimes are slow at strided slices, in 8 bits above all.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np
import onnx_ir as ir

from ..editing import array, set_array

BLOCK = {(0, 0), (0, 1), (1, 0), (1, 1)}

LAID_OUT = 'mmcompress.laid_out'
"""Key, in ``node.meta``, of the function from the layer's weight ``(O, 4 C, k, k)`` to
that of the node, ``(O, C, 2 k, 2 k)``."""


class FoldFocus(ir.passes.InPlacePass):
    """Rewrite every such convolution; see :func:`laid_out` for its weight."""

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        """Let the convolutions read what was sliced."""
        found = [(node, folded) for node in model.graph
                 if (folded := _stacked(node)) is not None]
        for node, (image, offsets) in found:
            function = partial(interleave, offsets=offsets)
            weight, given = node.inputs[1], node.attributes
            set_array(weight, function(array(weight)))
            node.replace_input_with(0, image)
            pads = [2 * n for n in given.get_ints('pads', [0] * 4)]
            kernel = array(weight).shape[2:]
            for name, value in dict(
                    strides=[2, 2], pads=pads, kernel_shape=kernel).items():
                given.add(ir.AttrInt64s(name, value))
            node.meta[LAID_OUT] = function
        return ir.passes.PassResult(model, bool(found))


def laid_out(node: ir.Node) -> Callable[[np.ndarray], np.ndarray]:
    """The function from the weight of a node's layer to the layout of the node's."""
    return node.meta.get(LAID_OUT, np.asarray)


def interleave(weight: np.ndarray, offsets: tuple[tuple[int, int], ...]) -> np.ndarray:
    """Spread the four groups of input channels over a kernel of twice the size.

    Args:
        weight (np.ndarray): ``(O, 4 C, kh, kw)``.
        offsets (tuple): Row and column, within a block, of the pixels that each
            group of C channels holds.

    Returns:
        np.ndarray: ``(O, C, 2 kh, 2 kw)`` of the same type.
    """
    out, channels, height, width = weight.shape
    channels //= 4
    spread = np.zeros((out, channels, 2 * height, 2 * width), weight.dtype)
    for i, (row, column) in enumerate(offsets):
        spread[:, :, row::2, column::2] = weight[:, i * channels:(i + 1) * channels]
    return spread


def _stacked(node: ir.Node) -> tuple[ir.Value, tuple[tuple[int, int], ...]] | None:
    """The image whose stacked pixels a node convolves, and the pixels' offsets."""
    stack = node.inputs[0].producer() if node.op_type == 'Conv' else None
    if stack is None or stack.op_type != 'Concat' or len(stack.inputs) != 4:
        return None
    slices = [_strided(value) for value in stack.inputs]
    given = node.attributes
    if None in slices or {offset for _, offset in slices} != BLOCK \
            or len({image for image, _ in slices}) != 1 \
            or given.get_int('group', 1) != 1 \
            or set(given.get_ints('strides', [1, 1])) != {1} \
            or set(given.get_ints('dilations', [1, 1])) != {1}:
        return None
    return slices[0][0], tuple(offset for _, offset in slices)


def _strided(value: ir.Value) -> tuple[ir.Value, tuple[int, int]] | None:
    """The tensor that was sliced with stride 2 in rows and columns, and where."""
    starts: dict[int, int] = {}
    while (node := value.producer()) is not None and node.op_type == 'Slice':
        if len(node.inputs) < 5:
            return None
        values = [array(node.inputs[i]).tolist() for i in (1, 3, 4)]
        for start, axis, step in zip(*values):
            if step == 2:
                starts[axis] = start
            elif step != 1 or start != 0:
                return None
        value = node.inputs[0]
    return (value, (starts[2], starts[3])) if set(starts) == {2, 3} else None
