"""Any model runs on one image."""

import torch
from mmengine.registry import init_default_scope
from mmpretrain.models import ImageClassifier
from torch import nn

from mmcompress.arithmetic.labels import tensors_in
from mmcompress.graph.inputs import make_forward
from mmcompress.openmmlab.detectors.inputs import is_detector


def test_plain_modules_get_the_image_alone():
    model = nn.Conv2d(3, 2, 1).double()
    one, other = make_forward(model, (3, 4, 5)), make_forward(model, (3, 4, 5), seed=1)
    assert one().shape == (1, 2, 4, 5) and one().dtype == torch.float64
    assert torch.equal(one(), make_forward(model, (3, 4, 5))())
    assert not torch.equal(one(), other())


def test_classifiers_return_logits():
    init_default_scope('mmpretrain')
    model = ImageClassifier(
        backbone=dict(type='mmcompress.CifarResNet', depth=8, widths=(2, 2, 2)),
        neck=dict(type='GlobalAveragePooling'),
        head=dict(type='LinearClsHead', num_classes=5, in_channels=2)).eval()
    assert not is_detector(model)
    assert make_forward(model, (3, 8, 8))().shape == (1, 5)


def test_tensors_are_found_in_data_elements():
    from mmengine.structures import InstanceData

    one, two, three = torch.ones(1), torch.ones(2), torch.ones(2, 3)
    found = tensors_in([one, dict(a=(two, 'text', None)), [InstanceData(boxes=three)]])
    assert [x is y for x, y in zip(found, (one, two, three))] == [True] * 3
