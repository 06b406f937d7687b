"""What a file must say about itself so that it can be used without the config."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import onnx_ir as ir

from ..errors import ExportError
from ..options import Count, Natural, fits, options_of, record

FORMAT = 'mmcompress.onnx'


def write_metadata(model: ir.Model, facts: Mapping[str, Any]) -> None:
    """Store facts as JSON in the file's ``metadata_props``, replacing older ones."""
    model.metadata_props.update(
        {key: json.dumps(value) for key, value in facts.items()})


def read_metadata(path: str | os.PathLike) -> dict[str, Any]:
    """The facts of an exported file.

    Raises:
        ExportError: Not there, or not written by mmcompress.
    """
    found = load_onnx(path).metadata_props
    try:
        facts = {key: json.loads(value) for key, value in found.items()
                 if key in options_of(Facts)}
        if facts.get('format') == FORMAT:
            record(Facts, facts, 'the metadata')
            _check_structure(facts['structure'])
    except (ValueError, TypeError, RecursionError) as error:
        raise ExportError(
            f'{path} is damaged ({error}); make it again with tools/export.py.'
        ) from error
    if facts.get('format') != FORMAT:
        raise ExportError(f'{path} was not written by tools/export.py of mmcompress.')
    return facts


def load_onnx(path: str | os.PathLike) -> ir.Model:
    """Read an ONNX file.

    Raises:
        ExportError: It is not there, or not ONNX.
    """
    if not Path(path).is_file():
        raise ExportError(
            f'There is no file {str(path)!r}; make it with tools/export.py.')
    try:
        return ir.load(path)
    except Exception as error:  # protobuf and onnx_ir have many of their own
        raise ExportError(
            f'{path} cannot be read as ONNX: {" ".join(str(error).split())}'
        ) from error


def _check_structure(value: Any) -> None:
    if isinstance(value, list):
        for item in value:
            _check_structure(item)
    elif not fits(value, Natural | None):
        raise ValueError('structure of the metadata numbers outputs')


@dataclass(frozen=True)
class Facts:
    """What mmcompress writes; other tools may add theirs.

    Args:
        format, version (str): Of the file.
        model (str): Class of the model.
        part (str): See :class:`.parts.Part`.
        structure (Any): See :func:`.parts.nest`.
        shape (Sequence[int]): Of an input, without its first axis.
        batch (int): Images per call, 0 for any number.
        preprocessing (Mapping): See
            :func:`mmcompress.data.preprocessing.preprocessing_facts`.
        classes (Sequence[str]): Their names.
        quantised (int): Layers in integers.
        outputs (Sequence): What every output is; see :class:`mmcompress.kinds.Piece`.
        decoding (Mapping): What turns raw outputs into predictions, likewise.
        boxes (Mapping): See :func:`.export.append_boxes`, if there are any.
    """

    format: str
    model: str
    part: str
    structure: Any
    shape: Sequence[Count]
    batch: Natural
    preprocessing: Mapping[str, Any] = field(default_factory=dict)
    classes: Sequence[str] = ()
    quantised: Natural = 0
    outputs: Sequence[Mapping[str, Any]] = ()
    decoding: Mapping[str, Any] = field(default_factory=dict)
    boxes: Mapping[str, Any] = field(default_factory=dict)
    version: str = ''
