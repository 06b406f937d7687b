"""The builder of models that learn from a dense teacher while they train."""

from __future__ import annotations

import torch
from mmengine.registry import MODELS as MMENGINE_MODELS
from mmengine.runner import load_checkpoint
from torch import Tensor, nn
from torch.nn import functional as F

from ...arithmetic.labels import tensors_in
from ...errors import CompressionError
from ...registry import MODELS
from ..detectors.inputs import is_detector
from .compressed import with_preprocessor

HEADS = ('bbox_head', 'head', 'rpn_head')


@MODELS.register_module()
def Distilled(
    student: dict,
    teacher: dict,
    teacher_checkpoint: str,
    weight: float = 1.0,
    temperature: float = 4.0,
    heads: list[str] | None = None,
    data_preprocessor: dict | None = None,
) -> nn.Module:
    """Build a student whose training loss has a distillation term.

    The student is returned as it is, with the keys it always has: the teacher is
    not a part of it, and nothing changes outside ``mode='loss'``.

    The term compares what the prediction heads return, which compression never
    changes in shape. Classifiers: KL divergence of softened logits times the
    squared temperature (Hinton et al., 2015). Detectors: mean squared error over
    the teacher's variance, averaged over all head outputs.

    Args:
        student (dict): Config of the model to train, e.g. ``Compressed``.
        teacher (dict): Config of the dense model.
        teacher_checkpoint (str): Its weights.
        weight (float): Factor of the term. Defaults to 1.
        temperature (float): Of the softened logits. Defaults to 4.
        heads (list[str] | None): Module paths whose outputs are compared. Defaults
            to those of ``bbox_head``, ``head`` and ``rpn_head`` that exist.
        data_preprocessor (dict | None): The one of the config's top level, which
            mmengine hands to every model.

    Returns:
        nn.Module: The student.

    Raises:
        CompressionError: No head to compare.
    """
    model = MMENGINE_MODELS.build(with_preprocessor(student, data_preprocessor))
    dense = MMENGINE_MODELS.build(with_preprocessor(teacher, data_preprocessor))
    load_checkpoint(dense, teacher_checkpoint, map_location='cpu', strict=True)
    paths = heads or [
        h for h in HEADS if isinstance(getattr(model, h, None), nn.Module)]
    if not paths:
        raise CompressionError(
            f'{type(model).__name__} has none of the heads {", ".join(HEADS)}; name '
            'the modules to compare in model.heads.')
    term = DistillationTerm(model, dense, paths, weight, temperature)
    plain = model.loss

    def loss(inputs: Tensor, data_samples: list, **kwargs) -> dict:
        term.seen.clear()  # of forwards that were no training step
        losses = plain(inputs, data_samples, **kwargs)
        losses['loss_distill'] = term(inputs, data_samples)
        return losses

    model.loss = loss
    return model


class DistillationTerm:
    """Compares the head outputs of a student with those of its teacher.

    Args:
        student, teacher (nn.Module): The models. The teacher is frozen.
        paths (list[str]): Modules whose outputs are compared.
        weight, temperature (float): See :func:`Distilled`.
    """

    def __init__(
        self, student: nn.Module, teacher: nn.Module, paths: list[str],
        weight: float, temperature: float,
    ) -> None:
        self.teacher = teacher.eval().requires_grad_(False)
        self.weight, self.temperature = weight, temperature
        self.softened = not is_detector(student)
        self.seen: dict[str, list[Tensor]] = {}
        for path in paths:
            student.get_submodule(path).register_forward_hook(self._keep('student'))
            teacher.get_submodule(path).register_forward_hook(self._keep('teacher'))

    def _keep(self, who: str):
        def hook(module: nn.Module, args: tuple, output: object) -> None:
            if torch.is_grad_enabled() or who == 'teacher':
                self.seen.setdefault(who, []).extend(tensors_in(output))
        return hook

    def __call__(self, inputs: Tensor, data_samples: list) -> Tensor:
        """The weighted term for the batch that the student has just seen."""
        student = self.seen.pop('student')
        self.teacher.to(inputs.device)
        with torch.no_grad():
            self.teacher(inputs, data_samples, mode='tensor')
        target = self.seen.pop('teacher')
        assert len(student) == len(target), 'heads must return the same outputs'
        terms = [self._compare(s, t) for s, t in zip(student, target)]
        return self.weight * torch.stack(terms).mean()

    def _compare(self, student: Tensor, target: Tensor) -> Tensor:
        if self.softened:
            t = self.temperature
            return t * t * F.kl_div(
                F.log_softmax(student / t, -1), F.log_softmax(target / t, -1),
                reduction='batchmean', log_target=True)
        return F.mse_loss(student, target) / target.var().clamp_min(1e-6)
