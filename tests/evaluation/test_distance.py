"""How far outputs are from those of the dense model."""

import copy

import pytest
import torch
from mmengine.config import ConfigDict
from mmengine.model import BaseModel
from mmengine.registry import MODELS, init_default_scope
from torch import Tensor, nn

from mmcompress.data.images import Batch
from mmcompress.errors import CompressionError
from mmcompress.evaluation import distance
from mmcompress.evaluation.distance import DetectionReference, Reference, detections


class Affine(BaseModel):
    """Returns scaled images, a constant, and labels that are no floats."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(()))
        self.skipped = 0

    def forward(self, inputs: Tensor, data_samples: list | None = None,
                mode: str = 'tensor'):
        return (inputs * self.scale)[self.skipped:], dict(
            constant=torch.ones(2), labels=torch.zeros(2, dtype=torch.long))


def test_mean_square_difference_over_the_variance():
    model = Affine()
    batches = [Batch(torch.tensor([[[[1.0]]]]), []),
               Batch(torch.tensor([[[[3.0]]], [[[8.0]]]]), [])]
    reference = Reference(model, batches)
    assert reference.distance(model) == 0
    model.scale.data.fill_(1.5)
    # Halves of 1, 3 and 8: (0.25 + 2.25 + 16) / 3; the variance of 1, 3 and 8 is
    # 74 / 3 - 16 = 26 / 3. The constant has none and does not count.
    assert reference.distance(model) == pytest.approx(18.5 / 26)


def test_outputs_of_other_shapes_are_refused():
    model = Affine()
    reference = Reference(model, [Batch(torch.rand(2, 1, 2, 2), [])])
    model.skipped = 1
    with pytest.raises(CompressionError, match='fixed shapes'):
        reference.distance(model)


@pytest.fixture
def yolox():
    """A small detector that looks at four random images."""
    pytest.importorskip('mmdet.models')
    init_default_scope('mmdet')
    torch.manual_seed(0)
    model = MODELS.build(ConfigDict(
        type='mmdet.YOLOX',
        data_preprocessor=dict(type='mmdet.DetDataPreprocessor'),
        backbone=dict(
            type='mmdet.CSPDarknet', out_indices=(2, 3), arch_ovewrite=[
                [8, 8, 1, True, False], [8, 16, 1, True, False],
                [16, 16, 1, False, True]]),
        neck=dict(type='mmdet.YOLOXPAFPN', in_channels=[16, 16], out_channels=8,
                  num_csp_blocks=1),
        bbox_head=dict(type='mmdet.YOLOXHead', num_classes=3, in_channels=8,
                       feat_channels=8, stacked_convs=1, strides=(8, 16)),
        test_cfg=dict(score_thr=0.0, nms=dict(type='nms', iou_threshold=1.0)))).eval()
    for conv in model.bbox_head.multi_level_conv_cls:
        torch.nn.init.normal_(conv.weight, std=0.5)
    return model


def batch_of(images: Tensor) -> Batch:
    """Images whose sizes the detector is told."""
    from mmdet.structures import DetDataSample

    size = tuple(images.shape[2:])
    return Batch(images, [DetDataSample(metainfo=dict(
        img_shape=size, ori_shape=size, scale_factor=(1.0, 1.0))) for _ in images])


def test_detections_are_those_of_mmdet(yolox):
    batch = batch_of(torch.randn(2, 3, 64, 96))
    wanted = yolox(batch.inputs, batch.samples(), mode='predict')
    for (boxes, scores), sample in zip(detections(yolox, batch), wanted):
        best, labels = scores.max(0)
        order = sample.pred_instances.scores.argsort(descending=True)
        mine = best.argsort(descending=True)
        torch.testing.assert_close(best[mine], sample.pred_instances.scores[order])
        torch.testing.assert_close(boxes[mine], sample.pred_instances.bboxes[order])
        assert torch.equal(labels[mine], sample.pred_instances.labels[order])


def test_changed_scores_and_lost_overlap(yolox, monkeypatch):
    def found(boxes, scores):
        return [(torch.tensor(boxes), torch.tensor(scores))]

    dense = found([[0.0, 0, 2, 2], [0, 0, 4, 4]], [[0.6, 0.0], [0.0, 0.2]])
    moved = found([[0.0, 0, 2, 1], [0, 0, 4, 3]], [[0.5, 0.1], [0.0, 0.2]])
    answers = iter([dense, moved])
    monkeypatch.setattr(distance, 'detections', lambda *_: next(answers))
    reference = DetectionReference(yolox, [None])
    # Of a score of 0.8 in all, 0.1 went and 0.1 came. The first box keeps 1 / 2 of
    # its overlap, the second 3 / 4, and they weigh 0.6 and 0.2.
    assert reference.distance(yolox) == pytest.approx(
        0.2 / 0.8 + (0.6 / 2 + 0.2 / 4) / 0.8)


def test_distance_of_the_detections(yolox):
    batches = [batch_of(torch.randn(2, 3, 64, 64)), batch_of(torch.randn(1, 3, 64, 64))]
    reference = DetectionReference(yolox, batches)
    assert reference.distance(yolox) == pytest.approx(0, abs=1e-6)
    small, large = 0.01, 0.1
    found = []
    for size in (small, large):
        changed = copy.deepcopy(yolox)
        for conv in changed.bbox_head.multi_level_conv_reg:
            conv.bias.data += size
        found.append(reference.distance(changed))
    assert 0 < found[0] < found[1]


def test_detections_of_other_models_are_refused():
    with pytest.raises(CompressionError, match=r"Affine cannot be compared.*'loss'"):
        DetectionReference(Affine(), [])


def test_a_detector_that_finds_nothing_is_refused(yolox):
    reference = DetectionReference(yolox, [batch_of(torch.randn(1, 3, 64, 64))])
    (boxes, scores), = reference.images[0]
    reference.images = [[(boxes, torch.zeros_like(scores))]]
    with pytest.raises(CompressionError, match='finds nothing'):
        reference.distance(yolox)
