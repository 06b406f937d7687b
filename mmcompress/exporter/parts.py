"""The pieces of a model that become files of their own."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ..errors import ExportError
from ..kinds import kind_of


@dataclass(frozen=True, eq=False)
class Part:
    """A piece of a model that runs as one file.

    Args:
        name (str): Appended to the name of the file; '' for the (first) network.
        network (FlatOutputs): Takes tensors, returns a tuple of tensors.
        inputs (tuple[Tensor, ...]): Random inputs of the right shapes.
        input_names (tuple[str, ...]): Their names.
        dynamic (bool): Whether the first axis may have any length.
        inputs_of (Callable): From images to what the network takes of them.
        outputs, decoding: See :class:`mmcompress.kinds.Piece`.
    """

    name: str
    network: FlatOutputs
    inputs: tuple[Tensor, ...]
    input_names: tuple[str, ...]
    dynamic: bool
    inputs_of: Callable[[Sequence[np.ndarray]], Sequence[np.ndarray]]
    outputs: Callable[[Any], Sequence[Mapping[str, Any]]]
    decoding: Mapping[str, Any]


class FlatOutputs(nn.Module):
    """Runs a function of a model and flattens what it returns.

    Args:
        model (nn.Module): Owner of the weights; its state-dict keys get the prefix
            ``model.`` here.
        function (Callable): ``function(model, *inputs)`` gives tensors in nested
            lists and tuples.
    """

    def __init__(self, model: nn.Module, function: Callable[..., Any]) -> None:
        super().__init__()
        self.model = model
        self._function = function

    def forward(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        """The tensors in the order in which they appear."""
        return tuple(flatten(self._function(self.model, *inputs)))

    def structure(self, *inputs: Tensor) -> Any:
        """How the tensors were nested: their numbers in nested lists."""
        with torch.no_grad():
            return number(self._function(self.model, *inputs))


def flatten(value: Any) -> list[Tensor]:
    """Tensors of nested lists and tuples, in order."""
    if isinstance(value, Tensor):
        return [value]
    if value is None:
        return []
    if not isinstance(value, (list, tuple)):
        raise ExportError(
            f'A network that returns {type(value).__name__} cannot be exported; '
            'outputs have to be tensors, lists or tuples.')
    return [tensor for item in value for tensor in flatten(item)]


def number(value: Any) -> Any:
    """Replace every tensor by its number in :func:`flatten`; JSON-ready."""
    count = iter(range(len(flatten(value))))

    def walk(item: Any) -> Any:
        if isinstance(item, (list, tuple)):
            return [walk(x) for x in item]
        return None if item is None else next(count)

    return walk(value)


def nest(structure: Any, tensors: list[Tensor]) -> Any:
    """Inverse of :func:`flatten`, with lists become tuples."""
    if isinstance(structure, list):
        return tuple(nest(item, tensors) for item in structure)
    return None if structure is None else tensors[structure]


def parts_of(
    model: nn.Module, shape: tuple[int, ...], batch: int = 1, dynamic: bool = False,
    boxes: bool = False,
) -> list[Part]:
    """The files that a model is exported to.

    Args:
        model (nn.Module): The model, on the CPU.
        shape (tuple[int, ...]): ``(C, H, W)`` of the preprocessed image.
        batch (int): Images per call. Defaults to 1.
        dynamic (bool): Whether the file takes any number of images. Defaults to False.
        boxes (bool): Whether boxes are decoded in the file; the model passes
            :meth:`mmcompress.kinds.ModelKind.check_boxes`. Defaults to False.

    Returns:
        list[Part]: The parts.

    Raises:
        ExportError: A kind of model that cannot be exported.
    """
    kind = kind_of(model)
    images = kind.images(model, shape, batch)
    return [
        Part(piece.name, FlatOutputs(model, piece.function), piece.inputs,
             piece.input_names, dynamic or piece.dynamic, piece.inputs_of,
             piece.outputs, piece.decoding)
        for piece in kind.pieces(model, images, boxes)]


def part_path(path: str | os.PathLike, name: str) -> Path:
    """File of a part: ``net.onnx``, ``net.roi_head.onnx``, ``net.mask_head.2.onnx``."""
    path = Path(path)
    return path.with_suffix(f'.{name}{path.suffix}') if name else path
