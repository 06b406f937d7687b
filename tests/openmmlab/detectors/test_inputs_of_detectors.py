"""Whatever chooses regions of an image chooses the same ones always."""

import pytest
import torch
from mmcv.ops import MaskedConv2d
from mmengine.structures import InstanceData
from torch import nn

from mmcompress.arithmetic.labels import tensors_in
from mmcompress.graph import trace
from mmcompress.graph.inputs import run
from mmcompress.openmmlab.detectors.inputs import fixed_regions
from tools.zoo import check as zoo


class Rpn(nn.Module):
    """As much of an RPN head as a detector asks for."""

    def forward(self, feats):
        """Raw outputs."""
        return [f * 2 for f in feats]

    def predict(self, feats, samples, rescale=False):
        """Boxes that depend on the weights."""
        raise AssertionError('must not be called')


class Stage(nn.Module):
    """As much of a stage of Cascade RPN as is asked for."""

    def forward(self, feats):
        """Raw outputs."""
        return [f * 3 for f in feats]

    def predict_by_feat(self, outputs):
        """Non-maximum suppression, whose result depends on rounding."""
        raise AssertionError('must not be called')


class CascadeRpn(nn.Module):
    """An RPN whose stages run in ``predict`` alone."""

    def __init__(self):
        super().__init__()
        self.stages = nn.ModuleList([Stage(), Stage()])

    def predict(self, feats, samples, rescale=False):
        """Run all stages."""
        for stage in self.stages:
            outputs = stage(feats)
        return self.stages[-1].predict_by_feat(outputs)


class LearntProposals(nn.Module):
    """Proposals with features, as Sparse R-CNN's."""

    def predict(self, feats, samples, rescale=False):
        """Boxes of no area: their initial values."""
        return [InstanceData(bboxes=torch.zeros(6, 4), features=torch.ones(6, 2))]


@pytest.mark.parametrize('number, config, expected', [
    (8, None, 8), (None, dict(rpn=dict(max_per_img=50)), 50), (None, None, 1000),
    (None, dict(rpn=None), 1000)])
def test_proposals_are_fixed(number, config, expected):
    model = nn.Module()
    model.rpn_head, model.test_cfg = Rpn(), config
    feats = (torch.ones(1, 3, 4, 4),)
    with fixed_regions(model, (3, 20, 40), number) as seen:
        one, other = (model.rpn_head.predict(feats, [None])[0] for _ in range(2))
    assert len(one) == expected and torch.equal(one.bboxes, other.bboxes)
    left, top, right, bottom = one.bboxes.T
    assert (left < right).all() and (top < bottom).all() and (left >= 0).all()
    # The head still ran; what it returned counts as an output.
    assert torch.equal(seen[0][0], feats[0] * 2)
    assert 'predict' not in vars(model.rpn_head)


def test_models_without_an_rpn_are_left_alone():
    with fixed_regions(nn.Linear(2, 2), (3, 8, 8)) as seen:
        assert seen == []


def test_the_stages_of_an_rpn_without_forward_run():
    model = nn.Module()
    model.rpn_head = CascadeRpn()
    feats = (torch.ones(1, 3, 4, 4),)
    with fixed_regions(model, (3, 20, 40), 8) as seen:
        boxes, = model.rpn_head.predict(feats, [None])
    assert len(boxes) == 8
    assert [torch.equal(x[0], feats[0] * 3) for x in seen] == [True, True]
    assert 'predict_by_feat' not in vars(model.rpn_head.stages[1])


def test_learnt_proposals_keep_their_features_and_get_boxes():
    model = nn.Module()
    model.rpn_head = LearntProposals()
    with fixed_regions(model, (3, 20, 40), 4):
        found, = model.rpn_head.predict((torch.ones(1, 3, 4, 4),), [None])
    assert len(found) == 4 and found.features.sum() == 8
    assert (found.bboxes[:, :2] < found.bboxes[:, 2:]).all()


def test_masked_convs_compute_all_places():
    conv, x = MaskedConv2d(2, 3, 3, padding=1), torch.rand(1, 2, 4, 4)
    with fixed_regions(conv, (2, 4, 4)), torch.no_grad():
        masked = conv(x, torch.zeros(1, 4, 4))
        assert torch.equal(masked, conv(x))


# What runs is the smallest config of its kind.
@pytest.mark.parametrize('config, count', [
    # Classes and boxes of the RoI head.
    ('fast_rcnn/fast-rcnn_r50_fpn_1x_coco.py', 2),
    # Six stages of classes and boxes.
    ('sparse_rcnn/sparse-rcnn_r50_fpn_1x_coco.py', 12)])
def test_two_stage_detectors_without_an_rpn_run(config, count):
    cfg = zoo.load('mmdet', config)
    model = zoo.build(cfg.model)
    with torch.no_grad():
        one, other = (tensors_in(run(model, (3, 64, 96))) for _ in range(2))
    assert len(one) == count and all(torch.equal(a, b) for a, b in zip(one, other))
    assert all(len(x.reshape(-1, x.shape[-1])) == 8 for x in one)


def test_the_point_head_of_point_rend_runs():
    """It reads features of the neck, which would otherwise be pruned without it."""
    cfg = zoo.load('mmdet', 'point_rend/point-rend_r50-caffe_fpn_ms-1x_coco.py')
    model = zoo.build(cfg.model)
    graph = trace(model, (3, 64, 96))
    assert graph.unvisited == ()
    finest, = (u for u in graph.units if u.name == 'neck.fpn_convs.0.conv')
    assert 'roi_head.point_head.fcs.0.conv' in {m.layer for m in finest.members}
