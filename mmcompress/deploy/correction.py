"""Biases that undo what the 8-bit points between layers shift.

The fake-quantised model has no such points, so the file's layers receive inputs of
another mean, and so do all layers after them. Taking the mean difference of every
output channel from the layer's bias, one layer after the other, is the bias
correction of Nagel et al. (ICCV 2019, app. D) with the fake-quantised model in the
place of the float one: a model that was trained with quantisers is right as it is.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx
from onnx import NodeProto

from .onnx_graph import OnnxGraph
from .runtimes import probe

BIASED = ('Conv', 'ConvTranspose', 'Gemm')
"""Operators that add the constant at their third input."""


def correct_biases(
    proto: onnx.ModelProto, reference: onnx.ModelProto, images: Sequence[np.ndarray]
) -> None:
    """Give every layer the mean outputs of the same layer in another file.

    A layer that is called several times is corrected by its mean over all calls.

    Args:
        proto (onnx.ModelProto): Its biases are changed in place.
        reference (onnx.ModelProto): With layers of the same names.
        images (Sequence[np.ndarray]): Inputs, each a batch that both take.
    """
    graph = OnnxGraph(proto)
    calls = calls_of(graph)
    outputs = {node.name: node.output[0] for node in reference.graph.node
               if node.op_type in BIASED}
    wanted = dict(zip(outputs, channel_means(
        reference, list(outputs.values()), images)))
    for bias, nodes in calls.items():
        found = channel_means(proto, [node.output[0] for node in nodes], images)
        shift = _pooled([wanted[node.name] for node in nodes]) - _pooled(found)
        graph.set_constant(bias, (graph.array(bias) + shift).astype(np.float32))


def calls_of(graph: OnnxGraph) -> dict[str, list[NodeProto]]:
    """By name of a bias the layers that add it, in the order of the graph."""
    found: dict[str, list[NodeProto]] = {}
    for node in graph.nodes:
        if node.op_type in BIASED and len(node.input) > 2 \
                and node.input[2] in graph.constants:
            found.setdefault(node.input[2], []).append(node)
    return found


def channel_means(
    proto: onnx.ModelProto, names: Sequence[str], images: Sequence[np.ndarray]
) -> list[tuple[np.ndarray, int]]:
    """Mean of every channel (axis 1) of some tensors, with the values it is of."""
    sums: list = [0.0] * len(names)
    counts = [0] * len(names)
    run = probe(proto, names)
    for image in images:
        for i, value in enumerate(run(image)):
            axes = tuple(axis for axis in range(value.ndim) if axis != 1)
            sums[i] = sums[i] + value.sum(axes, dtype=np.float64)
            counts[i] += value.size // value.shape[1]
    return [(total / max(1, count), count) for total, count in zip(sums, counts)]


def _pooled(means: Sequence[tuple[np.ndarray, int]]) -> np.ndarray:
    total = sum(count for _, count in means)
    return sum(mean * count for mean, count in means) / max(1, total)
