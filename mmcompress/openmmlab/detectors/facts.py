"""What the raw outputs of a detector mean, as plain data for a file's metadata.

:mod:`.decoding` computes with the same numbers inside a file.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from torch import nn

from .decoding import decodes_as_gfl, decodes_as_yolox
from .regions import RegionHead

WIDEST = 16 / 1000
"""``wh_ratio_clip`` of mmdet's box coders: a delta changes a side by 62.5 at most."""

Outputs = list[dict[str, Any]]


# -- one stage ---------------------------------------------------------------------
def head_outputs(head: nn.Module, structure: Sequence[Sequence[int]]) -> Outputs:
    """Roles of what a head returns: lists of levels, one list a role.

    Args:
        head (nn.Module): A head that :func:`.decoding.can_decode` knows.
        structure (Sequence): See :func:`mmcompress.exporter.parts.nest`.
    """
    if decodes_as_yolox(head):
        roles = [('classes', 'sigmoid'), ('boxes', 'none'), ('objectness', 'sigmoid')]
    else:
        scores = 'sigmoid' if head.use_sigmoid_cls else 'softmax'
        boxes = 'softmax' if decodes_as_gfl(head) else 'none'
        roles = [('classes', scores), ('boxes', boxes), ('centreness', 'sigmoid')]
    return levels(head, structure, roles)


def levels(
    head: nn.Module, structure: Sequence[Sequence[int]],
    roles: Sequence[tuple[str, str]],
) -> Outputs:
    """Roles and activations, with the stride of every level."""
    return [dict(role=role, activation=activation, stride=stride)
            for (role, activation), level in zip(roles, structure)
            for stride, _ in zip(strides_of(head), level)]


def strides_of(head: nn.Module) -> list[int]:
    """The strides of a head's levels, which are the same in both directions."""
    return [int(stride[0]) for stride in head.prior_generator.strides]


def head_decoding(head: nn.Module) -> dict[str, Any]:
    """What turns the raw outputs of a head into boxes, and which boxes remain.

    Args:
        head (nn.Module): A head that :func:`.decoding.can_decode` knows.
    """
    cfg = head.test_cfg
    if decodes_as_yolox(head):
        box = dict(boxes='centre and size')
    elif decodes_as_gfl(head):
        box = dict(boxes='distributions', bins=head.reg_max + 1,
                   clipped=head.bbox_coder.clip_border)
    else:
        box = coder_facts(head.bbox_coder)
    return dict(**box, **prior_facts(head), score=cfg.get('score_thr', 0.0),
                **selection_facts(cfg))


def prior_facts(head: nn.Module) -> dict[str, Any]:
    """Where the boxes of a level begin: ``anchors`` of the first cell, or points."""
    priors, found = head.prior_generator, dict(strides=strides_of(head))
    if hasattr(priors, 'base_anchors'):
        return dict(found, anchors=[x.tolist() for x in priors.base_anchors])
    return dict(found, offset=priors.offset)


def coder_facts(coder: Any) -> dict[str, Any]:
    """How boxes are encoded; the class of an unusual coder."""
    kind = type(coder).__name__
    if kind == 'DeltaXYWHBBoxCoder' and not coder.add_ctr_clamp:
        return dict(boxes='deltas', means=list(coder.means), stds=list(coder.stds),
                    widest=WIDEST, clipped=coder.clip_border)
    if kind == 'DistancePointBBoxCoder':
        return dict(boxes='distances', clipped=coder.clip_border)
    return dict(boxes=kind)


def selection_facts(cfg: Mapping[str, Any]) -> dict[str, Any]:
    """Which boxes of a dense head are looked at, and which of these remain."""
    return dict(
        per_level=cfg.get('nms_pre'), smallest=cfg.get('min_bbox_size', -1),
        limit=cfg.get('max_per_img'), **suppression_facts(cfg.get('nms', {})))


def suppression_facts(nms: Mapping[str, Any]) -> dict[str, Any]:
    """The kind of a suppression, and the overlap that it allows."""
    return dict(suppression=nms.get('type', 'nms'), iou=nms.get('iou_threshold'),
                by_class=not nms.get('class_agnostic', False))


# -- two stages --------------------------------------------------------------------
def proposing_facts(head: nn.Module, structure: Sequence) -> Outputs:
    """Roles of the features of all levels, and of what an RPN returns."""
    features, proposals = structure
    scores = 'sigmoid' if head.use_sigmoid_cls else 'softmax'
    return [
        *levels(head, [features], [('features', 'none')]),
        *levels(head, proposals, [('classes', scores), ('boxes', 'none')])]


def proposing_decoding(head: nn.Module) -> dict[str, Any]:
    """What turns the outputs of an RPN into regions."""
    return dict(**coder_facts(head.bbox_coder), **prior_facts(head),
                **selection_facts(head.test_cfg))


def region_outputs(region: RegionHead, model: nn.Module) -> Outputs:
    """Roles of what a head returns of every region."""
    head = region.of(model)
    if region.masks:
        return [dict(role='masks', activation='sigmoid')]
    scores = type(head.loss_cls).__name__ if head.custom_cls_channels else 'softmax'
    return [dict(role='classes and background', activation=scores),
            dict(role='boxes', activation='none')]


def region_decoding(region: RegionHead, model: nn.Module) -> dict[str, Any]:
    """What a head of regions takes, and what becomes of its outputs."""
    head, cfg = region.of(model), model.roi_head.test_cfg
    found = dict(regions=pooling_facts(region.extractor))
    if region.masks:
        return dict(found, class_agnostic=head.class_agnostic,
                    threshold=cfg.get('mask_thr_binary'))
    return dict(
        **found, **coder_facts(head.bbox_coder), class_agnostic=head.reg_class_agnostic,
        score=cfg.get('score_thr', 0.0), limit=cfg.get('max_per_img'),
        **suppression_facts(cfg.get('nms', {})))


def pooling_facts(extractor: nn.Module) -> dict[str, Any]:
    """How regions are pooled from features; the class of an unusual extractor."""
    kind, layer = type(extractor).__name__, extractor.roi_layers[0]
    if kind != 'SingleRoIExtractor' or type(layer).__name__ != 'RoIAlign' or \
            layer.pool_mode != 'avg':
        return dict(pooling=f'{kind} of {type(layer).__name__}')
    return dict(
        pooling='align', strides=list(extractor.featmap_strides),
        size=list(layer.output_size), samples=layer.sampling_ratio,
        aligned=layer.aligned, finest=extractor.finest_scale)
