"""Invented annotations, so that losses can be computed without data."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ..errors import CompressionError
from .detectors.inputs import class_of, detector_samples, one_object

UNKNOWN = (
    ('detectors.semi_base', 'SemiBaseDetector', 'labelled and unlabelled images'),
    ('detectors.boxinst', 'BoxInst', 'similarities of the colours of pixels'),
)
"""Detectors whose loss takes what is not made up here: module, class, what."""


def annotated_samples(model: nn.Module, image: Tensor) -> list:
    """What a detector is told about an image in training: one object, all background.

    Args:
        model (nn.Module): The detector.
        image (Tensor): The preprocessed image, ``(1, 3, H, W)``.

    Raises:
        CompressionError: The loss of the detector takes something else.
    """
    for module, name, what in UNKNOWN:
        if isinstance(model, class_of(module, name)):
            raise CompressionError(
                f'The loss of {type(model).__name__} takes {what}, which are not '
                'invented for tracing.')
    from mmengine.structures import PixelData

    samples = detector_samples(model, image)
    size = image.shape[-2:]
    for sample in samples:
        sample.gt_instances = one_object(size, image)
        if not predicts_masks(model):  # some losses make another use of them
            del sample.gt_instances.masks
        sample.gt_sem_seg = PixelData(sem_seg=torch.zeros(
            (1, *size), dtype=torch.long, device=image.device))
    return samples


def predicts_masks(model: nn.Module) -> bool:
    """Whether a detector is trained on masks."""
    inside = class_of('dense_heads.rtmdet_ins_head', 'RTMDetInsHead')
    return (model.with_mask or hasattr(model, 'panoptic_head')
            or isinstance(getattr(model, 'bbox_head', None), inside))


def labelled(model: nn.Module, count: int) -> list:
    """Samples of so many images of the first class, for a classifier."""
    if isinstance(model, class_of('reid.base_reid', 'BaseReID')):
        from mmdet.structures import ReIDDataSample as DataSample
    else:
        from mmpretrain.structures import DataSample
    device = next(model.parameters()).device
    return [DataSample().set_gt_label(torch.zeros(1, dtype=torch.long)).to(device)
            for _ in range(count)]
