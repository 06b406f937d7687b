"""Distances between what subnets and the full network return."""

from types import SimpleNamespace

import pytest
import torch

from mmcompress.errors import CompressionError
from mmcompress.evaluation.distillation import (
    detection_distance,
    distance_of,
    kind_of,
    normalised_mse,
    softened_kl,
)


def test_normalised_mse():
    target = torch.tensor([0.0, 2.0])  # mean 1, variance 2
    assert normalised_mse(target, target) == 0
    # Errors 1 and 1: mean square 1, over 2.
    assert normalised_mse(torch.ones(2), target) == 0.5
    # What does not vary has no unit to measure in.
    assert normalised_mse(torch.ones(1), torch.zeros(1)) == 0
    assert normalised_mse(torch.ones(3), torch.full((3,), 7.1)) == 0


def test_softened_kl():
    target = torch.log(torch.tensor([[0.75, 0.25]])) * 2
    student = torch.zeros(1, 2)
    # At temperature 2 the target is (.75, .25), the student (.5, .5):
    # .75 log 1.5 + .25 log .5 = .13081, times 2^2.
    assert softened_kl(student, target, 2.0).item() == pytest.approx(0.5232, abs=1e-4)
    assert softened_kl(target, target).item() == pytest.approx(0, abs=1e-7)


def head(scores, boxes, *others):
    """One level of one place with two classes."""
    return tuple([torch.tensor(x).view(1, -1, 1, 1)] for x in (scores, boxes, *others))


def test_detection_by_hand():
    target = head([0.0, 0.0], [1.0, 2.0, 3.0, 6.0])
    # Scores .5: the place counts .5; fewer objects than 1 count as 1. Boxes have mean 3
    # and mean absolute deviation (2 + 1 + 0 + 3) / 4 = 1.5, errors of 1 each: 1 / 1.5.
    off = head([0.0, 0.0], [2.0, 3.0, 4.0, 7.0])
    assert detection_distance(off, target, 2).item() == pytest.approx(1 / 1.5)
    # log 3 is a probability of .75: KL(.5 || .75) = .5 log(2/3) + .5 log 2 = .14384.
    sure = head([1.0986123, 0.0], [1.0, 2.0, 3.0, 6.0])
    distance = detection_distance(sure, target, 2).item()
    assert distance == pytest.approx(0.14384, abs=1e-4)
    assert detection_distance(target, target, 2).item() == pytest.approx(0, abs=1e-6)


def test_background_boxes_do_not_count():
    target = tuple([torch.cat([a, b], -1)] for (a,), (b,) in zip(
        head([9.0], [1.0, 2.0, 3.0, 4.0], [9.0]), head([-20.0], [0.0] * 4, [9.0])))
    off = tuple([t.clone() for t in level] for level in target)
    off[1][0][..., 1] += 100
    assert detection_distance(off, target, 1) < 1e-4
    # Nor where objectness is low.
    target[2][0].fill_(-20)
    off[1][0][..., 0] += 100
    confident = detection_distance(off, (target[0], target[1], [target[2][0] + 40]), 1)
    assert detection_distance(off, off, 1) == pytest.approx(0, abs=1e-6)
    assert confident > 1


def test_exclusive_classes_and_several_anchors():
    torch.manual_seed(0)
    target = [torch.randn(2, 2 * 3, 4, 4)], [torch.randn(2, 2 * 4, 4, 4)]
    other = [torch.randn(2, 2 * 3, 4, 4)], [torch.randn(2, 2 * 4, 4, 4)]
    for softmax in (False, True):
        assert detection_distance(other, target, 3, softmax) > 0
        same = detection_distance(target, target, 3, softmax)
        assert same.item() == pytest.approx(0, abs=1e-5)


def test_boxes_without_a_unit():
    """All clamped to 0, as random weights do; overflown exponentials."""
    target = head([9.0], [0.0] * 4)
    off = head([9.0], [1.0] * 4)
    assert detection_distance(off, target, 1) == 0
    inf = float('inf')
    target = head([9.0], [1.0, 2.0, 3e38, 3e38])
    assert detection_distance(off, target, 1).isfinite()
    # Deviations 1, 0 and 1 of mean 2, an error of 1: mean 1/3 over 2/3.
    target = head([9.0], [1.0, 2.0, 3.0, inf])
    off = head([9.0], [1.0, 2.0, 4.0, 5.0])
    assert detection_distance(off, target, 1).item() == pytest.approx(0.5)


def test_maps_that_are_no_scores():
    """Refined boxes (VFNet, RepPoints) weigh as boxes do, masks are features."""
    target = head([0.0], [1.0, 2.0, 3.0, 6.0], [1.0, 2.0, 3.0, 6.0])
    off = head([0.0], [1.0, 2.0, 3.0, 6.0], [2.0, 3.0, 4.0, 7.0])
    assert detection_distance(off, target, 1).item() == pytest.approx(1 / 1.5)
    levels = [torch.zeros(1, 1, 2, 2), torch.zeros(1, 1, 1, 1)]
    boxes = [torch.rand(1, 4, 2, 2), torch.rand(1, 4, 1, 1)]
    found = detection_distance(
        (levels, boxes, torch.ones(1, 2, 1, 1)),
        (levels, boxes, torch.tensor([0.0, 2.0]).view(1, 2, 1, 1)), 1)
    assert found.item() == pytest.approx(0.5)


def test_what_is_compared_how():
    dense_head = SimpleNamespace(cls_out_channels=2, prior_generator=None)
    assert kind_of(dense_head, 'bbox_head') == 'detection'
    assert kind_of(torch.nn.Linear(2, 2), 'head') == 'logits'
    assert kind_of(torch.nn.Linear(2, 2), 'head.fc') == 'logits'
    assert kind_of(torch.nn.Linear(2, 2), 'header') == 'features'
    assert kind_of(torch.nn.Linear(2, 2), 'backbone.layer1') == 'features'
    features = distance_of('features', None, 4.0)
    pair = (torch.zeros(2), [torch.tensor([0.0, 2.0])])
    assert features(pair, (torch.tensor([0.0, 2.0]), [torch.tensor([0.0, 2.0])])) == 0.5
    with pytest.raises(CompressionError, match='Unknown loss'):
        distance_of('l7', None, 4.0)
