"""How far the outputs of a subnet are from those of the full network."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils._pytree import tree_leaves

from ..errors import CompressionError

EPS = 1e-6


def normalised_mse(student: Tensor, target: Tensor) -> Tensor:
    """Mean squared error over the target's variance: 1 for its mean, 0 for itself."""
    student, target = student.float(), target.float()
    return F.mse_loss(student, target) / target.var().clamp_min(EPS)


def softened_kl(student: Tensor, target: Tensor, temperature: float = 4.0) -> Tensor:
    """KL divergence of softened logits times the squared temperature.

    `Distilling the Knowledge in a Neural Network
    <https://arxiv.org/abs/1503.02531>`_, section 2.

    Args:
        student, target (Tensor): Logits ``(N, classes)``.
        temperature (float): Divides the logits. Defaults to 4.
    """
    student, target = student.float() / temperature, target.float() / temperature
    return temperature ** 2 * F.kl_div(
        F.log_softmax(student, -1), F.log_softmax(target, -1),
        reduction='batchmean', log_target=True)


def detection_distance(
    student: Any, target: Any, classes: int, softmax: bool = False
) -> Tensor:
    """Distance between the outputs of two dense heads of a detector.

    Most places show background, where boxes mean nothing: the boxes of a place count
    by the target's highest score there, and all is divided by the sum of these.

    Args:
        student, target (Any): What the head returns: scores by level, boxes by level
            and perhaps further scores (objectness, centerness) by level; maps of
            shape ``(N, anchors * C, H, W)``.
        classes (int): Scores per box.
        softmax (bool): Scores are classes that exclude each other, the background
            last; otherwise every score is a probability of its own.

    Returns:
        Tensor: KL divergence of the scores per object that the target sees, plus
        the weighted L1 distance of the boxes over their mean absolute deviation.
    """
    anchors = [level.shape[1] // classes for level in tree_leaves(target[0])]

    def maps(levels: Any) -> list[Tensor]:
        return [level.float().unflatten(1, (a, -1))
                for a, level in zip(anchors, tree_leaves(levels), strict=True)]

    groups = [(maps(s), maps(t)) for s, t in zip(student, target, strict=True)]
    (scores, wanted), (boxes, true), *others = groups
    objects = [_foreground(t, softmax) for t in wanted]
    for _, confidence in others:
        objects = [o * c.sigmoid().amax(2, True) for o, c in zip(objects, confidence)]
    count = torch.stack([o.sum() for o in objects]).sum().clamp_min(1.0)
    distance = _divergence(scores, wanted, softmax)
    for given, confidence in others:
        distance = distance + _divergence(given, confidence, False)
    weights = torch.cat([o.expand_as(t).flatten() for o, t in zip(objects, true)])
    given = torch.cat([b.flatten() for b in boxes])
    true = torch.cat([t.flatten() for t in true])
    total = weights.sum().clamp_min(EPS)
    centre = (weights * true).sum() / total
    spread = ((weights * (true - centre).abs()).sum() / total).clamp_min(EPS)
    return distance / count + (weights * (given - true).abs()).sum() / total / spread


def _foreground(scores: Tensor, softmax: bool) -> Tensor:
    """Highest probability of an object, ``(N, A, 1, H, W)``."""
    if softmax:
        return scores.softmax(2)[:, :, :-1].amax(2, True)
    return scores.sigmoid().amax(2, True)


def _divergence(
    student: Sequence[Tensor], target: Sequence[Tensor], softmax: bool
) -> Tensor:
    """KL divergence of the scores, summed over images, levels, places and classes."""
    if softmax:
        return sum(
            F.kl_div(s.log_softmax(2), t.log_softmax(2), reduction='sum',
                     log_target=True) for s, t in zip(student, target, strict=True))
    return sum(
        F.binary_cross_entropy_with_logits(s, t.sigmoid(), reduction='sum')
        - F.binary_cross_entropy_with_logits(t, t.sigmoid(), reduction='sum')
        for s, t in zip(student, target, strict=True))


Distance = Callable[[Any, Any], Tensor]
"""From what a module returned and what it should to a number, 0 where equal."""

KINDS = ('features', 'logits', 'detection')


def kind_of(module: nn.Module, path: str) -> str:
    """How the outputs of a module are compared, unless the user says it.

    ``'detection'`` for a dense head of mmdet, ``'logits'`` for what a classifier
    calls ``head``, ``'features'`` otherwise.
    """
    if hasattr(module, 'cls_out_channels') and hasattr(module, 'prior_generator'):
        return 'detection'
    return 'logits' if path == 'head' else 'features'


def distance_of(kind: str, module: nn.Module, temperature: float) -> Distance:
    """The function that compares the outputs of a module.

    Args:
        kind (str): One of :data:`KINDS`.
        module (nn.Module): The module.
        temperature (float): Of softened logits.

    Raises:
        CompressionError: Unknown kind.
    """
    if kind == 'detection':
        classes = module.cls_out_channels
        softmax = not getattr(module, 'use_sigmoid_cls', True)
        return lambda student, target: detection_distance(
            student, target, classes, softmax)
    if kind not in KINDS:
        raise CompressionError(
            f'Unknown loss {kind!r} of a stage; choose one of {", ".join(KINDS)}.')
    one = normalised_mse if kind == 'features' else (
        lambda student, target: softened_kl(student, target, temperature))

    def mean(student: Any, target: Any) -> Tensor:
        pairs = zip(tree_leaves(student), tree_leaves(target), strict=True)
        return torch.stack([one(s, t) for s, t in pairs]).mean()

    return mean
