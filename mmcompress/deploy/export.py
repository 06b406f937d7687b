"""From a model to ONNX files that were compared with it."""

from __future__ import annotations

import contextlib
import io
import logging
import os
import tempfile
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
import torch
from torch import Tensor, nn

from .. import __version__
from ..errors import ExportError
from .metadata import FORMAT, preprocessing_of, write_metadata
from .parts import Part, parts_of
from .runtimes import OnnxRuntime

OPSET = 21
"""The first opset with 4-bit integers."""

TOLERANCE = 1e-3
"""Largest difference from the model, relative to the largest output, in float."""


@dataclass(frozen=True)
class Exported:
    """A file that was written.

    Args:
        path (Path): Where it is.
        error (float): Largest absolute difference from the model's outputs on a
            random input, relative to their largest magnitude.
        size (int): Bytes.
    """

    path: Path
    error: float
    size: int


def export_onnx(
    model: nn.Module,
    path: str | os.PathLike,
    shape: tuple[int, ...],
    batch: int = 1,
    dynamic_batch: bool = False,
    classes: Sequence[str] = (),
    tolerance: float = TOLERANCE,
) -> list[Exported]:
    """Export a model in float, from preprocessed images to raw outputs.

    Batch norms are folded into convolutions. A two-stage detector becomes several
    files; the names of the further ones are derived from ``path``.

    Args:
        model (nn.Module): A detector of mmdet or a classifier of mmpretrain.
        path (str | os.PathLike): The file to write.
        shape (tuple[int, ...]): ``(C, H, W)`` of the preprocessed image.
        batch (int): Images per call. Defaults to 1.
        dynamic_batch (bool): Take any number of images. Defaults to False.
        classes (Sequence[str]): Names of the classes, for the metadata.
        tolerance (float): See :data:`TOLERANCE`.

    Returns:
        list[Exported]: The files, which appear complete or not at all.

    Raises:
        ExportError: A model of another kind, or one whose file computes something
            else.
    """
    with evaluating(model):
        exported = []
        for part in parts_of(model, shape, batch, dynamic_batch):
            proto = to_proto(part)
            describe(proto, part, model, shape, classes)
            error = compare(proto, part, tolerance)
            exported.append(write(proto, part_path(path, part.name), error))
    return exported


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
    with quiet(), torch.no_grad():
        program = torch.onnx.export(
            part.network, inputs, dynamo=True, opset_version=OPSET, verbose=False,
            input_names=list(part.input_names), dynamic_shapes=dynamic,
            output_names=[f'output_{i}' for i in range(count)])
    proto = program.model_proto
    write_metadata(proto, dict(structure=structure))
    return proto


def _leaves(structure: object) -> list[int]:
    if isinstance(structure, list):
        return [leaf for item in structure for leaf in _leaves(item)]
    return [] if structure is None else [structure]


def describe(
    proto: onnx.ModelProto, part: Part, model: nn.Module, shape: Sequence[int],
    classes: Sequence[str],
) -> None:
    """Add the facts that running the file needs; see :mod:`.metadata`."""
    write_metadata(proto, dict(
        format=FORMAT, version=__version__, model=type(model).__name__,
        part=part.name, shape=list(shape),
        batch=0 if part.dynamic else len(part.inputs[0]),
        preprocessing=preprocessing_of(model), classes=list(classes)))
    onnx.checker.check_model(proto, full_check=True)


def compare(proto: onnx.ModelProto, part: Part, tolerance: float) -> float:
    """Largest relative difference between a file and its network.

    Raises:
        ExportError: It exceeds ``tolerance``.
    """
    with torch.no_grad():
        wanted = [x.numpy() for x in part.network(*part.inputs)]
    got = OnnxRuntime(proto.SerializeToString())(*map(Tensor.numpy, part.inputs))
    error = max(relative_error(a, b) for a, b in zip(got, wanted))
    if not error <= tolerance:
        raise ExportError(
            f'The exported {part.name or "network"} differs from the model by '
            f'{error:.2g} of its largest output (tolerance {tolerance:.2g}); nothing '
            'was written.')
    return error


def relative_error(got: np.ndarray, wanted: np.ndarray) -> float:
    """``max |got - wanted| / max |wanted|``; infinite for another shape."""
    if got.shape != wanted.shape:
        return float('inf')
    if not wanted.size:
        return 0.0
    scale = max(float(np.abs(wanted).max()), 1e-12)
    return float(np.abs(got - wanted).max()) / scale


def part_path(path: str | os.PathLike, name: str) -> Path:
    """File of a part: ``net.onnx``, ``net.bbox_head.onnx``, ..."""
    path = Path(path)
    return path.with_suffix(f'.{name}{path.suffix}') if name else path


def write(proto: onnx.ModelProto, path: Path, error: float) -> Exported:
    """Write a file under a temporary name, then rename it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    data = proto.SerializeToString()
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f'.{path.name}.')
    try:
        with os.fdopen(handle, 'wb') as file:
            file.write(data)
        os.chmod(temporary, 0o644)
        os.replace(temporary, path)
    except BaseException:
        os.unlink(temporary)
        raise
    return Exported(path, error, len(data))


@contextlib.contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """The model in evaluation mode; every module's own mode afterwards."""
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        yield
    finally:
        for module, mode in modes:
            module.training = mode


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Keep the exporter's progress and notices, which no user can act on, away."""
    loggers = [logging.getLogger(n) for n in ('torch.onnx', 'onnxscript', 'onnx_ir')]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter('ignore')
            yield
    finally:
        for logger, level in zip(loggers, levels):
            logger.setLevel(level)
