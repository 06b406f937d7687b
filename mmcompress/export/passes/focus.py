"""A convolution on interleaved pixels as an ordinary one.

YOLOX and its kin first stack the four pixels of every 2 x 2 block as channels
("Focus"), then convolve. That is the same as one convolution with a kernel of twice
the size and stride 2. Runtimes are slow at strided slices, in 8 bits above all.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from onnx import NodeProto

from ..onnx_graph import OnnxGraph, attribute, set_attribute

BLOCK = {(0, 0), (0, 1), (1, 0), (1, 1)}


def fold_focus(graph: OnnxGraph) -> dict[str, Callable[[np.ndarray], np.ndarray]]:
    """Rewrite every such convolution, in place; results are the same.

    Args:
        graph (OnnxGraph): The network.

    Returns:
        dict: By name of a weight that was rearranged, how: a function from the old
        layout ``(O, 4 C, k, k)`` to the new one ``(O, C, 2 k, 2 k)``.
    """
    done = {}
    for node in graph.nodes:
        stack = graph.producers.get(node.input[0])
        if node.op_type != 'Conv' or stack is None or stack.op_type != 'Concat':
            continue
        found = [_strided(graph, name) for name in stack.input]
        if None in found or {offset for _, offset in found} != BLOCK \
                or len(found) != 4 or len({root for root, _ in found}) != 1 \
                or attribute(node, 'group', 1) != 1 \
                or set(attribute(node, 'strides', [1, 1])) != {1} \
                or set(attribute(node, 'dilations', [1, 1])) != {1}:
            continue
        offsets = tuple(offset for _, offset in found)
        name = node.input[1]

        def rearrange(weight: np.ndarray, offsets: tuple = offsets) -> np.ndarray:
            return interleave(weight, offsets)

        weight = rearrange(graph.array(name))
        graph.set_constant(name, weight)
        node.input[0] = found[0][0]
        set_attribute(node, 'strides', [2, 2])
        set_attribute(node, 'pads', [2 * n for n in attribute(node, 'pads', [0] * 4)])
        set_attribute(node, 'kernel_shape', list(weight.shape[2:]))
        done[name] = rearrange
    graph.finish()
    return done


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


def _strided(graph: OnnxGraph, name: str) -> tuple[str, tuple[int, int]] | None:
    """The tensor that was sliced with stride 2 in rows and columns, and where."""
    starts: dict[int, int] = {}
    node: NodeProto | None = graph.producers.get(name)
    while node is not None and node.op_type == 'Slice':
        if len(node.input) < 5:
            return None
        values = [graph.array(node.input[i]).tolist() for i in (1, 3, 4)]
        for start, axis, step in zip(*values):
            if step == 2:
                starts[axis] = start
            elif step != 1 or start != 0:
                return None
        name = node.input[0]
        node = graph.producers.get(name)
    if set(starts) != {2, 3}:
        return None
    return name, (starts[2], starts[3])
