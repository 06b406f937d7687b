"""Dynamic BN: batch-norm statistics that belong to the compressed network.

Unified two-stage framework (Pattern Recognition 140, 2023), stage 1. Compression
shifts the statistics of every activation, so accuracy with the stored ones says
little about a policy.

Fresh statistics are those of a few images, perhaps without the augmentation of
training, and differ from those of the training set even if nothing is compressed. The
paired ones are ours: the dense network sees the same images (:func:`pair`), and what
differs in it is taken off. So an uncompressed network keeps its stored statistics.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import nn

from ..data.images import Batch
from ..errors import CompressionError, DataError
from ..kinds import kind_of
from ..layers.norm import batch_norms

MODES = ('off', 'recalibrate', 'paired', 'batch')

FRESH = ('recalibrate', 'paired')
"""The modes that find statistics for good."""


@contextmanager
def dynamic_bn(
    model: nn.Module, mode: str, batches: Sequence[Batch] = ()
) -> Iterator[None]:
    """Use fresh batch-norm statistics within a ``with`` block.

    Statistics, momenta and flags are restored exactly, also of norms that the model
    keeps frozen (``norm_eval``).

    Args:
        model (nn.Module): In evaluation mode.
        mode (str): ``'recalibrate'``: cumulative averages over ``batches``;
            ``'paired'``: these, less what sets ``batches`` apart; ``'batch'``: each
            evaluated batch's own statistics; ``'off'``: the stored ones.
        batches (Sequence[Batch]): Calibration images; for ``'paired'`` those of
            :func:`pair`.

    Raises:
        CompressionError: Unknown mode.
        DataError: ``'recalibrate'`` or ``'paired'`` without batches.
    """
    if mode not in MODES:
        raise CompressionError(
            f'Unknown dynamic_bn {mode!r}; choose one of {", ".join(MODES)}.')
    with _restoring(model) as norms:
        if mode in FRESH:
            recalibrate(model, batches, paired=mode == 'paired')
        elif mode == 'batch':
            for norm in norms:
                norm.train()
        yield


def pair(model: nn.Module, batches: Sequence[Batch]) -> None:
    """Remember how ``batches`` differ from what the stored statistics were made of.

    Every norm gets two buffers, which are sliced as its statistics are and are not part
    of its state dict: ``calibration_shift``, stored mean less that of the batches, and
    ``calibration_ratio``, the same of the variances, each plus the norm's ``eps``.

    Args:
        model (nn.Module): The dense model, in evaluation mode; does not change.
        batches (Sequence[Batch]): Calibration images.
    """
    with _restoring(model) as norms:
        stored = [(n.running_mean.clone(), n.running_var.clone()) for n in norms]
        recalibrate(model, batches)
        for norm, (mean, var) in zip(norms, stored):
            for name, value in (
                    ('calibration_shift', mean - norm.running_mean),
                    ('calibration_ratio',
                     (var + norm.eps) / (norm.running_var + norm.eps))):
                norm.register_buffer(name, value, persistent=False)


def recalibrate(
    model: nn.Module, batches: Sequence[Batch], paired: bool = False
) -> None:
    """Replace the running statistics by those of ``batches``, for good.

    Args:
        model (nn.Module): The model; everything but its batch norms stays in the
            mode it is in.
        batches (Sequence[Batch]): Calibration images.
        paired (bool): Take off what sets the batches apart; the model, or the dense one
            that it was made of, has been through :func:`pair`. Defaults to False.
    """
    norms = batch_norms(model)
    if norms and not batches:
        raise DataError(
            'Batch norms are recalibrated on calibration images; set '
            "calibration_images of the evaluator above 0, or dynamic_bn='off'.")
    if paired and not all(hasattr(norm, 'calibration_shift') for norm in norms):
        raise CompressionError(
            "dynamic_bn='paired' needs statistics of the dense network; set it in the "
            'evaluator as well.')
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # cumulative average
        norm.train()
    with torch.no_grad():
        for batch in batches:
            kind_of(model).raw(model, batch)
    for norm, momentum in zip(norms, momenta):
        norm.momentum = momentum
        norm.eval()
        if paired:
            norm.running_mean.add_(norm.calibration_shift)
            norm.running_var.add_(norm.eps).mul_(norm.calibration_ratio).sub_(norm.eps)


@contextmanager
def _restoring(model: nn.Module) -> Iterator[list[nn.Module]]:
    """Batch norms that have their statistics back after the block."""
    norms = batch_norms(model)
    saved = [_state(norm) for norm in norms]
    try:
        yield norms
    finally:
        for norm, state in zip(norms, saved):
            _restore(norm, state)


def _state(norm: nn.Module) -> tuple:
    return (norm.running_mean.clone(), norm.running_var.clone(),
            norm.num_batches_tracked.clone(), norm.momentum, norm.training)


def _restore(norm: nn.Module, state: tuple) -> None:
    mean, var, tracked, norm.momentum, norm.training = state
    norm.running_mean.copy_(mean)
    norm.running_var.copy_(var)
    norm.num_batches_tracked.copy_(tracked)
