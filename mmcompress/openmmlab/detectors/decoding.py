"""Boxes and scores of all priors of a one-stage detector, with fixed shapes.

As the heads of mmdet compute them in ``predict_by_feat``, up to the suppression:
where mmdet selects boxes, the scores of the others become 0 here.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from ...errors import ExportError
from ...kinds import Suppression


def can_decode(head: nn.Module) -> bool:
    """Whether :func:`decode` knows how the boxes of a head are decoded."""
    return decodes_as_yolox(head) or _is_dense(head)


def check_suppression(head: nn.Module) -> None:
    """Raise :class:`ExportError` if a head's suppression cannot be in a file."""
    nms = head.test_cfg.get('nms', {})
    if nms.get('type', 'nms') != 'nms' or nms.get('class_agnostic', False):
        raise ExportError(
            f'The suppression {dict(nms)} cannot be baked into the file, plain nms by '
            'class can; export without --boxes.')


def suppression_of(head: nn.Module) -> Suppression:
    """What the ``test_cfg`` of a head says."""
    cfg = head.test_cfg
    iou = cfg.get('nms', {}).get('iou_threshold', 0.65)
    if decodes_as_yolox(head):  # which neither clips nor limits
        return Suppression(iou, cfg.get('score_thr', 0.0))
    return Suppression(iou, 0.0, cfg.get('max_per_img'), head.bbox_coder.clip_border,
                       cfg.get('score_thr', 0.0))


def decode(
    head: nn.Module, images: Tensor, outputs: Sequence[list[Tensor]]
) -> tuple[Tensor, Tensor]:
    """Boxes and scores of all priors from what a head returned.

    Args:
        head (nn.Module): A head of which :func:`can_decode` is true.
        images (Tensor): ``(1, 3, H, W)``.
        outputs (Sequence[list[Tensor]]): Of the head, for this image.

    Returns:
        tuple[Tensor, Tensor]: See :meth:`mmcompress.kinds.ModelKind.decode`.
    """
    return (_yolox if decodes_as_yolox(head) else _dense)(head, images, *outputs)


# -- YOLOX -------------------------------------------------------------------------
def decodes_as_yolox(head: nn.Module) -> bool:
    """Whether a head predicts centres, sizes and objectness."""
    from mmdet.models.dense_heads import YOLOXHead

    return isinstance(head, YOLOXHead)


def _yolox(
    head: nn.Module, images: Tensor, scores: list[Tensor], boxes: list[Tensor],
    objects: list[Tensor],
) -> tuple[Tensor, Tensor]:
    """The best class of every prior, times its objectness."""
    sizes = [tuple(level.shape[2:]) for level in scores]
    priors = torch.cat(head.prior_generator.grid_priors(
        sizes, dtype=images.dtype, device=images.device, with_stride=True))

    def flat(levels: list[Tensor]) -> Tensor:
        return torch.cat([x.flatten(2) for x in levels], 2)

    found = flat(scores).sigmoid()
    best = found.amax(1, keepdim=True)
    found = torch.where(found == best, found, 0.0) * flat(objects).sigmoid()
    return head._bbox_decode(priors, flat(boxes).transpose(1, 2)), found


# -- heads with a box coder --------------------------------------------------------
def decodes_as_gfl(head: nn.Module) -> bool:
    """Whether a head predicts distributions of distances."""
    from mmdet.models.dense_heads import GFLHead

    return type(head)._predict_by_feat_single is GFLHead._predict_by_feat_single


def _is_dense(head: nn.Module) -> bool:
    """Whether a head decodes as :func:`_dense` does."""
    from mmdet.models.dense_heads.base_dense_head import BaseDenseHead

    kind = type(head)
    return (isinstance(head, BaseDenseHead)
            and kind.predict_by_feat is BaseDenseHead.predict_by_feat
            and kind._bbox_post_process is BaseDenseHead._bbox_post_process
            and (kind._predict_by_feat_single is BaseDenseHead._predict_by_feat_single
                 or decodes_as_gfl(head))
            and not getattr(head.loss_cls, 'custom_cls_channels', False))


def _dense(
    head: nn.Module, images: Tensor, scores: list[Tensor], boxes: list[Tensor],
    factors: list[Tensor] | None = None,
) -> tuple[Tensor, Tensor]:
    """Levels one by one; the coder decodes, the scores are thresholded."""
    sizes = [tuple(level.shape[2:]) for level in scores]
    priors = head.prior_generator.grid_priors(
        sizes, dtype=images.dtype, device=images.device)
    strides = head.prior_generator.strides
    found_boxes, found_scores = [], []
    for i, prior in enumerate(priors):
        found_boxes.append(_decoded(head, boxes[i], prior, strides[i][0]))
        found_scores.append(_selected(
            head, scores[i], None if factors is None else factors[i]))
    corners, found = torch.cat(found_boxes), torch.cat(found_scores)
    if head.bbox_coder.clip_border:
        height, width = images.shape[2:]
        limits = corners.new_tensor([width, height, width, height])
        corners = torch.minimum(corners.clamp(min=0), limits)
    smallest = head.test_cfg.get('min_bbox_size', -1)
    if smallest >= 0:
        fits = (corners[:, 2:] - corners[:, :2] > smallest).all(1, keepdim=True)
        found = torch.where(fits, found, 0.0)
    return corners[None], found.t()[None]


def _rows(x: Tensor, length: int) -> Tensor:
    """Values by prior: ``(1, A * length, H, W)`` to ``(H * W * A, length)``."""
    return x[0].permute(1, 2, 0).reshape(-1, length)


def _decoded(head: nn.Module, x: Tensor, priors: Tensor, stride: float) -> Tensor:
    """Corners of a level, not clipped."""
    if decodes_as_gfl(head):
        distances = head.integral(x[0].permute(1, 2, 0)) * stride
        return head.bbox_coder.decode(head.anchor_center(priors), distances)
    return head.bbox_coder.decode(priors, _rows(x, head.bbox_coder.encode_size))


def _selected(head: nn.Module, x: Tensor, factor: Tensor | None) -> Tensor:
    """Scores of a level, 0 where mmdet's ``filter_scores_and_topk`` drops them."""
    x = _rows(x, head.cls_out_channels)
    scores = x.sigmoid() if head.use_sigmoid_cls else x.softmax(-1)[:, :-1]
    lowest = head.test_cfg.get('score_thr', 0)
    kept = torch.where(scores > lowest, scores, 0.0)
    most = head.test_cfg.get('nms_pre', -1)
    if 0 < most < scores.numel():
        last = kept.flatten().topk(most).values[-1]
        kept = torch.where(kept >= last, kept, 0.0)
    return kept if factor is None else kept * _rows(factor, 1).sigmoid()
