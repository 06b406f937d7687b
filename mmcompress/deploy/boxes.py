"""Box decoding and non-maximum suppression inside the file."""

from __future__ import annotations

import numpy as np
import onnx
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import Tensor, nn

from ..errors import ExportError
from .parts import head_of, is_two_stage

DETECTIONS = 'detections'
"""Name of the output: rows of left, top, right, bottom, score and class."""


def check_boxes(model: nn.Module, batch: int, dynamic: bool) -> None:
    """Raise :class:`ExportError` if the boxes of a model cannot be baked in."""
    from mmdet.models.dense_heads import YOLOXHead

    head = model if is_two_stage(model) else head_of(model)
    if not isinstance(head, YOLOXHead):
        raise ExportError(
            f'Boxes of {type(head).__name__} cannot be baked into the file, those of '
            'YOLOXHead can; export without --boxes.')
    if batch != 1 or dynamic:
        raise ExportError('With --boxes a file takes one image; leave --batch out.')
    nms = head.test_cfg.get('nms', {})
    if nms.get('type', 'nms') != 'nms':
        raise ExportError(
            f'{nms["type"]} cannot be baked into the file, plain nms can; export '
            'without --boxes.')


def decoded_outputs(model: nn.Module, images: Tensor) -> tuple[Tensor, Tensor]:
    """Boxes and scores of all priors, as ``YOLOXHead.predict_by_feat`` has them.

    Args:
        model (nn.Module): A detector with a ``YOLOXHead``.
        images (Tensor): ``(N, 3, H, W)``.

    Returns:
        tuple[Tensor, Tensor]: ``(N, P, 4)`` corners in pixels and ``(N, C, P)``
        scores, which are 0 but for the best class of every prior.
    """
    head = head_of(model)
    scores, boxes, objects = head(model.extract_feat(images))
    sizes = [tuple(level.shape[2:]) for level in scores]
    priors = torch.cat(head.prior_generator.grid_priors(
        sizes, dtype=images.dtype, device=images.device, with_stride=True))

    def flat(levels: list[Tensor]) -> Tensor:
        return torch.cat([x.flatten(2) for x in levels], 2)

    found = flat(scores).sigmoid()
    best = found.amax(1, keepdim=True)
    found = torch.where(found == best, found, 0.0) * flat(objects).sigmoid()
    return head._bbox_decode(priors, flat(boxes).transpose(1, 2)), found


def append_nms(proto: onnx.ModelProto, model: nn.Module) -> None:
    """Replace the outputs of :func:`decoded_outputs` by :data:`DETECTIONS`.

    Suppression is by class, with the thresholds of the model's ``test_cfg``.

    Args:
        proto (onnx.ModelProto): Changed in place.
        model (nn.Module): The detector.
    """
    boxes, scores = (x.name for x in proto.graph.output)
    cfg = head_of(model).test_cfg
    values = dict(
        nms_per_class=np.int64(2 ** 31 - 1),
        nms_iou=np.float32(cfg.get('nms', {}).get('iou_threshold', 0.65)),
        nms_score=np.float32(cfg.get('score_thr', 0.0)),
        nms_first=np.array([0], np.int64), nms_class=np.array([1], np.int64),
        nms_box=np.array([2], np.int64), nms_last=np.array([-1], np.int64))
    for name, value in values.items():
        proto.graph.initializer.append(numpy_helper.from_array(
            np.atleast_1d(value), name))
    nodes = [
        ('NonMaxSuppression',
         [boxes, scores, 'nms_per_class', 'nms_iou', 'nms_score'], 'nms_chosen', {}),
        ('Gather', ['nms_chosen', 'nms_box'], 'nms_columns', dict(axis=1)),
        ('Squeeze', ['nms_columns', 'nms_last'], 'nms_priors', {}),
        ('Squeeze', [boxes, 'nms_first'], 'nms_boxes', {}),
        ('Gather', ['nms_boxes', 'nms_priors'], 'nms_kept', dict(axis=0)),
        ('GatherND', [scores, 'nms_chosen'], 'nms_scores', {}),
        ('Unsqueeze', ['nms_scores', 'nms_last'], 'nms_score_column', {}),
        ('Gather', ['nms_chosen', 'nms_class'], 'nms_classes', dict(axis=1)),
        ('Cast', ['nms_classes'], 'nms_class_column', dict(to=TensorProto.FLOAT)),
        ('Concat', ['nms_kept', 'nms_score_column', 'nms_class_column'], DETECTIONS,
         dict(axis=1)),
    ]
    proto.graph.node.extend(
        helper.make_node(kind, inputs, [output], output, **attributes)
        for kind, inputs, output, attributes in nodes)
    del proto.graph.output[:]
    proto.graph.output.append(helper.make_tensor_value_info(
        DETECTIONS, TensorProto.FLOAT, ['found', 6]))
    onnx.checker.check_model(proto)
