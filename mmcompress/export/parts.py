"""The pieces of a model that become files of their own."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mmengine.model import BaseModel
from torch import Tensor, nn

from ..errors import ExportError
from ..openmmlab.detectors.inputs import is_detector
from ..openmmlab.detectors.regions import (
    Regions,
    is_two_stage,
    proposing_outputs,
    region_heads,
)

IMAGE = 'image'
"""Name of the input that takes preprocessed images, ``(N, C, H, W)``."""

REGIONS = 'regions'
"""Name of the input that takes pooled features of regions, ``(R, C, h, w)``."""


@dataclass(frozen=True, eq=False)
class Part:
    """A piece of a model that runs as one file.

    Args:
        name (str): Appended to the name of the file; '' for the (first) network.
        network (nn.Module): Takes tensors, returns a tuple of tensors.
        inputs (tuple[Tensor, ...]): Random inputs of the right shapes.
        input_names (tuple[str, ...]): Their names.
        dynamic (bool): Whether the first axis may have any length.
        inputs_of (Callable): From images to what the network takes of them. Defaults
            to the images.
    """

    name: str
    network: FlatOutputs
    inputs: tuple[Tensor, ...]
    input_names: tuple[str, ...]
    dynamic: bool = False
    inputs_of: Callable[[Sequence[np.ndarray]], Sequence[np.ndarray]] = \
        lambda images: images


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


def head_of(model: nn.Module) -> nn.Module:
    """The head whose outputs end the network: everything after it is arithmetic.

    Raises:
        ExportError: Not a one-stage detector or an image classifier.
    """
    if is_detector(model):
        from mmdet.models.detectors import SingleStageDetector

        if type(model).__dict__.get('predict', SingleStageDetector.predict) is \
                SingleStageDetector.predict and isinstance(model, SingleStageDetector):
            return model.bbox_head
    elif isinstance(model, classifier_class()) and model.with_head:
        return model.head
    raise ExportError(
        f'{type(model).__name__} cannot be exported; one-stage detectors, Faster, '
        'Mask and Cascade R-CNNs of mmdet and image classifiers of mmpretrain can.')


def classifier_class() -> type | tuple:
    """mmpretrain's image classifier, without importing mmpretrain."""
    module = sys.modules.get('mmpretrain.models.classifiers.image')
    return getattr(module, 'ImageClassifier', ())


def random_images(model: nn.Module, shape: tuple[int, ...], batch: int) -> Tensor:
    """Images as the data preprocessor would give them, uniformly random.

    Args:
        model (nn.Module): Its preprocessor's mean and std set the range.
        shape (tuple[int, ...]): ``(C, H, W)``.
        batch (int): Number of images.
    """
    generator = torch.Generator().manual_seed(0)
    images = torch.rand((batch, *shape), generator=generator) * 255
    if isinstance(model, BaseModel) and hasattr(model.data_preprocessor, 'mean'):
        loader = model.data_preprocessor
        images = (images - loader.mean.cpu()) / loader.std.cpu()
    return images


def parts_of(
    model: nn.Module, shape: tuple[int, ...], batch: int = 1, dynamic: bool = False,
    function: Callable[..., Any] | None = None,
) -> list[Part]:
    """The files that a model is exported to.

    Args:
        model (nn.Module): A detector or classifier on the CPU.
        shape (tuple[int, ...]): ``(C, H, W)`` of the preprocessed image.
        batch (int): Images per call.
        dynamic (bool): Whether the file takes any number of images.
        function (Callable | None): What the network of one stage computes; see
            :class:`FlatOutputs`. Defaults to :func:`raw_outputs`.

    Returns:
        list[Part]: The parts.

    Raises:
        ExportError: A kind of model that cannot be exported.
    """
    images = random_images(model, shape, batch)
    if not is_two_stage(model):
        head_of(model)
        network = FlatOutputs(model, function or raw_outputs)
        return [Part('', network, (images,), (IMAGE,), dynamic)]
    parts = [
        Part('', FlatOutputs(model, proposing_outputs), (images,), (IMAGE,), dynamic)]
    regions, example = Regions(model), [images[:1].numpy()]
    for head in region_heads(model):
        inputs_of = regions.inputs_of(head)
        pooled = torch.from_numpy(inputs_of(example)[0][:2])
        parts.append(Part(
            head.name, FlatOutputs(model, head.outputs), (pooled,), (REGIONS,), True,
            inputs_of))
    return parts


def part_path(path: str | os.PathLike, name: str) -> Path:
    """File of a part: ``net.onnx``, ``net.roi_head.onnx``, ``net.mask_head.2.onnx``."""
    path = Path(path)
    return path.with_suffix(f'.{name}{path.suffix}') if name else path


def raw_outputs(model: nn.Module, images: Tensor) -> Any:
    """Head outputs of a one-stage detector or scores of a classifier."""
    return head_of(model)(model.extract_feat(images))
