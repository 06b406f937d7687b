"""Detectors of two stages: proposals first, then heads on pooled regions."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ...errors import ExportError
from ...surgery.modes import in_float
from .inputs import is_detector

CALIBRATED = 64
"""Regions of an image, the best ones, that ranges are measured on."""

NAMES = dict(bbox='roi_head', mask='mask_head')
"""How the files of heads are called, by mmdet's prefix of their attributes."""


@dataclass(frozen=True, eq=False)
class RegionHead:
    """A head that computes something of every region.

    Args:
        name (str): Of its file; the stages of a cascade are numbered.
        attribute (str): Where it is in the detector's ``roi_head``.
        extractor (nn.Module): What pools its regions.
    """

    name: str
    attribute: str
    extractor: nn.Module

    @property
    def masks(self) -> bool:
        """Whether it predicts masks instead of boxes."""
        return self.attribute.startswith('mask')

    def of(self, model: nn.Module) -> nn.Module:
        """The head of a detector."""
        return model.roi_head.get_submodule(self.attribute)

    def outputs(self, model: nn.Module, pooled: Tensor) -> Any:
        """Scores and box deltas, or masks, of pooled regions ``(R, C, h, w)``."""
        if model.roi_head.with_shared_head:
            pooled = model.roi_head.shared_head(pooled)
        return self.of(model)(pooled)


def is_two_stage(model: nn.Module) -> bool:
    """Whether a model is a Faster, Mask or Cascade R-CNN.

    Other heads may do more with regions than pool them and run a network.
    """
    if not is_detector(model):
        return False
    from mmdet.models.detectors import TwoStageDetector
    from mmdet.models.roi_heads import (
        CascadeRoIHead,
        DynamicRoIHead,
        StandardRoIHead,
    )

    return (isinstance(model, TwoStageDetector) and model.with_rpn and
            type(model.roi_head) in (StandardRoIHead, DynamicRoIHead, CascadeRoIHead))


def region_heads(model: nn.Module) -> list[RegionHead]:
    """The heads of a detector of two stages, each a file of its own."""
    found = []
    for kind, name in NAMES.items():
        head = getattr(model.roi_head, f'{kind}_head', None)
        extractor = getattr(model.roi_head, f'{kind}_roi_extractor', None)
        if isinstance(head, nn.ModuleList):
            found += [RegionHead(f'{name}.{i}', f'{kind}_head.{i}', extractor[i])
                      for i in range(len(head))]
        elif head is not None:
            found.append(RegionHead(name, f'{kind}_head', extractor))
    return found


def proposing_outputs(model: nn.Module, images: Tensor) -> Any:
    """Features of all levels, and the outputs of the RPN."""
    features = model.extract_feat(images)
    return features, model.rpn_head(features)


class Regions:
    """Pooled features of the regions that a model proposes, in float.

    All heads get proposals, also those of a cascade and of masks, which would run on
    refined boxes.

    Args:
        model (nn.Module): A detector of two stages in evaluation mode.
    """

    def __init__(self, model: nn.Module) -> None:
        self.model = model
        self._images: Sequence[np.ndarray] | None = None
        self._pooled: dict[str, list[np.ndarray]] = {}

    def inputs_of(
        self, head: RegionHead
    ) -> Callable[[Sequence[np.ndarray]], list[np.ndarray]]:
        """The function from images, ``(N, C, H, W)`` each, to what a head takes.

        For each image with a proposal it returns ``(R, C', h, w)`` with R up to
        :data:`CALIBRATED` times N. It raises an :class:`ExportError` if no region was
        proposed on any image.
        """
        def pooled(images: Sequence[np.ndarray]) -> list[np.ndarray]:
            if images is not self._images:  # once for all heads
                self._images, self._pooled = images, self._pool(images)
            return self._pooled[head.name]

        return pooled

    @torch.no_grad()
    def _pool(self, images: Sequence[np.ndarray]) -> dict[str, list[np.ndarray]]:
        from mmdet.structures import DetDataSample
        from mmdet.structures.bbox import bbox2roi

        model, heads = self.model, region_heads(self.model)
        found: dict[str, list[np.ndarray]] = {head.name: [] for head in heads}
        with in_float(model):
            for image in images:
                size = image.shape[2:]
                samples = [DetDataSample(metainfo=dict(
                    img_shape=size, ori_shape=size, scale_factor=(1.0, 1.0)))
                    for _ in image]
                features = model.extract_feat(torch.from_numpy(image))
                boxes = [x.bboxes[:CALIBRATED] for x in model.rpn_head.predict(
                    features, samples, rescale=False)]
                for head in heads if sum(map(len, boxes)) else ():
                    levels = features[:head.extractor.num_inputs]
                    found[head.name].append(
                        head.extractor(levels, bbox2roi(boxes)).numpy())
        if not all(found.values()):
            raise ExportError(
                'The model proposes no region on the images; lower the thresholds of '
                'test_cfg.rpn or take other images.')
        return found


class Proposals:
    """What a file computes of images for both stages of a detector.

    Args:
        network (Callable): Gives features and the outputs of the RPN.
    """

    def __init__(self, network: Callable[[Tensor], Any]) -> None:
        self.network, self._outputs = network, None

    def features(self, images: Tensor) -> tuple[Tensor, ...]:
        """Features of all levels; the RPN's outputs are kept for :meth:`rpn`."""
        features, self._outputs = self.network(images)
        return features

    def rpn(self, _: tuple[Tensor, ...]) -> tuple:
        """Outputs of the RPN on the images of the last call."""
        return self._outputs
