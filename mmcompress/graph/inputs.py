"""Feeding a model one image without data, weights or a configuration."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from mmengine.model import BaseModel
from torch import Tensor, nn

from ..openmmlab.detectors.inputs import (
    detector_forward,
    fixed_regions,
    is_detector,
    is_tracker,
    tracker_forward,
)

FEW = 8
"""Boxes per image for a RoI head whose cost does not matter."""


def make_forward(
    model: nn.Module, shape: tuple[int, ...], seed: int = 0, boxes: int | None = None
) -> Callable[[], Any]:
    """A closure that runs the whole network on one random image.

    Args:
        model (nn.Module): An mmdet detector or tracker, an mmpretrain classifier or
            any module that takes an image tensor.
        shape (tuple[int, ...]): ``(C, H, W)`` of the image.
        seed (int): Seed of the image.
        boxes (int | None): Proposals of a detector that has no RPN. Defaults to what
            the model keeps when testing.

    Returns:
        Callable: Returns the raw outputs (``mode='tensor'``): backbone, neck and
        heads, without post-processing.
    """
    image = random_image(model, shape, seed)
    if is_detector(model):
        return detector_forward(model, image, boxes)
    if is_tracker(model):
        return tracker_forward(model, image, boxes)
    if isinstance(model, BaseModel):
        return lambda: model(image, mode='tensor')
    return lambda: model(image)


def random_image(model: nn.Module, shape: tuple[int, ...], seed: int = 0) -> Tensor:
    """Noise of shape ``(1, C, H, W)``, in the precision of ``model``."""
    generator = torch.Generator().manual_seed(seed)
    image = torch.randn((1, *shape), generator=generator)
    first = next(model.parameters(), None)
    return image if first is None else image.to(first)


def run(model: nn.Module, shape: tuple[int, ...], boxes: int | None = FEW) -> Any:
    """Raw outputs of the whole network on one random image, the same ones always.

    Args:
        model (nn.Module): See :func:`make_forward`.
        shape (tuple[int, ...]): ``(C, H, W)`` of the image.
        boxes (int | None): Boxes per image of a RoI head; None for as many as the model
            keeps when testing.
    """
    with fixed_regions(model, shape, boxes) as rpn_outputs:
        outputs = make_forward(model, shape, boxes=boxes)()
    return outputs, rpn_outputs
