"""Writing a network as an ONNX file."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ..data.images import Batch
from ..data.items import read_batches
from ..exporter.export import ExportOptions, export_onnx
from ..options import Count, checking


@checking
def export(
    model: nn.Module,
    path: str | Path,
    shape: Sequence[Count],
    *,
    calibration: Iterable = (),
    images: Count = 32,
    classes: Sequence[str] = (),
    **options: Any,
) -> list[Path]:
    """Write a network as an ONNX file, quantised layers in integers, and compare it.

    Args:
        model: Any network that runs on images alone, e.g. ``family['macs_0.5'].model``.
        path: The file: ``'slim.onnx'``. A detector of two stages becomes several.
        shape: ``(C, H, W)`` of an image: ``shape=(3, 224, 224)``.
        calibration: Batches without labels, for what lies between quantised layers:
            ``calibration=loader``.
        images: How many of them are used: ``images=64``.
        classes: Names for the file's metadata: ``classes=['cat', 'dog']``.
        options: Further fields of
            :class:`~mmcompress.exporter.export.ExportOptions`: ``dynamic_batch=True``.

    Returns:
        list[Path]: The files. Each was run in ONNX Runtime and agrees with the model.

    Raises:
        ExportError: The model cannot be exported, or its file computes something else.

    Example:
        >>> mmc.export(slim, 'slim.onnx', shape=(3, 224, 224))
        [PosixPath('slim.onnx')]
    """
    found = read_batches(calibration, torch.device('cpu'), images)
    files = export_onnx(model.cpu(), path, ExportOptions(
        tuple(shape), classes=classes, images=single_images(found, images), **options))
    return [file.path for file in files]


def single_images(batches: Sequence[Batch], count: int) -> list[np.ndarray]:
    """The first images of some batches, each of shape ``(1, C, H, W)``."""
    rows: list[Tensor] = [row for batch in batches for row in batch.inputs.split(1)]
    return [row.cpu().numpy() for row in rows[:count]]
