"""The builder of models that learn from a dense teacher while they train."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from mmengine.registry import MODELS as MMENGINE_MODELS
from mmengine.runner import load_checkpoint
from torch import Tensor, nn

from ...errors import CompressionError
from ...evaluation.distillation import (
    distance_of,
    kind_of,
    mean_distance,
    outputs_watched,
)
from ...kinds import HEADS
from ...kinds import kind_of as models_kind
from ...registry import MODELS
from ...surgery.shadow import shadowed
from ..checkpoints import loading
from .architecture import overridden, with_preprocessor


@MODELS.register_module()
def Distilled(
    student: dict,
    teacher: dict,
    teacher_checkpoint: str,
    weight: float = 1.0,
    temperature: float = 4.0,
    heads: list[str] | None = None,
    data_preprocessor: dict | None = None,
    **overrides: Any,
) -> nn.Module:
    """Build a student whose training loss has a distillation term.

    The student is returned as it is, with the keys it always has: the teacher is
    not a part of it, and nothing changes outside ``mode='loss'``.

    The term compares what the prediction heads return, which compression never
    changes in shape. :mod:`mmcompress.evaluation.distillation` says how: a classifier
    by the KL divergence of its softened logits, a dense head of a detector by that of
    its scores and the distance of its boxes, anything else by the mean squared error
    over the teacher's variance. The mean of all heads and of all their calls is taken.

    Args:
        student (dict): Config of the model to train, e.g. ``Compressed``.
        teacher (dict): Config of the dense model.
        teacher_checkpoint (str): Its weights.
        weight (float): Factor of the term. Defaults to 1.
        temperature (float): Of the softened logits. Defaults to 4.
        heads (list[str] | None): Module paths whose outputs are compared. Defaults
            to those of ``head``, ``bbox_head`` and ``rpn_head`` that exist.
        data_preprocessor (dict | None): The one of the config's top level, which
            mmengine hands to every model.
        overrides (Any): Parts of the student that replace its own, see
            :func:`mmcompress.openmmlab.models.Compressed`.

    Returns:
        nn.Module: The student.

    Raises:
        CompressionError: No head to compare.
    """
    model = MMENGINE_MODELS.build(
        with_preprocessor(overridden(student, overrides), data_preprocessor))
    dense = MMENGINE_MODELS.build(with_preprocessor(teacher, data_preprocessor))
    with loading():
        load_checkpoint(dense, teacher_checkpoint, map_location='cpu', strict=True)
    paths = heads or models_kind(model).heads(model)
    if not paths:
        raise CompressionError(
            f'{type(model).__name__} has none of the heads {", ".join(HEADS)}; name '
            'the modules to compare in model.heads.')
    term = DistillationTerm(model, dense, paths, weight, temperature)
    plain = model.loss

    def loss(inputs: Tensor, data_samples: list, **kwargs) -> dict:
        with outputs_watched(model, paths) as outputs:
            losses = plain(inputs, data_samples, **kwargs)
        losses['loss_distill'] = term(outputs, inputs, data_samples)
        return losses

    model.loss = loss
    return model


class DistillationTerm:
    """Compares the head outputs of a student with those of its teacher.

    It keeps nothing of a batch: what the student returned is handed to it.

    Args:
        student, teacher (nn.Module): The models. The teacher is frozen.
        paths (list[str]): Modules whose outputs are compared.
        weight, temperature (float): See :func:`Distilled`.
    """

    def __init__(
        self, student: nn.Module, teacher: nn.Module, paths: Sequence[str],
        weight: float, temperature: float,
    ) -> None:
        self.teacher = teacher.eval().requires_grad_(False)
        self.weight = weight
        modules = {path: student.get_submodule(path) for path in paths}
        kinds = {path: kind_of(module, path) for path, module in modules.items()}
        self.distances = {
            path: distance_of(kinds[path], module, temperature)
            for path, module in modules.items()}
        self._dense_heads = [
            (module, teacher.get_submodule(path)) for path, module in modules.items()
            if kinds[path] == 'detection']

    def __call__(
        self, outputs: dict[str, list[Any]], inputs: Tensor, data_samples: list
    ) -> Tensor:
        """The weighted term.

        Args:
            outputs (dict[str, list[Any]]): By path, what the student's modules
                returned for the batch.
            inputs (Tensor): The batch, preprocessed.
            data_samples (list): Its samples.
        """
        self.teacher.to(inputs.device)
        # Some dense heads return other maps while they train (FCOS, VFNet, RepPoints).
        # Their layers, which have modes of their own, still evaluate.
        modes = ((theirs, dict(training=own.training))
                 for own, theirs in self._dense_heads)
        with (torch.no_grad(), shadowed(modes),
              outputs_watched(self.teacher, list(self.distances)) as target):
            self.teacher(inputs, data_samples, mode='tensor')
        return self.weight * mean_distance(self.distances, outputs, target)
