"""Feeding a model one image without data, weights or a configuration."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from mmengine.model import BaseModel
from torch import Tensor, nn

PROPOSALS = 1000
"""Boxes per image that RoI heads are counted with unless the model says so."""


def is_detector(model: nn.Module) -> bool:
    """Whether ``model`` is an mmdet detector (without importing mmdet)."""
    base = getattr(sys.modules.get('mmdet.models.detectors.base'), 'BaseDetector', ())
    return isinstance(model, base)


def make_forward(model: nn.Module, shape: tuple[int, ...], seed: int = 0
                 ) -> Callable[[], Any]:
    """A closure that runs the whole network on one random image.

    Args:
        model (nn.Module): An mmdet detector, an mmpretrain classifier or any
            module that takes an image tensor.
        shape (tuple[int, ...]): ``(C, H, W)`` of the image.
        seed (int): Seed of the image.

    Returns:
        Callable: Returns the raw outputs (``mode='tensor'``): backbone, neck and
        heads, without post-processing.
    """
    generator = torch.Generator().manual_seed(seed)
    image = torch.randn((1, *shape), generator=generator)
    first = next(model.parameters(), None)
    if first is not None:
        image = image.to(first)
    if is_detector(model):
        from mmdet.structures import DetDataSample

        height, width = shape[-2:]
        meta = dict(
            img_shape=(height, width), ori_shape=(height, width),
            pad_shape=(height, width), batch_input_shape=(height, width),
            scale_factor=(1.0, 1.0), img_id=0)
        samples = [DetDataSample(metainfo=meta)]
        return lambda: model(image, samples, mode='tensor')
    if isinstance(model, BaseModel):
        return lambda: model(image, mode='tensor')
    return lambda: model(image)


@contextmanager
def fixed_proposals(
    model: nn.Module, shape: tuple[int, ...], number: int | None = None
) -> Iterator[list]:
    """Make the RPN of a two-stage detector propose the same boxes always.

    Which boxes survive depends on rounding, so two equal networks would be
    compared on different regions, and the cost would depend on the weights. The
    RPN still runs; its raw outputs are put into the list that is yielded.

    Args:
        model (nn.Module): Any model; one without an RPN is left alone.
        shape (tuple[int, ...]): ``(C, H, W)`` of the image.
        number (int | None): Boxes per image. Defaults to what the model keeps when
            testing.
    """
    rpn = getattr(model, 'rpn_head', None)
    seen: list = []
    if rpn is None or not hasattr(rpn, 'predict'):
        yield seen
        return
    from mmengine.structures import InstanceData

    test_cfg = getattr(model, 'test_cfg', None) or {}
    number = number or (test_cfg.get('rpn') or {}).get('max_per_img', PROPOSALS)
    height, width = shape[-2:]
    generator = torch.Generator().manual_seed(0)
    corners = torch.rand((2, number, 2), generator=generator).sort(dim=0).values
    corners[1] = torch.maximum(corners[1], corners[0] + 0.05)
    boxes = corners.permute(1, 0, 2).reshape(number, 4)
    boxes = boxes * torch.tensor([width, height, width, height])

    def predict(feats: tuple[Tensor, ...], samples: list, rescale: bool = False
                ) -> list[InstanceData]:
        seen.append(rpn(feats))
        device = feats[0].device
        return [InstanceData(
            bboxes=boxes.to(device), scores=torch.ones(number, device=device),
            labels=torch.zeros(number, dtype=torch.long, device=device),
        ) for _ in samples]

    rpn.predict = predict
    try:
        yield seen
    finally:
        del rpn.predict
