"""From a model to ONNX files that were compared with it."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

import numpy as np
import onnx
import torch
from torch import nn

from .. import __version__
from ..errors import ExportError
from ..files import write_bytes
from ..kinds import kind_of
from ..quant.points import file_points
from ..quiet import quiet
from ..surgery.modes import evaluating, in_float
from .agreement import QUANTISED_TOLERANCE, TOLERANCE, compare, compare_quantised
from .metadata import FORMAT, preprocessing_of, write_metadata
from .onnx_graph import OnnxGraph
from .parts import Part, part_path, parts_of
from .passes.boxes import append_nms
from .passes.focus import fold_focus
from .passes.linear import name_linear_weights
from .passes.pooling import chain_max_pools, name_global_pooling
from .quantise.placement import layers_in
from .quantise.plan import LayerPlan, plan_of
from .quantise.qdq import quantise_graph
from .twin.locate import locate
from .twin.twin import FileLayout, count_own, known_points, layout_of

OPSET = 21
"""The first opset with 4-bit integers."""

_LOGGERS = tuple(map(logging.getLogger, ('torch.onnx', 'onnxscript', 'onnx_ir')))
"""Of the exporter, whose notices no user can act on."""

@dataclass(frozen=True)
class Exported:
    """A file that was written.

    Args:
        path (Path): Where it is.
        error (float): In float, the largest difference from the model's outputs on a
            random input relative to their largest magnitude; quantised, see
            :func:`compare_quantised`.
        size (int): Bytes.
        layout (FileLayout): What the model lacks to compute what the file does; empty
            unless asked for.
    """

    path: Path
    error: float
    size: int
    layout: FileLayout = field(default_factory=FileLayout)


def export_onnx(
    model: nn.Module,
    path: str | os.PathLike,
    shape: tuple[int, ...],
    batch: int = 1,
    dynamic_batch: bool = False,
    classes: Sequence[str] = (),
    images: Sequence[np.ndarray] = (),
    boxes: bool = False,
    tolerance: float = TOLERANCE,
    layout: bool = False,
    quantised_tolerance: float = QUANTISED_TOLERANCE,
) -> list[Exported]:
    """Export a model from preprocessed images to raw outputs.

    Batch norms are folded into convolutions. Layers that are quantised are written in
    integers, and what lies between them is quantised to 8 bits where the runtime needs
    that to stay in integers; see :mod:`.placement`.

    Args:
        model (nn.Module): A model whose kind can be exported; see
            :meth:`mmcompress.kinds.ModelKind.pieces`.
        path (str | os.PathLike): The file to write.
        shape (tuple[int, ...]): ``(C, H, W)`` of the preprocessed image.
        batch (int): Images per call. Defaults to 1.
        dynamic_batch (bool): Take any number of images. Defaults to False.
        classes (Sequence[str]): Names of the classes, for the metadata.
        images (Sequence[np.ndarray]): Preprocessed calibration images, each of shape
            ``(batch, C, H, W)``. Needed if layers are quantised.
        boxes (bool): Decode boxes and suppress non-maxima inside the file; see
            :meth:`mmcompress.kinds.ModelKind.decode`. Defaults to False.
        tolerance (float): See :data:`TOLERANCE`; of the network in float.
        layout (bool): Find out what a quantised file has and the model has not, for
            :func:`.twin.twin_of`. Takes the memory of all tensors of the network.
            Defaults to False.
        quantised_tolerance (float): See :func:`.agreement.compare_quantised`.

    Returns:
        list[Exported]: The files, which appear complete or not at all.

    Raises:
        ExportError: A model of another kind, or one whose file computes something
            else; calibration images are missing.
    """
    with evaluating(model):
        plan = plan_of(model)
        if plan and not len(images):
            raise ExportError(
                f'{len(plan)} layers are quantised; give calibration images for the '
                'tensors between them.')
        if boxes:
            kind_of(model).check_boxes(model)
            if batch != 1 or dynamic_batch:
                raise ExportError(
                    'With --boxes a file takes one image; leave --batch out.')
        exported, left = [], set(plan)
        for part in parts_of(model, shape, batch, dynamic_batch, boxes):
            with in_float(model):
                proto = to_proto(part)
                rearranged = fold_focus(OnnxGraph(proto))
                describe(proto, part, model, classes)
                error, found = compare(proto, part, tolerance, boxes), FileLayout()
            # A head that others share is part of several files.
            mine = {name: plan[name] for name in layers_in(OnnxGraph(proto))
                    if name in plan}
            left -= set(mine)
            if mine:
                inputs = part.inputs_of(images)
                found = quantise_part(
                    proto, part, rearrange(mine, rearranged), inputs,
                    sum(count_own(x[-1]) for x in exported) if layout else None)
                error = compare_quantised(
                    proto, part, inputs, quantised_tolerance)
            if boxes:
                suppression = kind_of(model).suppression(model)
                append_nms(proto, suppression)
                write_metadata(proto, dict(boxes=asdict(suppression)))
            exported.append((proto, part_path(path, part.name), error, found))
    if left:
        raise ExportError(
            f'{len(left)} quantised layers are not part of the exported network, '
            f'e.g. {min(left)!r}: their weights are unused or computed.')
    return [write(*file) for file in exported]


def quantise_part(
    proto: onnx.ModelProto, part: Part, plan: dict[str, LayerPlan],
    images: Sequence[np.ndarray], first: int | None,
) -> FileLayout:
    """Write a part in integers.

    Args:
        proto (onnx.ModelProto): The part in float, changed in place.
        part (Part): Its network.
        plan (dict[str, LayerPlan]): Numbers of its layers.
        images (Sequence[np.ndarray]): What it takes of the calibration images.
        first (int | None): Number of points between layers that other parts have;
            None if nobody asks for the layout.

    Returns:
        FileLayout: What the file has and the model has not.
    """
    model, outputs = part.network.model, {}
    if first is not None or file_points(model) is not None:
        outputs = locate(proto, part.network, images[0])
    float_proto = onnx.ModelProto()
    float_proto.CopyFrom(proto)
    done = quantise_graph(proto, plan, images, known_points(model, outputs))
    write_metadata(proto, dict(quantised=len(plan)))
    if first is None:
        return FileLayout()
    return layout_of(
        OnnxGraph(float_proto), plan, done.placement, outputs, done.shifts, first)


def rearrange(
    plan: dict[str, LayerPlan], functions: Mapping[str, Callable]
) -> dict[str, LayerPlan]:
    """Lay integers out as the graph's weights were laid out anew."""
    plan = dict(plan)
    for constant, function in functions.items():
        layer = constant.removeprefix('model.').removesuffix('.weight')
        if layer in plan and (old := plan[layer].weight) is not None:
            plan[layer] = replace(plan[layer], weight=replace(
                old, integers=function(old.integers), weight=function(old.weight)))
    return plan


