"""What a file must say about itself so that it can be used without the config."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import onnx_ir as ir
from google.protobuf.message import DecodeError
from torch import nn

from ..errors import ExportError

FORMAT = 'mmcompress.onnx'


def preprocessing_of(model: nn.Module) -> dict:
    """What the data preprocessor does to an image, as plain data.

    Args:
        model (nn.Module): A model of mmengine.

    Returns:
        dict: ``mean`` and ``std`` by channel (0 and 1 where images are not
        normalised), ``channel_order`` that the network expects of an image that
        was read as BGR, ``pad_size_divisor`` and ``pad_value``.
    """
    loader = getattr(model, 'data_preprocessor', None)
    mean, std = getattr(loader, 'mean', None), getattr(loader, 'std', None)
    swaps = getattr(loader, '_channel_conversion', getattr(loader, 'to_rgb', False))
    return dict(
        mean=[0.0] * 3 if mean is None else mean.flatten().tolist(),
        std=[1.0] * 3 if std is None else std.flatten().tolist(),
        channel_order='swapped' if swaps else 'as read',
        pad_size_divisor=getattr(loader, 'pad_size_divisor', 1),
        pad_value=getattr(loader, 'pad_value', 0))


def write_metadata(model: ir.Model, facts: Mapping[str, Any]) -> None:
    """Store facts as JSON in the file's ``metadata_props``, replacing older ones."""
    model.metadata_props.update(
        {key: json.dumps(value) for key, value in facts.items()})


def read_metadata(path: str | os.PathLike) -> dict[str, Any]:
    """The facts of an exported file.

    Raises:
        ExportError: Not there, or not written by mmcompress.
    """
    if not Path(path).is_file():
        raise ExportError(
            f'There is no file {str(path)!r}; make it with tools/export.py.')
    try:
        found = ir.load(path).metadata_props
    except DecodeError as error:
        raise ExportError(f'{path} cannot be read as ONNX: {error}') from error
    if 'format' not in found or json.loads(found['format']) != FORMAT:
        raise ExportError(f'{path} was not written by tools/export.py of mmcompress.')
    return {key: json.loads(value) for key, value in found.items()
            if key in FACTS}


FACTS: Sequence[str] = (
    'format', 'model', 'part', 'structure', 'shape', 'batch', 'preprocessing',
    'classes', 'quantised', 'boxes', 'version')
"""Keys that mmcompress writes; other tools may add theirs."""
