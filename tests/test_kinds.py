"""What models are, and how they run on one image."""

import copy

import pytest
import torch
from mmengine.model import BaseModel
from mmengine.registry import init_default_scope
from mmpretrain.models import ImageClassifier
from torch import nn

from mmcompress.arithmetic.labels import tensors_in
from mmcompress.data.images import Batch
from mmcompress.errors import CompressionError
from mmcompress.kinds import ModelKind, declare_kind, kind_of
from mmcompress.openmmlab.detectors.inputs import is_detector
from mmcompress.surgery.copies import copy_of


def forward(model, shape, **options):
    """Raw outputs for a random image."""
    kind = kind_of(model)
    return kind.raw(model, kind.example(model, shape, **options))


def test_plain_modules_get_the_image_alone():
    model = nn.Conv2d(3, 2, 1).double()
    one, other = forward(model, (3, 4, 5)), forward(model, (3, 4, 5), seed=1)
    assert one.shape == (1, 2, 4, 5) and one.dtype == torch.float64
    assert torch.equal(one, forward(model, (3, 4, 5)))
    assert not torch.equal(one, other)


def test_classifiers_return_logits():
    init_default_scope('mmpretrain')
    model = ImageClassifier(
        backbone=dict(type='mmcompress.CifarResNet', depth=8, widths=(2, 2, 2)),
        neck=dict(type='GlobalAveragePooling'),
        head=dict(type='LinearClsHead', num_classes=5, in_channels=2)).eval()
    assert not is_detector(model)
    assert forward(model, (3, 8, 8)).shape == (1, 5)


def test_tensors_are_found_in_data_elements():
    from mmengine.structures import InstanceData

    one, two, three = torch.ones(1), torch.ones(2), torch.ones(2, 3)
    found = tensors_in([one, dict(a=(two, 'text', None)), [InstanceData(boxes=three)]])
    assert [x is y for x, y in zip(found, (one, two, three))] == [True] * 3


def test_raw_outputs():
    class Model(BaseModel):
        def forward(self, inputs, mode):
            return mode, inputs

    inputs = torch.ones(1)
    assert kind_of(Model()).raw(Model(), Batch(inputs, [])) == ('tensor', inputs)


def test_a_plain_module_has_no_loss_and_no_boxes():
    model = nn.Conv2d(3, 2, 1)
    kind = kind_of(model)
    with pytest.raises(CompressionError, match='Conv2d has no loss of its own'):
        kind.loss(model, Batch(torch.zeros(1, 3, 4, 4), []))
    assert not kind.can_decode(model) and kind.heads(model) == ()
    with pytest.raises(CompressionError, match='Boxes of Conv2d cannot be baked'):
        kind.check_boxes(model)


def test_a_declared_kind_goes_with_copies_and_leaves_no_trace():
    class Twice(ModelKind):
        def raw(self, model, batch):
            return 2 * model(batch.inputs)

    model, other = nn.Conv2d(3, 2, 1), nn.Conv2d(3, 2, 1)
    attributes = set(vars(model))
    declare_kind(model, Twice())
    copied = copy_of(model)
    assert isinstance(kind_of(model), Twice) and isinstance(kind_of(copied), Twice)
    assert type(kind_of(other)) is ModelKind and set(vars(model)) == attributes
    # Nothing but the function knows: Python's own copy is a plain module again.
    assert type(kind_of(copy.deepcopy(model))) is ModelKind
