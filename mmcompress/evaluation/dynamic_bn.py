"""Dynamic BN: batch-norm statistics that belong to the compressed network.

Unified two-stage framework (Pattern Recognition 140, 2023), stage 1. Compression
shifts the statistics of every activation, so accuracy with the stored ones says
little about a policy.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from ..errors import CompressionError, DataError
from .images import Batch, forward_raw

MODES = ('off', 'recalibrate', 'batch')


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
            ``'batch'``: each evaluated batch's own statistics; ``'off'``: the
            stored ones.
        batches (Sequence[Batch]): Calibration images.

    Raises:
        CompressionError: Unknown mode.
        DataError: ``'recalibrate'`` without batches.
    """
    if mode not in MODES:
        raise CompressionError(
            f'Unknown dynamic_bn {mode!r}; choose one of {", ".join(MODES)}.')
    norms = [m for m in model.modules()
             if isinstance(m, _BatchNorm) and m.running_mean is not None]
    if mode == 'off' or not norms:
        yield
        return
    saved = [_state(norm) for norm in norms]
    try:
        if mode == 'recalibrate':
            recalibrate(model, batches, norms)
        else:
            for norm in norms:
                norm.train()
        yield
    finally:
        for norm, state in zip(norms, saved):
            _restore(norm, state)


def recalibrate(
    model: nn.Module, batches: Sequence[Batch], norms: Sequence[nn.Module] | None = None
) -> None:
    """Replace the running statistics by those of ``batches``, for good.

    Args:
        model (nn.Module): The model; everything but its batch norms stays in the
            mode it is in.
        batches (Sequence[Batch]): Calibration images.
        norms (Sequence[nn.Module] | None): Norms to recalibrate. Defaults to all.
    """
    if not batches:
        raise DataError(
            "dynamic_bn='recalibrate' needs calibration images; set "
            'calibration_images of the evaluator above 0.')
    if norms is None:
        norms = [m for m in model.modules()
                 if isinstance(m, _BatchNorm) and m.running_mean is not None]
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # cumulative average
        norm.train()
    with torch.no_grad():
        for batch in batches:
            forward_raw(model, batch)
    for norm, momentum in zip(norms, momenta):
        norm.momentum = momentum
        norm.eval()


def _state(norm: nn.Module) -> tuple:
    return (norm.running_mean.clone(), norm.running_var.clone(),
            norm.num_batches_tracked.clone(), norm.momentum, norm.training)


def _restore(norm: nn.Module, state: tuple) -> None:
    mean, var, tracked, norm.momentum, norm.training = state
    norm.running_mean.copy_(mean)
    norm.running_var.copy_(var)
    norm.num_batches_tracked.copy_(tracked)
