"""From a model to ONNX files that were compared with it."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Literal

import numpy as np
import onnx_ir as ir
from onnx_ir.passes.common import CheckerPass
from torch import nn

from ..data.preprocessing import Recipe
from ..errors import ExportError
from ..files import write_bytes
from ..kinds import kind_of
from ..options import Count, Positive, check_values
from ..quant.points import file_points
from ..surgery.modes import evaluating, in_float
from .agreement import (
    FLOAT16_TOLERANCE,
    QUANTISED_TOLERANCE,
    TOLERANCE,
    compare,
    compare_quantised,
)
from .editing import to_bytes
from .metadata import write_metadata
from .parts import Part, part_path, parts_of
from .passes.boxes import COLUMNS, DETECTIONS, AppendSuppression
from .passes.float16 import ToFloat16
from .quantise.float_layers import advice
from .quantise.plan import LayerPlan, QuantPoint, plan_in, plan_of
from .quantise.qdq import quantise_model
from .quantise.runtime_rules import ONNX_RUNTIME, RULES, RuntimeRules
from .translate import describe, to_onnx
from .twin.locate import locate
from .twin.twin import FileLayout, count_own, known_points, layout_of


@dataclass(frozen=True, eq=False)
class ExportOptions:
    """What the files of a model are to take and to do.

    Args:
        shape (tuple[int, ...]): ``(C, H, W)`` of the preprocessed image.
        batch (int): Images per call. Defaults to 1.
        dynamic_batch (bool): Take any number of images. Defaults to False.
        classes (Sequence[str]): Names of the classes, for the metadata.
        recipe (Recipe): What happens to an image before the model normalises it, for
            the metadata. Defaults to unknown.
        images (Sequence[np.ndarray]): Preprocessed calibration images, each of shape
            ``(batch, C, H, W)``. Needed if layers are quantised.
        boxes (bool): Decode boxes and suppress non-maxima inside the file; see
            :meth:`mmcompress.kinds.ModelKind.decode`. Defaults to False.
        runtime (str): What quantised layers are written for; see
            :mod:`.quantise.runtime_rules`. Defaults to 'onnxruntime'.
        float16 (bool): Weights and arithmetic of a network in float in 16 bits; its
            inputs and outputs stay in 32. Defaults to False.
        half_weights (bool): Of a quantised network, store the weights of layers that
            stay in float in 16 bits, for half of their bytes. Defaults to False: the
            file computes what the model does.
        layout (bool): Find out what a quantised file has and the model has not, for
            :func:`.twin.twin_of`. Takes the memory of all tensors of the network.
            Defaults to False.
        tolerance (float | None): See :data:`TOLERANCE`; of the network in float.
            Defaults to that, or to :data:`FLOAT16_TOLERANCE`.
        quantised_tolerance (float): See :func:`.agreement.compare_quantised`.
    """

    shape: tuple[Count, ...]
    batch: Count = 1
    dynamic_batch: bool = False
    classes: Sequence[str] = ()
    recipe: Recipe = field(default_factory=Recipe)
    images: Sequence[np.ndarray] = ()
    boxes: bool = False
    runtime: Literal[tuple(RULES)] = ONNX_RUNTIME.name
    float16: bool = False
    half_weights: bool = False
    layout: bool = False
    tolerance: Positive | None = None
    quantised_tolerance: Positive = QUANTISED_TOLERANCE

    def __post_init__(self) -> None:
        check_values('the export', type(self), vars(self))
        if self.float16 and self.boxes:
            raise ExportError(
                'Boxes are decoded in 32 bits, as coordinates in float16 are too '
                'coarse; leave --float16 or --boxes out.')

    @property
    def rules(self) -> RuntimeRules:
        """Of the runtime."""
        return RULES[self.runtime]

    @property
    def allowed(self) -> float:
        """The tolerance of the network in float."""
        return self.tolerance or (FLOAT16_TOLERANCE if self.float16 else TOLERANCE)


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


@dataclass(frozen=True, eq=False)
class FloatPart:
    """A part in float.

    Args:
        part (Part): Its network in torch.
        network (ir.Model): The same as a graph.
        error (float): By how much they differ; see :func:`compare`.
        measured (dict[ir.Value, QuantPoint]): Points of the graph that were measured on
            the calibration images; measuring adds to them.
    """

    part: Part
    network: ir.Model
    error: float
    measured: dict[ir.Value, QuantPoint] = field(default_factory=dict)


def export_onnx(
    model: nn.Module, path: str | os.PathLike, options: ExportOptions,
    parts: Sequence[FloatPart] | None = None,
) -> list[Exported]:
    """Export a model from preprocessed images to raw outputs.

    Batch norms are folded into convolutions. Layers that are quantised are written in
    integers, and what lies between them is quantised to 8 bits where the runtime needs
    that to stay in integers; see :mod:`.quantise.placement`.

    Args:
        model (nn.Module): A model whose kind can be exported; see
            :meth:`mmcompress.kinds.ModelKind.pieces`.
        path (str | os.PathLike): The file to write.
        options (ExportOptions): For example ``ExportOptions((3, 224, 224))``.
        parts (Sequence[FloatPart] | None): What :func:`float_parts` gave for the model
            and the options, if it was asked before.

    Returns:
        list[Exported]: The files, which appear complete or not at all.

    Raises:
        ExportError: A model of another kind, or one whose file computes something
            else; calibration images are missing.
    """
    with evaluating(model):
        plan = plan_of(model)
        if plan:
            check_quantised(model, plan, options)
        made, own, left = [], 0, set(plan)
        for found in float_parts(model, options) if parts is None else parts:
            network, error, layout = found.network, found.error, FileLayout()
            # A head that others share is part of several files.
            if mine := plan_in(network.graph, plan):
                left -= set(mine)
                network, error, layout = quantised_part(found, mine, options, own)
                own += count_own(layout)
            if options.boxes:
                append_boxes(network, model, options.recipe)
            made.append((part_path(path, found.part.name), to_bytes(network), error,
                         layout))
    if left:
        raise ExportError(
            f'{len(left)} quantised layers are not part of the exported network, '
            f'e.g. {min(left)!r}: their weights are unused or computed.')
    return [write(*file) for file in made]


def check_quantised(
    model: nn.Module, plan: Mapping[str, LayerPlan], options: ExportOptions
) -> None:
    """Find what a quantised model cannot be exported for before any work.

    Args:
        model, options: See :func:`export_onnx`.
        plan (Mapping[str, LayerPlan]): Numbers of its quantised layers.

    Raises:
        ExportError: Says what to do.
    """
    rules = options.rules
    if rules.computing and not len(options.images):
        raise ExportError(
            f'{len(plan)} layers are quantised; give calibration images for the '
            'tensors between them.')
    if options.float16:
        raise ExportError(
            f'{len(plan)} layers are quantised; leave --float16 out, which is for '
            'networks in float.')
    if file_points(model) is not None and not rules.computing:
        raise ExportError(
            f'The model has quantisers between its layers, which only files for '
            f'{ONNX_RUNTIME.name} have; leave --runtime {rules.name} out, or export '
            'the policy that --model-out was given for.')
    rules.check(plan)


def float_parts(model: nn.Module, options: ExportOptions) -> list[FloatPart]:
    """The parts of a model in float, each compared with its network.

    Args:
        model, options: See :func:`export_onnx`.
    """
    if options.boxes:
        kind_of(model).check_boxes(model)
        if options.batch != 1 or options.dynamic_batch:
            raise ExportError('With --boxes a file takes one image; leave --batch out.')
    found = []
    with evaluating(model):
        for part in parts_of(
                model, options.shape, options.batch, options.dynamic_batch,
                options.boxes):
            with in_float(model):
                network = to_onnx(part)
                if options.float16:
                    ToFloat16()(network)
                describe(network, part, model, options.classes, options.recipe)
                error = compare(network, part, options.allowed, options.boxes)
            found.append(FloatPart(part, network, error))
    return found


def quantised_part(
    found: FloatPart, plan: Mapping[str, LayerPlan], options: ExportOptions, first: int
) -> tuple[ir.Model, float, FileLayout]:
    """A part in integers.

    Args:
        found (FloatPart): The part in float.
        plan (Mapping[str, LayerPlan]): Numbers of its layers.
        options (ExportOptions): Has calibration images of the whole model.
        first (int): Number of points between layers that other parts have.

    Returns:
        tuple[ir.Model, float, FileLayout]: The part, by how much it differs from the
        fake-quantised network, and what it has and the model has not.
    """
    network, part, rules = found.network, found.part, options.rules
    model, outputs, layout = part.network.model, {}, FileLayout()
    images = part.inputs_of(options.images) if len(options.images) else [
        x.numpy() for x in part.inputs]
    if options.layout or file_points(model) is not None:
        outputs = locate(network, part.network, images[0])
    done = quantise_model(
        network, plan, images, known_points(model, outputs), rules, found.measured,
        options.half_weights)
    write_metadata(done.model, dict(quantised=len(plan)))
    if options.layout:
        layout = layout_of(
            network.graph, plan, done.placement, outputs, done.shifts, first)
    try:
        error = compare_quantised(
            done.model, part, images, options.quantised_tolerance)
    except ExportError as refusal:
        raise ExportError(
            f'{refusal} {advice(network, plan, images, rules)}') from None
    return done.model, error, layout


def append_boxes(network: ir.Model, model: nn.Module, recipe: Recipe) -> None:
    """Suppress non-maxima as the model's config says, in place.

    The metadata ``boxes`` say the columns and the unit of a row, and which rows are
    left. A file clips boxes at the border of its input. If ``border`` is ``'image'``,
    its user has to clip them at the border of the image, which was padded.
    """
    suppression = kind_of(model).suppression(model)
    AppendSuppression(suppression)(network)
    write_metadata(network, dict(
        outputs=[dict(role=DETECTIONS, activation='none')], decoding={},
        boxes=dict(
            columns=list(COLUMNS), unit='pixels of the input', **asdict(suppression),
            border=recipe.border if suppression.clipped else None)))
    CheckerPass()(network)


def write(path: Path, data: bytes, error: float, layout: FileLayout) -> Exported:
    """Write a file under a temporary name, then rename it."""
    write_bytes(path, data)
    return Exported(path, error, len(data), layout)
