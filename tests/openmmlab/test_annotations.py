"""Losses of mmdet and mmpretrain run on invented annotations."""

from types import SimpleNamespace

import pytest
import torch

from mmcompress.errors import CompressionError
from mmcompress.graph import trace
from mmcompress.kinds import kind_of
from mmcompress.openmmlab.annotations import predicts_masks
from mmcompress.policy import Policy
from mmcompress.surgery.materialise import materialise
from tools.zoo import check as zoo

SHAPE = (3, 64, 64)


def build(package, config):
    """A network without weights."""
    return zoo.build(zoo.load(package, config).model)


def test_a_slim_yolact_can_be_trained_with_its_semantic_branch():
    model = build('mmdet', 'yolact/yolact_r50_1xb8-55e_coco.py')
    graph = trace(model, SHAPE)
    branch = 'mask_head.segm_branch.segm_conv'
    assert graph.auxiliary == (branch,) and graph.unvisited == ()
    unit, = (u for u in graph.units if branch in {m.layer for m in u.members})
    assert unit.name == 'neck.fpn_convs.0.conv'  # it reads the finest level
    slim = materialise(model, graph, Policy({unit.name: 64})).train()
    assert slim.get_submodule(branch).weight.shape == (80, 64, 1, 1)
    kind = kind_of(slim)
    kind.loss(slim, kind.annotated(slim, SHAPE, 2)).backward()
    assert slim.get_submodule(branch).weight.grad.isfinite().all()


def test_a_classifier_learns_the_first_class():
    model = build('mmpretrain', '_base_/models/resnet18_cifar.py').train()
    kind = kind_of(model)
    batch = kind.annotated(model, (3, 32, 32), 2)
    assert batch.inputs.shape == (2, 3, 32, 32)
    assert not torch.equal(*batch.inputs)
    assert kind.loss(model, batch).isfinite()


def test_a_tracker_is_not_known_to_learn():
    model = build('mmdet', 'qdtrack/qdtrack_faster-rcnn_r50_fpn_4e_base.py')
    with pytest.raises(CompressionError, match='loss of QDTrack takes is not known'):
        kind_of(model).annotated(model, SHAPE)


@pytest.mark.parametrize('model, wanted', [
    (SimpleNamespace(with_mask=True), True), (SimpleNamespace(with_mask=False), False),
    (SimpleNamespace(with_mask=False, panoptic_head=None), True)])
def test_only_who_predicts_masks_is_given_some(model, wanted):
    assert predicts_masks(model) == wanted
