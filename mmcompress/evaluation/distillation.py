"""How outputs of a network are compared with those of its teacher.

One place says it for fine-tuning with a dense teacher
(``openmmlab/models/distilled.py``) and for supernets, whose subnets learn from the
full network (``supernet/``): which distance suits the outputs of a module, and how the
calls of one forward pass are paired with those of the other. Which modules are heads
is said by :mod:`mmcompress.kinds`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils._pytree import tree_leaves

from ..errors import CompressionError
from ..graph.boundaries import Passed, calls_watched, tensors_of

EPS = 1e-6

KINDS = ('features', 'logits', 'detection')

Distance = Callable[[Any, Any], Tensor]
"""From what a module returned and what it should to a number, 0 where equal."""


def kind_of(module: nn.Module, path: str) -> str:
    """How the outputs of a module are compared, unless the user says it.

    ``'detection'`` for a dense head of mmdet, ``'logits'`` for what a classifier
    calls ``head`` and for the parts of it, ``'features'`` otherwise.
    """
    if hasattr(module, 'cls_out_channels') and hasattr(module, 'prior_generator'):
        return 'detection'
    return 'logits' if path.partition('.')[0] == 'head' else 'features'


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
        pairs = zip(tensors_of(student), tensors_of(target), strict=True)
        return torch.stack([one(s, t) for s, t in pairs]).mean()

    return mean


@contextmanager
def outputs_watched(
    model: nn.Module, paths: Sequence[str]
) -> Iterator[dict[str, list[Any]]]:
    """Collect what some modules return within the block.

    Nothing outlives the block, and every call is kept: a detector may call its head
    several times in one forward pass.

    Args:
        model (nn.Module): The model.
        paths (Sequence[str]): Dotted paths of the modules.

    Yields:
        dict[str, list[Any]]: By path, the outputs in the order of the calls.
    """
    outputs: dict[str, list[Any]] = {path: [] for path in paths}

    def seen(call: Passed) -> None:
        outputs[call.path].append(call.result)

    with calls_watched(model, paths, seen):
        yield outputs


def mean_distance(
    distances: Mapping[str, Distance], student: Mapping[str, Sequence[Any]],
    target: Mapping[str, Sequence[Any]],
) -> Tensor:
    """Mean distance over all calls of some modules.

    Args:
        distances (Mapping[str, Distance]): By path of the module.
        student, target (Mapping): By path, what every call returned.

    Raises:
        CompressionError: The modules were not called, not equally often, or returned
            tensors of other shapes.
    """
    terms = []
    for path, distance in distances.items():
        shapes = [[[tuple(tensor.shape) for tensor in tensors_of(result)]
                   for result in calls[path]] for calls in (student, target)]
        if not shapes[0] or shapes[0] != shapes[1]:
            raise CompressionError(
                f'The outputs of {path!r} cannot be compared: in training it returns '
                f'{_described(shapes[0])}, the teacher {_described(shapes[1])}. Name '
                'modules whose outputs have the same shapes.')
        terms += map(distance, student[path], target[path])
    return torch.stack(terms).mean()


def _described(calls: Sequence[Sequence[tuple[int, ...]]]) -> str:
    shapes = [shape for call in calls for shape in call]
    return f'{len(calls)} time(s) tensors of shapes {shapes}' if calls else 'nothing'


def normalised_mse(student: Tensor, target: Tensor) -> Tensor:
    """Mean squared error over the target's variance: 1 for its mean, 0 for itself.

    A target that does not vary, such as a single number, gives no unit to measure in:
    its distance is 0.
    """
    student, target = student.float(), target.float()
    variance = target.var(correction=min(1, target.numel() - 1))
    varies = variance > (EPS * target.abs().max()) ** 2
    return F.mse_loss(student, target) / variance.clamp_min(EPS) * varies


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
            and perhaps more by level, maps of shape ``(N, anchors * C, H, W)``. Of
            these, those with one channel per anchor are further scores (objectness,
            centerness), others are compared as the boxes are (refined boxes).
            What is not by level is compared as features (masks).
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

    pairs = list(zip(student, target, strict=True))
    by_level = [len(tree_leaves(t)) == len(anchors) for _, t in pairs]
    (scores, wanted), *others = [
        (maps(s), maps(t)) for (s, t), leveled in zip(pairs, by_level) if leveled]
    confidences = [pair for pair in others if pair[1][0].shape[2] == 1]
    regressed = [pair for pair in others if pair[1][0].shape[2] > 1]
    objects = [_foreground(t, softmax) for t in wanted]
    for _, confidence in confidences:
        objects = [o * c.sigmoid().amax(2, True) for o, c in zip(objects, confidence)]
    count = torch.stack([o.sum() for o in objects]).sum().clamp_min(1.0)
    distance = _divergence(scores, wanted, softmax)
    for given, confidence in confidences:
        distance = distance + _divergence(given, confidence, False)
    rest = [normalised_mse(*leaves) for (s, t), leveled in zip(pairs, by_level)
            if not leveled for leaves in zip(tree_leaves(s), tree_leaves(t))]
    return distance / count + sum(rest) + sum(
        _box_distance(given, true, objects) for given, true in regressed)


def _box_distance(
    given: Sequence[Tensor], true: Sequence[Tensor], objects: Sequence[Tensor]
) -> Tensor:
    """Weighted L1 distance over the target's weighted mean absolute deviation.

    0 where the target's boxes do not vary, which gives no unit to measure in.
    """
    weights = torch.cat([o.expand_as(t).flatten() for o, t in zip(objects, true)])
    given = torch.cat([b.flatten() for b in given])
    true = torch.cat([t.flatten() for t in true])
    # Boxes that are exponentials overflow where weights are random, and their sums do.
    finite = true.isfinite()
    weights, given, true = (
        torch.where(finite, x, torch.zeros_like(x)) for x in (weights, given, true))
    largest = true.abs().max()
    scale = torch.where(largest > 1e6, largest, torch.ones_like(largest))
    given, true = given / scale, true / scale
    total = weights.sum().clamp_min(EPS)
    centre = (weights * true).sum() / total
    spread = (weights * (true - centre).abs()).sum() / total
    distance = (weights * (given - true).abs()).sum() / total
    varies = spread > EPS * true.abs().max()
    return distance / spread.clamp_min(EPS) * varies


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
