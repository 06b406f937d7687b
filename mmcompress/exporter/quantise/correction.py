"""Biases that undo what the 8-bit points between layers shift.

The fake-quantised model has no such points, so the file's layers receive inputs of
another mean, and so do all layers after them. Taking the mean difference of every
output channel from the layer's bias, one layer after the other, is the bias
correction of Nagel et al. (ICCV 2019, app. D) with the fake-quantised model in the
place of the float one: a model that was trained with quantisers is right as it is.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import onnx_ir as ir

from ..editing import array, is_constant, part_of, set_array, to_bytes
from ..runtimes import OnnxRuntime, probe

BIASED = ('Conv', 'ConvTranspose', 'Gemm')
"""Operators that add the constant at their third input."""


def correct_biases(
    model: ir.Model, reference: ir.Model, images: Sequence[np.ndarray]
) -> None:
    """Give every layer the mean outputs of the same layer in another file.

    A layer that is called several times is corrected by its mean over all calls.

    Args:
        model (ir.Model): Its biases are changed in place.
        reference (ir.Model): With layers of the same names.
        images (Sequence[np.ndarray]): Inputs, each a batch that both take.
    """
    outputs = {node.name: node.outputs[0] for node in reference.graph
               if node.op_type in BIASED}
    wanted = dict(zip(outputs, channel_means(
        reference, list(outputs.values()), images)))
    [source] = model.graph.inputs
    known = [{source.name: image} for image in images]
    for step in steps_of(model):
        run = OnnxRuntime(to_bytes(step.part), integers=False)
        found = [run(*(have[name] for name in step.inputs)) for have in known]
        mean = pooled([ChannelMean.of(x) for values in found for x in values])
        shift = pooled([wanted[name] for name in step.layers]).values - mean.values
        bias = model.graph.initializers[step.bias]
        set_array(bias, (array(bias) + shift).astype(np.float32))
        for have, values in zip(known, found):
            # With the new bias the layers give the same, but for the shift.
            have |= {name: _shifted(x, shift) for name, x in zip(step.outputs, values)}
            for name in step.finished:
                del have[name]


@dataclass(frozen=True)
class Step:
    """The correction of one bias.

    Args:
        bias (str): Name of the constant.
        layers (tuple[str, ...]): Nodes that add it.
        outputs (tuple[str, ...]): Their outputs.
        part (ir.Model): Computes these.
        inputs (tuple[str, ...]): What from: outputs of layers before.
        finished (tuple[str, ...]): Tensors that no later step needs.
    """

    bias: str
    layers: tuple[str, ...]
    outputs: tuple[str, ...]
    part: ir.Model
    inputs: tuple[str, ...]
    finished: tuple[str, ...] = ()


def steps_of(model: ir.Model) -> list[Step]:
    """All biases in order, each with what lies between its layers and those before."""
    known, steps = list(model.graph.inputs), []
    for bias, nodes in calls_of(model.graph).items():
        outputs = [node.outputs[0] for node in nodes]
        part = part_of(model, outputs, known)
        known += outputs
        steps.append(Step(
            bias.name, tuple(node.name for node in nodes),
            tuple(x.name for x in outputs), part,
            tuple(x.name for x in part.graph.inputs)))
    last = {name: i for i, step in enumerate(steps)
            for name in (*step.outputs, *step.inputs)}
    return [replace(step, finished=tuple(n for n, j in last.items() if i == j))
            for i, step in enumerate(steps)]


def calls_of(graph: ir.Graph) -> dict[ir.Value, list[ir.Node]]:
    """By bias the layers that add it, in the order of the graph."""
    found: dict[ir.Value, list[ir.Node]] = {}
    for node in graph:
        if node.op_type in BIASED and len(node.inputs) > 2 \
                and is_constant(node.inputs[2]):
            found.setdefault(node.inputs[2], []).append(node)
    return found


@dataclass(frozen=True)
class ChannelMean:
    """Mean of every channel (axis 1) of a tensor.

    Args:
        values (np.ndarray): ``(C,)``.
        count (int): Values that each is of.
    """

    values: np.ndarray
    count: int

    @classmethod
    def of(cls, x: np.ndarray) -> ChannelMean:
        """Of one tensor."""
        axes = tuple(axis for axis in range(x.ndim) if axis != 1)
        count = x.size // x.shape[1]
        return cls(x.sum(axes, dtype=np.float64) / max(1, count), count)


def channel_means(
    model: ir.Model, values: Sequence[ir.Value], images: Sequence[np.ndarray]
) -> list[ChannelMean]:
    """Means of some tensors of a network over images."""
    run = probe(model, values)
    means = [list(map(ChannelMean.of, run(image))) for image in images]
    return [pooled(of) for of in zip(*means)]


def pooled(means: Sequence[ChannelMean]) -> ChannelMean:
    """The mean of all values of some tensors."""
    count = sum(mean.count for mean in means)
    total = sum(mean.values * mean.count for mean in means)
    return ChannelMean(total / max(1, count), count)


def _shifted(x: np.ndarray, shift: np.ndarray) -> np.ndarray:
    return x + shift.reshape(-1, *[1] * (x.ndim - 2)).astype(np.float32)
