"""Exporting a checkpoint of a config, in float, at the bits of its policy, or in 8."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

from mmengine.config import Config
from torch import nn

from ..arithmetic.ranges import SIGNED
from ..costs import costs_of
from ..data.preprocessing import Recipe
from ..exporter.agreement import QUANTISED_TOLERANCE
from ..exporter.eight_bits import (
    EightBits,
    Quantised,
    bits_of,
    leave_in_float,
    quantise_layers,
)
from ..exporter.export import Exported, ExportOptions, export_onnx, float_parts
from ..exporter.quantise.float_layers import Progress
from ..exporter.quantise.plan import plan_of
from ..exporter.quantise.runtime_rules import ONNX_RUNTIME, RULES
from ..exporter.twin.fitting import fit_quantisers
from ..exporter.twin.twin import twin_of
from ..graph import trace
from ..options import Count, Natural, Positive, check_values
from ..policy import Policy
from ..policy.files import PolicyFile
from .class_names import class_names_of
from .cli import build_model
from .export_images import calibration_batches
from .input_shape import input_shape_of
from .policy_config import compress_config
from .policy_model import check_model_out, write_model
from .recipes import recipe_of


@dataclass(frozen=True)
class ExportRequest:
    """What is to be exported, and how.

    Args:
        out (str | Path): The file to write.
        policy (str | None): Policy file of a compressed network.
        shape (tuple[int, ...] | None): ``(C, H, W)`` of the preprocessed image.
            Defaults to that of the test pipeline.
        batch, dynamic_batch, boxes, runtime, float16: See :class:`ExportOptions`.
        images (int): Training images that set ranges. Defaults to 32.
        tolerance (float): See :func:`compare_quantised`.
        fit_steps (int): See :func:`fit_quantisers`. Defaults to 0: not fitted.
        model_out (str | Path | None): Policy file to write of the model that computes
            what the quantised file does.
        int8 (EightBits | None): Put a network in float into 8 bits.
        half_weights (bool): See :class:`ExportOptions`; with ``int8`` it is so.
            Defaults to False.
    """

    out: str | Path
    policy: str | None = None
    shape: tuple[Count, ...] | None = None
    batch: Count = 1
    dynamic_batch: bool = False
    boxes: bool = False
    runtime: Literal[tuple(RULES)] = ONNX_RUNTIME.name
    float16: bool = False
    images: Count = 32
    tolerance: Positive = QUANTISED_TOLERANCE
    fit_steps: Natural = 0
    model_out: str | Path | None = None
    int8: EightBits | None = None
    half_weights: bool = False

    def __post_init__(self) -> None:
        check_values('the export', type(self), vars(self))


@dataclass(frozen=True)
class ExportResult:
    """What was exported.

    Args:
        files (tuple[Exported, ...]): The files.
        quantised (bool): Whether they compute in integers.
        eight (Quantised | None): What was put into 8 bits.
        costs (Mapping[str, float]): Of the network in 8 bits.
    """

    files: tuple[Exported, ...]
    quantised: bool
    eight: Quantised | None = None
    costs: Mapping[str, float] = field(default_factory=dict)


def export_checkpoint(
    cfg: Config, checkpoint: str, request: ExportRequest,
    log: Callable[[str], object] = print,
    progress: Progress = lambda done, total: None,
) -> ExportResult:
    """Export the network of a checkpoint as ONNX.

    Args:
        cfg (Config): Config of the dense model; changed in place.
        checkpoint (str): The weights, dense or of the policy.
        request (ExportRequest): What to write.
        log (Callable): Receives lines on what was found. Defaults to printing.
        progress (Progress): Told about the search for layers that stay in float.

    Returns:
        ExportResult: What was written.

    Raises:
        ExportError: The model cannot be exported, or its file computes something else.
        CompressionError: An option or the weights do not fit.
    """
    int8, model_out = request.int8, request.model_out
    if model_out:
        check_model_out(model_out, request.policy or int8)
    shape, classes = request.shape or input_shape_of(cfg), class_names_of(cfg)
    traced_at = input_shape_of(cfg) if model_out else ()
    if request.policy:
        compress_config(cfg, request.policy, checkpoint)
    model, graph, batches = build_model(cfg, checkpoint), None, ()
    if int8 or plan_of(model):
        batches = calibration_batches(cfg, model, shape, request.images, request.batch)
    file = PolicyFile.load(request.policy) if request.policy else None
    if int8 and model_out and file is None:
        file = PolicyFile(Policy(), trace(model, traced_at).fingerprint, traced_at)
    if int8:
        if RULES[request.runtime].signed:
            int8 = replace(int8, symmetric=SIGNED)
        graph = quantise_layers(model, shape, batches, int8)
    options = ExportOptions(
        shape, request.batch, request.dynamic_batch, classes, _recipe(cfg, shape, log),
        [batch.inputs.cpu().numpy() for batch in batches], request.boxes,
        request.runtime, request.float16, request.half_weights or bool(int8),
        layout=bool(model_out or request.fit_steps),
        quantised_tolerance=request.tolerance)
    parts, eight, costs = float_parts(model, options), None, {}
    if int8:
        eight = leave_in_float(model, parts, options, int8, progress)
        costs = costs_of(graph, Policy(bits=bits_of(model)))
        file = file and replace(
            file, policy=Policy(file.policy.widths, bits_of(model)),
            facts={**file.facts, 'costs': costs})
        log(f'{eight}.')
    files = export_onnx(model, request.out, options, parts)
    if options.layout:
        files = _with_twin(model, files, options, request, file, classes, log)
    return ExportResult(tuple(files), bool(batches), eight, costs)


def _recipe(
    cfg: Config, shape: tuple[int, ...], log: Callable[[str], object]
) -> Recipe:
    """What the metadata say of the test pipeline; what they leave out is logged."""
    recipe = recipe_of(cfg, shape)
    if recipe.unclear:
        log('The metadata cannot say how images are prepared; tell the users of the '
            f'file about: {"; ".join(recipe.unclear)}.')
    return recipe


def _with_twin(
    model: nn.Module, files: Sequence[Exported], options: ExportOptions,
    request: ExportRequest, policy: PolicyFile | None, classes: Sequence[str],
    log: Callable[[str], object],
) -> Sequence[Exported]:
    """Fit the model that computes what the files do, and write it, where asked for."""
    layouts = [file.layout for file in files]
    twin = twin_of(model, layouts)
    if request.fit_steps:
        fit = fit_quantisers(
            twin, model, options.shape, options.images, request.fit_steps)
        log(f'Fitted: squared error over variance of the outputs {fit.before:.4f} '
            f'before, {fit.after:.4f} after, on the calibration images' +
            ('.' if fit.after < fit.before else ': not better, so nothing changed.'))
        files = export_onnx(twin, request.out, replace(options, layout=False))
    if request.model_out:
        write_model(twin, policy, request.model_out, classes)
        if lost := [name for layout in layouts for name in layout.lost]:
            log(f'{request.model_out} differs from the file, which quantises '
                f'{len(lost)} tensors that no module returns, e.g. {lost[0]}.')
    return files
