"""Does a slim network learn, alone and from the dense one?"""

from __future__ import annotations

import copy
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import torch
from torch import nn

from mmcompress.data.images import Batch
from mmcompress.errors import CompressionError
from mmcompress.kinds import kind_of
from mmcompress.policy.files import PolicyFile
from mmcompress.registry import MODELS
from mmcompress.surgery.copies import copy_of

from .subject import Failed, NotApplicable, Subject

IMAGES = 2
"""Of a step: batch norms over maps of one place need two."""


def check_training(subject: Subject) -> str:
    """Make a training step of the slim network: finite, and gradients everywhere.

    Parameters that get no gradient in the dense network either are excused.
    """
    slim = subject.slim()
    loss, shape = step(slim, annotations_of(subject))
    parameters = dict(learning(slim))
    without = {name for name, p in parameters.items() if p.grad is None}
    wrong = [name for name, p in parameters.items()
             if p.grad is not None and not p.grad.isfinite().all()]
    if wrong:
        raise Failed(f'{len(wrong)} gradients are not finite, first {wrong[0]}')
    del slim, parameters
    lost, dense = without, copy_of(subject.model)
    if without:
        step(dense, [annotations_at(subject, shape)])
        lost = without - {name for name, p in learning(dense) if p.grad is None}
    if lost:
        raise Failed(f'{len(lost)} parameters get no gradient, first {min(lost)}')
    count = sum(1 for _ in learning(dense))
    return f'loss {loss:.3g}, {count - len(without)} gradients, {len(without)} excused'


def check_distill(subject: Subject) -> str:
    """Make a step in which the slim network learns from the dense one."""
    if not subject.kind.heads(subject.model):
        raise NotApplicable('none of the heads that are compared unless some are named')
    batches = annotations_of(subject)
    student, terms = distilled(subject), []
    plain = student.loss

    def loss(*args: Any, **kwargs: Any) -> dict[str, Any]:
        losses = plain(*args, **kwargs)
        terms.append(losses['loss_distill'].item())
        return losses

    student.loss = loss
    step(student, batches)
    return f'distillation term {terms[-1]:.3g}'


def distilled(subject: Subject) -> nn.Module:
    """The slim network with its dense teacher, as ``train.py --distill`` builds it."""
    graph, policy = subject.graph, subject.policy
    with tempfile.TemporaryDirectory() as folder:
        file, weights = Path(folder) / 'policy.json', Path(folder) / 'dense.pth'
        PolicyFile(policy, graph.fingerprint, graph.input_shape,
                   subject.mutator.channels(policy)).save(file)
        torch.save(dict(state_dict=subject.model.state_dict()), weights)
        architecture = copy.deepcopy(subject.architecture)
        student = MODELS.build(dict(
            type='mmcompress.Distilled', teacher=architecture,
            teacher_checkpoint=str(weights), student=dict(
                type='mmcompress.Compressed', architecture=architecture,
                policy=str(file))))
    student.load_state_dict(subject.slim().state_dict(), strict=False)
    return student


def annotations_of(subject: Subject) -> Iterator[Batch]:
    """Images with annotations at sizes to try."""
    return (annotations_at(subject, shape) for shape in subject.training_shapes)


def annotations_at(subject: Subject, shape: tuple[int, ...]) -> Batch:
    """Images with annotations of one size."""
    try:
        return subject.kind.annotated(subject.model, shape, IMAGES)
    except CompressionError as refusal:
        raise NotApplicable(str(refusal)) from refusal


def step(
    model: nn.Module, batches: Iterable[Batch]
) -> tuple[float, tuple[int, ...]]:
    """Compute loss and gradients on the first batch that the loss takes.

    Args:
        model (nn.Module): Put into training mode; gets gradients.
        batches (Iterable[Batch]): To try.

    Returns:
        tuple[float, tuple[int, ...]]: The loss, and the shape of the images.

    Raises:
        Failed: The loss is not finite.
    """
    torch.manual_seed(0)
    model.train()
    problems: list[Exception] = []
    for batch in batches:
        try:
            loss = kind_of(model).loss(model, batch)
        except Exception as error:  # any loss may fail in any way of its own
            problems.append(error)
            continue
        if not loss.isfinite():
            raise Failed(f'the loss is {loss.item()}')
        loss.backward()
        return loss.item(), tuple(batch.inputs.shape[1:])
    raise problems[0]


def learning(model: nn.Module) -> Iterator[tuple[str, nn.Parameter]]:
    """Parameters that are not frozen, with their names."""
    return ((n, p) for n, p in model.named_parameters() if p.requires_grad)
