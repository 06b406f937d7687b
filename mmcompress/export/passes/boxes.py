"""Non-maximum suppression inside the file."""

from __future__ import annotations

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from ...kinds import Suppression

DETECTIONS = 'detections'
"""Name of the output: rows of left, top, right, bottom, score and class, the highest
score first."""


def append_nms(proto: onnx.ModelProto, suppression: Suppression) -> None:
    """Replace the outputs of a network with decoded boxes by :data:`DETECTIONS`.

    Args:
        proto (onnx.ModelProto): Changed in place.
        suppression (Suppression): By class.
    """
    boxes, scores = (x.name for x in proto.graph.output)
    most = np.int64(2 ** 31 - 1)
    values = dict(
        nms_per_class=most, nms_iou=np.float32(suppression.iou),
        nms_score=np.float32(suppression.score),
        nms_limit=np.int64(suppression.limit or most),
        nms_first=np.array([0], np.int64), nms_class=np.array([1], np.int64),
        nms_box=np.array([2], np.int64), nms_last=np.array([-1], np.int64))
    for name, value in values.items():
        proto.graph.initializer.append(numpy_helper.from_array(
            np.atleast_1d(value), name))
    nodes = [
        ('NonMaxSuppression',
         [boxes, scores, 'nms_per_class', 'nms_iou', 'nms_score'], ['nms_found'], {}),
        ('GatherND', [scores, 'nms_found'], ['nms_scores'], {}),
        ('Shape', ['nms_scores'], ['nms_count'], {}),
        ('Min', ['nms_count', 'nms_limit'], ['nms_top'], {}),
        ('TopK', ['nms_scores', 'nms_top'], ['nms_best', 'nms_order'], {}),
        ('Gather', ['nms_found', 'nms_order'], ['nms_chosen'], dict(axis=0)),
        ('Gather', ['nms_chosen', 'nms_box'], ['nms_columns'], dict(axis=1)),
        ('Squeeze', ['nms_columns', 'nms_last'], ['nms_priors'], {}),
        ('Squeeze', [boxes, 'nms_first'], ['nms_boxes'], {}),
        ('Gather', ['nms_boxes', 'nms_priors'], ['nms_kept'], dict(axis=0)),
        ('Unsqueeze', ['nms_best', 'nms_last'], ['nms_score_column'], {}),
        ('Gather', ['nms_chosen', 'nms_class'], ['nms_classes'], dict(axis=1)),
        ('Cast', ['nms_classes'], ['nms_class_column'], dict(to=TensorProto.FLOAT)),
        ('Concat', ['nms_kept', 'nms_score_column', 'nms_class_column'], [DETECTIONS],
         dict(axis=1)),
    ]
    proto.graph.node.extend(
        helper.make_node(kind, inputs, outputs, outputs[0], **attributes)
        for kind, inputs, outputs, attributes in nodes)
    del proto.graph.output[:]
    proto.graph.output.append(helper.make_tensor_value_info(
        DETECTIONS, TensorProto.FLOAT, ['found', 6]))
    onnx.checker.check_model(proto)