def to_proto(part: Part) -> onnx.ModelProto:
    """Run torch's exporter; batch norms are folded by its optimiser."""
    dynamic = None
    if part.dynamic:
        axis = {0: torch.export.Dim('batch', min=1, max=4096)}
        dynamic = ((axis,) * len(part.inputs),)
    inputs = part.inputs
    if part.dynamic:  # an axis of length 1 would be taken for a constant
        inputs = tuple(torch.cat([x, x]) if len(x) < 2 else x for x in inputs)
    structure = part.network.structure(*inputs)
    count = len(_leaves(structure))
    with quiet(*_LOGGERS), torch.no_grad():
        program = torch.onnx.export(
            part.network, inputs, dynamo=True, opset_version=OPSET, verbose=False,
            input_names=list(part.input_names), dynamic_shapes=dynamic,
            output_names=[f'output_{i}' for i in range(count)])
    proto = program.model_proto
    name_linear_weights(OnnxGraph(proto), part.network)
    name_global_pooling(OnnxGraph(proto))
    chain_max_pools(OnnxGraph(proto))
    write_metadata(proto, dict(structure=structure))
    return proto


def _leaves(structure: object) -> list[int]:
    if isinstance(structure, list):
        return [leaf for item in structure for leaf in _leaves(item)]
    return [] if structure is None else [structure]


def describe(
    proto: onnx.ModelProto, part: Part, model: nn.Module, classes: Sequence[str]
) -> None:
    """Add the facts that running the file needs; see :mod:`.metadata`."""
    write_metadata(proto, dict(
        format=FORMAT, version=__version__, model=type(model).__name__,
        part=part.name, shape=list(part.inputs[0].shape[1:]),
        batch=0 if part.dynamic else len(part.inputs[0]),
        preprocessing=preprocessing_of(model), classes=list(classes)))
    onnx.checker.check_model(proto, full_check=True)


def write(
    proto: onnx.ModelProto, path: Path, error: float, layout: FileLayout
) -> Exported:
    """Write a file under a temporary name, then rename it."""
    data = proto.SerializeToString()
    write_bytes(path, data)
    return Exported(path, error, len(data), layout)
