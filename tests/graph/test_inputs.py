"""Any model runs on one image; an RPN proposes the same boxes always."""

import pytest
import torch
from mmengine.registry import init_default_scope
from mmpretrain.models import ImageClassifier
from torch import nn

from mmcompress.graph.inputs import fixed_proposals, is_detector, make_forward
from mmcompress.graph.labels import tensors_in


class Rpn(nn.Module):
    """As much of an RPN head as a detector asks for."""

    def forward(self, feats):
        """Raw outputs."""
        return [f * 2 for f in feats]

    def predict(self, feats, samples, rescale=False):
        """Boxes that depend on the weights."""
        raise AssertionError('must not be called')


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


@pytest.mark.parametrize('number, config, expected', [
    (8, None, 8), (None, dict(rpn=dict(max_per_img=50)), 50), (None, None, 1000),
    (None, dict(rpn=None), 1000)])
def test_proposals_are_fixed(number, config, expected):
    model = nn.Module()
    model.rpn_head, model.test_cfg = Rpn(), config
    feats = (torch.ones(1, 3, 4, 4),)
    with fixed_proposals(model, (3, 20, 40), number) as seen:
        one, other = (model.rpn_head.predict(feats, [None])[0] for _ in range(2))
    assert len(one) == expected and torch.equal(one.bboxes, other.bboxes)
    left, top, right, bottom = one.bboxes.T
    assert (left < right).all() and (top < bottom).all() and (left >= 0).all()
    # The head still ran; what it returned counts as an output.
    assert torch.equal(seen[0][0], feats[0] * 2)
    assert 'predict' not in vars(model.rpn_head)


def test_models_without_an_rpn_are_left_alone():
    with fixed_proposals(nn.Linear(2, 2), (3, 8, 8)) as seen:
        assert seen == []


def test_tensors_are_found_in_data_elements():
    from mmengine.structures import InstanceData

    one, two, three = torch.ones(1), torch.ones(2), torch.ones(2, 3)
    found = tensors_in([one, dict(a=(two, 'text', None)), [InstanceData(boxes=three)]])
    assert [x is y for x, y in zip(found, (one, two, three))] == [True] * 3
