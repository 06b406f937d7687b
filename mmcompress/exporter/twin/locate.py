"""Which module of a model returns a tensor of its graph."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import numpy as np
import onnx_ir as ir
import torch
from torch import Tensor, nn

from ...layers.quantised import quantised_layers
from ...layers.rule import rule_of
from ...surgery.hooks import hooked
from ...surgery.modes import in_float
from ..parts import FlatOutputs
from ..runtimes import probe

SAMPLES = 4096
"""Values of a tensor that are compared."""

TOLERANCE = 1e-3
"""Largest difference of a tensor from a module's output, relative to its largest value:
the graph has its batch norms folded."""


@dataclass(frozen=True, eq=False)
class Output:
    """What a call of a module returned.

    Args:
        module (str): Dotted path.
        call (int): Which call of the module, from 0.
        silu (bool): Whether it is ``x sigmoid(x)`` of the module's input.
        shape (tuple[int, ...]): Of the tensor.
        values (np.ndarray): Some of its values.
    """

    module: str
    call: int
    silu: bool
    shape: tuple[int, ...]
    values: np.ndarray


def locate(
    model: ir.Model, network: FlatOutputs, image: np.ndarray
) -> dict[ir.Value, Output]:
    """Find the modules that return tensors of a graph.

    Args:
        model (ir.Model): The network in float.
        network (FlatOutputs): The same in torch.
        image (np.ndarray): An input, of which both are taken to be computed.

    Returns:
        dict[ir.Value, Output]: By tensor, the first call that returned it.
    """
    by_shape: dict[tuple, list[Output]] = {}
    for output in _outputs(network, image):
        by_shape.setdefault(output.shape, []).append(output)
    values = [value for node in model.graph for value in node.outputs if value.name]
    found = {}
    for value, content in zip(values, probe(model, values)(image)):
        if content.dtype != np.float32:
            continue
        for output in by_shape.get(content.shape, ()):
            if _equal(output.values, _some(content)):
                found[value] = output
                break
    return found


@torch.no_grad()
def _outputs(network: FlatOutputs, image: np.ndarray) -> list[Output]:
    """Tensors that the modules of a model return, in order; the model in float."""
    found: list[Output] = []
    calls: dict[str, int] = {}
    # A model that is built from a policy has no quantisers in layers in float.
    idle = {id(part) for layer in quantised_layers(network.model).values()
            if layer.bits.is_float for part in layer.children()}

    def watch(name: str, module: nn.Module, args: tuple, output: object) -> None:
        call = calls[name] = calls.get(name, -1) + 1
        if isinstance(output, Tensor) and output.is_floating_point():
            found.append(Output(
                name, call, _is_silu(module, args, output), tuple(output.shape),
                _some(output.numpy())))

    with in_float(network.model), hooked(after={
            module: partial(watch, name)
            for name, module in network.model.named_modules()
            if name and id(module) not in idle}):
        network(torch.from_numpy(image))
    return found


def _is_silu(module: nn.Module, args: tuple, output: Tensor) -> bool:
    rule = rule_of(module)
    if rule and rule.operator == 'SiLU':  # in place, its input is its output by now
        return True
    if len(args) != 1 or not isinstance(args[0], Tensor) or \
            args[0].shape != output.shape:
        return False
    return torch.allclose(output, torch.nn.functional.silu(args[0]), atol=1e-6)


def _some(x: np.ndarray) -> np.ndarray:
    index = np.linspace(0, x.size - 1, min(x.size, SAMPLES)).astype(np.int64)
    return x.ravel()[index]


def _equal(a: np.ndarray, b: np.ndarray) -> bool:
    largest = np.abs(b).max(initial=0.0)
    return largest > 0 and np.abs(a - b).max() <= TOLERANCE * largest
