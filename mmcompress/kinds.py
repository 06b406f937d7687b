"""What a model is: how it runs, learns and predicts, and which files it becomes.

The core asks these questions through :func:`kind_of` and never looks at the class of
a model or of a head. A plain module is a :class:`ModelKind`; the kinds of OpenMMLab
live in :mod:`mmcompress.openmmlab.kinds`, others are added by :func:`register_kind`.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from importlib import import_module
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from .data.images import Batch
from .data.preprocessing import Normalisation
from .errors import CompressionError, ExportError
from .surgery.copies import Notes, notes_on_models

IMAGE = 'image'
"""Name of the input that takes preprocessed images, ``(N, C, H, W)``."""

HEADS = ('head', 'bbox_head', 'rpn_head')
"""Attributes in which models keep what returns raw predictions."""


@dataclass(frozen=True)
class Suppression:
    """What follows the decoded boxes of a detector.

    Args:
        iou (float): Boxes of a class that overlap more are one.
        score (float): Lower scores do not count.
        limit (int | None): Boxes that are kept of an image. Defaults to None: all.
        clipped (bool): Whether boxes end at the border of the image.
        threshold (float): Class scores up to this are 0 since
            :meth:`ModelKind.decode`, before any factor. Defaults to 0.
    """

    iou: float
    score: float = 0.0
    limit: int | None = None
    clipped: bool = False
    threshold: float = 0.0


@dataclass(frozen=True, eq=False)
class Piece:
    """A part of a model that is exported as a file of its own.

    Args:
        name (str): Appended to the name of the file; '' for the (first) network.
        function (Callable): ``function(model, *inputs)`` gives tensors in nested lists
            and tuples.
        inputs (tuple[Tensor, ...]): Random inputs of the right shapes.
        input_names (tuple[str, ...]): Their names.
        dynamic (bool): Whether the first axis has another length in every call.
        inputs_of (Callable): From images to what the part takes of them. Defaults to
            the images.
        outputs (Callable): From the nesting of what the function gives, with numbers
            for tensors, to a dict for every tensor: its ``role``, the ``activation``
            that is yet to be applied, and its ``stride`` if it is a map. Defaults to
            none: unknown.
        decoding (Mapping): What turns the outputs into predictions, as plain data.
            Defaults to nothing.
    """

    name: str
    function: Callable[..., Any]
    inputs: tuple[Tensor, ...]
    input_names: tuple[str, ...] = (IMAGE,)
    dynamic: bool = False
    inputs_of: Callable[[Sequence[np.ndarray]], Sequence[np.ndarray]] = \
        lambda images: images
    outputs: Callable[[Any], Sequence[Mapping[str, Any]]] = lambda structure: ()
    decoding: Mapping[str, Any] = field(default_factory=dict)


class ModelKind:
    """A plain module: its forward pass takes images and returns tensors.

    To add a kind, derive from this class, or from the kind that yours refines; say in
    :meth:`fits` which models are of it; override what differs; register an instance.
    A kind keeps nothing of a model: every method is given the model, which may be
    dense, act as a policy, or be slim.
    """

    def fits(self, model: nn.Module) -> bool:
        """Whether ``model`` is of this kind."""
        return isinstance(model, nn.Module)

    # -- running ---------------------------------------------------------------------
    def example(
        self, model: nn.Module, shape: tuple[int, ...], seed: int = 0,
        regions: int | None = None,
    ) -> Batch:
        """One random image, and whatever else a forward pass needs.

        Args:
            model (nn.Module): The model; decides precision and device.
            shape (tuple[int, ...]): ``(C, H, W)`` of the image.
            seed (int): Seed of the image. Defaults to 0.
            regions (int | None): Regions of a model that takes them from outside.
                Defaults to as many as it has when testing.
        """
        generator = torch.Generator().manual_seed(seed)
        image = torch.randn((1, *shape), generator=generator)
        first = next(model.parameters(), None)
        return self.batch(model, image if first is None else image.to(first), regions)

    def examples(
        self, model: nn.Module, shape: tuple[int, ...], count: int
    ) -> Tensor:
        """Different random images, ``(count, C, H, W)``, each as :meth:`example`'s."""
        return torch.cat([self.example(model, shape, seed).inputs
                          for seed in range(count)])

    def batch(
        self, model: nn.Module, images: Tensor, regions: int | None = None
    ) -> Batch:
        """Preprocessed images, and whatever else a forward pass needs.

        Args:
            model (nn.Module): The model.
            images (Tensor): ``(N, C, H, W)``, of which nothing else is known.
            regions (int | None): See :meth:`example`.
        """
        return Batch(images, [])

    def fixed_regions(
        self, model: nn.Module, shape: tuple[int, ...], number: int | None = None
    ) -> AbstractContextManager[list]:
        """A block in which the model looks at the same regions, whatever its weights.

        Args:
            model (nn.Module): The model.
            shape (tuple[int, ...]): ``(C, H, W)`` of the image.
            number (int | None): Regions per image. Defaults to as many as the model
                has when testing.

        Returns:
            AbstractContextManager[list]: Gives a list that receives the outputs of
            what would have chosen the regions.
        """
        return nullcontext([])

    def raw(self, model: nn.Module, batch: Batch) -> Any:
        """Raw outputs for a batch: no post-processing, no loss."""
        return model(batch.inputs)

    def loss(self, model: nn.Module, batch: Batch) -> Tensor:
        """The loss that the model is trained with, the mean over the batch.

        Raises:
            CompressionError: The kind knows no loss.
        """
        raise CompressionError(
            f'{type(model).__name__} has no loss of its own; choose a metric, prices '
            'and an importance that need none, or register a ModelKind with a loss.')

    def annotated(
        self, model: nn.Module, shape: tuple[int, ...], count: int = 1
    ) -> Batch:
        """Random images with invented annotations, which :meth:`loss` takes.

        They follow from the model alone, so that a network is traced in the same way
        wherever it is built.

        Args:
            model (nn.Module): The model; decides precision and device.
            shape (tuple[int, ...]): ``(C, H, W)`` of the images.
            count (int): Number of images. Defaults to 1.

        Raises:
            CompressionError: The kind does not know what its loss takes.
        """
        raise CompressionError(
            f'What the loss of {type(model).__name__} takes is not known, so its '
            'training cannot be followed; register a ModelKind with annotated().')

    def predict(self, model: nn.Module, batch: Batch) -> Any:
        """Predictions for a batch, after post-processing."""
        return self.raw(model, batch)

    # -- structure -------------------------------------------------------------------
    def heads(self, model: nn.Module) -> tuple[str, ...]:
        """Paths of the modules that return raw predictions; none if unknown."""
        return tuple(path for path in HEADS
                     if isinstance(getattr(model, path, None), nn.Module))

    # -- detections ------------------------------------------------------------------
    def can_decode(self, model: nn.Module) -> bool:
        """Whether :meth:`decode` gives the boxes of this model."""
        return False

    def decode(
        self, model: nn.Module, images: Tensor, outputs: Any
    ) -> tuple[Tensor, Tensor]:
        """Boxes and scores of all priors from the raw outputs.

        Args:
            model (nn.Module): A model of which :meth:`can_decode` is true.
            images (Tensor): ``(1, C, H, W)``.
            outputs (Any): The raw outputs for this image.

        Returns:
            tuple[Tensor, Tensor]: ``(1, P, 4)`` corners in pixels and ``(1, K, P)``
            scores of K classes, 0 where the model drops the class of a prior before
            the suppression.
        """
        raise NotImplementedError(f'{type(model).__name__} has no boxes')

    # -- files -----------------------------------------------------------------------
    def normalisation(self, model: nn.Module) -> Normalisation | None:
        """What the model does to the pixels of an image; None if unknown."""
        return None

    def images(self, model: nn.Module, shape: tuple[int, ...], count: int) -> Tensor:
        """Random images as they are after preprocessing, ``(count, C, H, W)``."""
        return torch.randn(
            (count, *shape), generator=torch.Generator().manual_seed(0))

    def pieces(
        self, model: nn.Module, images: Tensor, boxes: bool = False
    ) -> list[Piece]:
        """The files that the model is exported to.

        Args:
            model (nn.Module): The model, on the CPU.
            images (Tensor): Of :meth:`images`.
            boxes (bool): Whether boxes are decoded in the file; see
                :meth:`check_boxes`. Defaults to False.

        Raises:
            ExportError: The kind cannot be exported.
        """
        return [Piece('', lambda module, inputs: module(inputs), (images,))]

    def check_boxes(self, model: nn.Module) -> None:
        """Raise :class:`ExportError` if the boxes cannot be decoded in a file."""
        raise ExportError(
            f'Boxes of {type(model).__name__} cannot be baked into the file, those of '
            "YOLOXHead and of heads that decode as mmdet's BaseDenseHead or GFLHead "
            'can; export without --boxes.')

    def suppression(self, model: nn.Module) -> Suppression:
        """What follows the boxes of a model that passes :meth:`check_boxes`."""
        raise NotImplementedError(f'{type(model).__name__} has no boxes')


_REGISTERED: list[ModelKind] = []
_DECLARED: Notes = notes_on_models()


def register_kind(kind: ModelKind) -> ModelKind:
    """Let :func:`kind_of` find a kind; the one registered last is asked first."""
    _REGISTERED.append(kind)
    return kind


def declare_kind(model: nn.Module, kind: ModelKind) -> None:
    """Say what one model is, whatever registered kinds fit it.

    Nothing is written on the model. Its copies by
    :func:`mmcompress.surgery.copies.copy_of` are of the same kind.
    """
    _DECLARED[model] = kind


def kind_of(model: nn.Module) -> ModelKind:
    """The most special kind that fits a model; for a plain module :class:`ModelKind`.

    A kind that was declared for the model comes first, then registered ones, then
    those of OpenMMLab. The latter are imported by name, and only if somebody has
    loaded mmengine's models: without these no model can be one of OpenMMLab.
    """
    declared = _DECLARED.get(model)
    return declared or next(kind for kind in _known() if kind.fits(model))


def _known() -> Iterator[ModelKind]:
    yield from reversed(_REGISTERED)
    if 'mmengine.model' in sys.modules:
        yield from import_module('mmcompress.openmmlab.kinds').KINDS
    yield ModelKind()
