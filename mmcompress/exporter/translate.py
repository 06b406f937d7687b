"""From a network in torch to an ONNX model that runtimes compute fast."""

from __future__ import annotations

import logging
from collections.abc import Sequence

import onnx_ir as ir
import torch
from onnx_ir.passes.common import CheckerPass, RemoveUnusedNodesPass
from torch import nn

from .. import __version__
from ..data.preprocessing import Recipe, preprocessing_facts
from ..kinds import kind_of
from ..quiet import quiet
from .metadata import FORMAT, write_metadata
from .parts import Part
from .passes.focus import FoldFocus
from .passes.layers import ForgetSources, MarkLayers, NameLinearWeights
from .passes.pooling import ChainMaxPools, NameGlobalPooling

OPSET = 21
"""The first opset with 4-bit integers."""

PASSES = (NameLinearWeights, NameGlobalPooling, ChainMaxPools, FoldFocus,
          RemoveUnusedNodesPass, ForgetSources)
"""What is done to a network that torch's optimiser is through with."""

LOGGERS = tuple(map(logging.getLogger, ('torch.onnx', 'onnxscript', 'onnx_ir')))
"""Of the exporter, whose notices no user can act on."""


def to_onnx(part: Part) -> ir.Model:
    """Run torch's exporter; batch norms are folded by its optimiser."""
    dynamic, inputs = None, part.inputs
    if part.dynamic:
        axis = {0: torch.export.Dim('batch', min=1, max=4096)}
        dynamic = ((axis,) * len(inputs),)
        # An axis of length 1 would be taken for a constant.
        inputs = tuple(torch.cat([x, x]) if len(x) < 2 else x for x in inputs)
    with quiet(*LOGGERS), torch.no_grad():
        program = torch.onnx.export(
            part.network, inputs, dynamo=True, opset_version=OPSET, verbose=False,
            dynamic_shapes=dynamic, optimize=False)
        MarkLayers(part.network)(program.model)
        program.optimize()
    model = program.model
    for value, name in zip(model.graph.inputs, part.input_names):
        value.name = name
    for i, value in enumerate(model.graph.outputs):
        value.name = f'output_{i}'
    return ir.passes.Sequential(*(make() for make in PASSES))(model).model


def describe(
    network: ir.Model, part: Part, model: nn.Module, classes: Sequence[str],
    recipe: Recipe,
) -> None:
    """Add the facts that running the file needs; see :mod:`.metadata`."""
    structure = part.network.structure(*part.inputs)
    write_metadata(network, dict(
        format=FORMAT, version=__version__, model=type(model).__name__,
        part=part.name, structure=structure, outputs=list(part.outputs(structure)),
        decoding=part.decoding,
        shape=list(part.inputs[0].shape[1:]),
        batch=0 if part.dynamic else len(part.inputs[0]),
        preprocessing=preprocessing_facts(kind_of(model).normalisation(model), recipe),
        classes=list(classes)))
    CheckerPass(full_check=True)(network)
