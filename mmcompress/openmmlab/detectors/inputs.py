"""What detectors and trackers of mmdet need besides an image."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from ...surgery.hooks import hooked
from ...surgery.shadow import shadowed
from .operators import plain_operators

PROPOSALS = 1000
"""Boxes per image that RoI heads are counted with unless the model says so."""

SUBDIVISION = 784
"""Points of a mask that PointRend refines at a time unless the model says so."""


def class_of(module: str, name: str) -> Any:
    """A class of mmdet, or of a module that nobody imported: no class at all."""
    return getattr(sys.modules.get(f'mmdet.models.{module}'), name, ())


def is_detector(model: nn.Module) -> bool:
    """Whether ``model`` is an mmdet detector (without importing mmdet)."""
    return isinstance(model, class_of('detectors.base', 'BaseDetector'))


def detector_samples(
    model: nn.Module, image: Tensor, boxes: int | None = None
) -> list:
    """What a detector is told about an image, of shape ``(1, 3, H, W)``.

    Args:
        model (nn.Module): The detector.
        image (Tensor): The preprocessed image.
        boxes (int | None): Proposals of a detector that has no RPN (Fast R-CNN).
            Defaults to what the model keeps when testing.
    """
    from mmdet.structures import DetDataSample

    height, width = image.shape[-2:]
    sample = DetDataSample(metainfo=dict(
        img_shape=(height, width), ori_shape=(height, width),
        pad_shape=(height, width), batch_input_shape=(height, width),
        scale_factor=(1.0, 1.0), img_id=0))
    if not getattr(model, 'with_rpn', True):
        sample.proposals = proposals(
            image.shape[1:], boxes or number_of_proposals(model), image.device)
    if isinstance(model, class_of('detectors.single_stage_instance_seg',
                                  'SingleStageInstanceSegmentor')):
        sample.gt_instances = one_object((height, width), image)
    return [sample]


def proposals(shape: tuple[int, ...], number: int, device: Any = None) -> Any:
    """The same random boxes always, as an RPN would propose them.

    Args:
        shape (tuple[int, ...]): ``(C, H, W)`` of the image.
        number (int): How many.
        device: Where the tensors are.

    Returns:
        InstanceData: ``bboxes`` as (left, top, right, bottom) in pixels, ``scores``
        and ``labels``.
    """
    from mmengine.structures import InstanceData

    height, width = shape[-2:]
    generator = torch.Generator().manual_seed(0)
    corners = torch.rand((2, number, 2), generator=generator).sort(dim=0).values
    corners[1] = torch.maximum(corners[1], corners[0] + 0.05)
    boxes = corners.permute(1, 0, 2).reshape(number, 4)
    boxes = boxes * torch.tensor([width, height, width, height])
    return InstanceData(
        bboxes=boxes.to(device), scores=torch.ones(number, device=device),
        labels=torch.zeros(number, dtype=torch.long, device=device))


def number_of_proposals(model: nn.Module) -> int:
    """Boxes per image that a two-stage detector keeps when testing."""
    test_cfg = getattr(model, 'test_cfg', None) or {}
    return (test_cfg.get('rpn') or {}).get('max_per_img', PROPOSALS)


def one_object(size: tuple[int, int], like: Tensor) -> Any:
    """An annotated object in the middle of an image.

    CondInst and YOLACT run their mask heads at the places that annotations fall on.
    """
    import numpy as np
    from mmdet.structures.mask import BitmapMasks
    from mmengine.structures import InstanceData

    height, width = size
    mask = np.zeros((1, height, width), np.uint8)
    mask[:, height // 4:3 * height // 4, width // 4:3 * width // 4] = 1
    box = like.new_tensor([[width / 4, height / 4, 3 * width / 4, 3 * height / 4]])
    return InstanceData(
        bboxes=box, labels=torch.zeros(1, dtype=torch.long, device=like.device),
        masks=BitmapMasks(mask, height, width))


@contextmanager
def fixed_regions(
    model: nn.Module, shape: tuple[int, ...], number: int | None = None
) -> Iterator[list]:
    """Make everything that chooses places in an image choose the same ones always.

    Which boxes survive depends on rounding, so two equal networks would be compared
    on different regions, and the cost would depend on the weights. The RPNs still
    run; their raw outputs are put into the list that is yielded. Masked convs
    (guided anchoring) compute all places, as in training. Learnt proposals
    (Sparse R-CNN) keep their features; all stages see the same boxes.

    Args:
        model (nn.Module): Any model; one without such parts is left alone.
        shape (tuple[int, ...]): ``(C, H, W)`` of the image.
        number (int | None): Boxes per image. Defaults to what the model keeps when
            testing.
    """
    seen: list = []
    with ExitStack() as stack:
        for detector in {model, getattr(model, 'detector', model)}:
            rpn = getattr(detector, 'rpn_head', None)
            if hasattr(rpn, 'predict'):
                number = number or number_of_proposals(detector)
                stack.enter_context(shadowed([(rpn, dict(predict=partial(
                    _propose, rpn, rpn.predict, shape, number, seen)))]))
            stack.enter_context(shadowed(
                _whole_forward(getattr(detector, 'roi_head', None))))
        stack.enter_context(plain_operators())
        yield seen


def _propose(
    rpn: nn.Module, predict: Callable, shape: tuple[int, ...], number: int,
    seen: list, feats: tuple[Tensor, ...], samples: list, rescale: bool = False,
) -> list:
    """Stand in for ``rpn.predict``."""
    if type(rpn).forward is not nn.Module.forward:
        seen.append(rpn(feats))
    elif stages := getattr(rpn, 'stages', None):  # Cascade RPN
        keep = dict.fromkeys(stages, lambda _, __, out: seen.append(out))
        with hooked(after=keep), shadowed(
                [(stages[-1], dict(predict_by_feat=lambda *_, **__: []))]):
            predict(feats, samples)
    else:  # Learnt proposals depend on nothing, but on their boxes' initial values.
        results = [result[:number] for result in predict(feats, samples)]
        for result in results:
            result.bboxes = proposals(shape, len(result), feats[0].device).bboxes
        return results
    return [proposals(shape, number, feats[0].device) for _ in samples]


def _whole_forward(roi_head: nn.Module | None) -> list[tuple[nn.Module, dict]]:
    """A RoI head whose own forward is not all that it computes, with one that is."""
    if isinstance(roi_head, class_of('roi_heads.sparse_roi_head', 'SparseRoIHead')):
        return [(roi_head, dict(forward=partial(_stages, roi_head)))]
    if isinstance(
            roi_head, class_of('roi_heads.point_rend_roi_head', 'PointRendRoIHead')):
        return [(roi_head, dict(forward=partial(_points, roi_head, roi_head.forward)))]
    return []


def _stages(
    roi_head: nn.Module, feats: tuple[Tensor, ...], results: list, samples: list
) -> list:
    """What a ``SparseRoIHead`` computes when testing, on boxes that stay.

    Its own ``forward`` assigns annotations to what each stage predicts.
    """
    from mmdet.structures.bbox import bbox2roi

    objects = torch.stack([r.features for r in results])
    rois = bbox2roi([r.bboxes for r in results])
    metas = [s.metainfo for s in samples]
    outputs = []
    for stage in range(roi_head.num_stages):
        found = roi_head._bbox_forward(stage, feats, rois, objects, metas)
        objects = found['object_feats']
        outputs.append((found['cls_score'], found['decoded_bboxes']))
        if roi_head.with_mask:
            masks = roi_head._mask_forward(stage, feats, rois, found['attn_feats'])
            outputs.append(masks['mask_preds'])
    return outputs


def _points(
    roi_head: nn.Module, forward: Callable, feats: tuple[Tensor, ...], results: list,
    samples: list | None = None,
) -> tuple:
    """What a ``PointRendRoIHead`` computes, with its point head, which refines masks.

    Its own ``forward`` stops at the coarse masks. Points are random ones, as many for
    each mask as a single step of subdivision takes.
    """
    from mmcv.ops import point_sample
    from mmdet.structures.bbox import bbox2roi

    outputs = forward(feats, results, samples)
    masks = outputs[-1]
    rois = bbox2roi([r.bboxes for r in results])[:len(masks)]
    number = (roi_head.test_cfg or {}).get('subdivision_num_points', SUBDIVISION)
    generator = torch.Generator().manual_seed(0)
    points = torch.rand((len(rois), number, 2), generator=generator).to(rois)
    fine = roi_head._get_fine_grained_point_feats(feats, rois, points)
    return *outputs, roi_head.point_head(fine, point_sample(masks, points))
